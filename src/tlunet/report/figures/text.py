"""Text in figures: its width, and where it wraps."""

import re

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from tlunet.report.figures.fonts import ensure

FONT_SIZE = 8.0  # points
PIECES = re.compile(r"[^-_/=]*[-_/=]|[^-_/=]+")  # of a word, which may wrap between them


def text_width(text: str, size: float = FONT_SIZE, weight: str = "normal") -> float:
    """Measure the width in inches of the longest line in the style's font.

    Args:
        text: one or more lines.
        size: font size in points.
        weight: font weight, normal or bold.
    """
    text = ensure(text)
    font = FontProperties(size=size, weight=weight)
    lines = (text_to_path.get_text_width_height_descent(t, font, False) for t in text.split("\n"))
    return 1.03 * max(width for width, *_ in lines) / 72  # 3% for hinting on low-resolution screens


def wrap(text: str, width: float, size: float = FONT_SIZE, weight: str = "normal") -> str:
    """Wrap a text into lines of at most `width` inches.

    Wraps at " · " if there is one, else at a space, else after one of `-_/=`, else anywhere.

    >>> print(wrap("timm-tf_efficientnet_lite0 · ImageNet · 50%", 1.2))
    timm-tf_efficientnet_
    lite0
    ImageNet · 50%
    """
    parts = text.split("\n")
    return "\n".join(line for part in parts for line in _wrapped(part, width, size, weight))


def _wrapped(text: str, width: float, size: float, weight: str) -> list[str]:
    if text_width(text, size, weight) <= width or len(text) < 2:
        return [text]
    separator, parts = _parts(text)
    lines = [parts[0]]
    for part in parts[1:]:
        longer = lines[-1] + separator + part
        if text_width(longer, size, weight) <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return [one for line in lines for one in _wrapped(line, width, size, weight)]


def _parts(text: str) -> tuple[str, list[str]]:
    """Split a text at its best breaks; return the separator and the parts."""
    for separator in (" · ", " "):
        if separator in text:
            return separator, text.split(separator)
    parts = PIECES.findall(text)
    return "", parts if len(parts) > 1 else list(text)


def longest_piece(text: str, size: float = FONT_SIZE) -> float:
    """Measure the width in inches of the longest piece that `wrap` keeps whole if possible."""
    pieces = (piece for word in text.split() for piece in PIECES.findall(word))
    return max(text_width(piece, size) for piece in pieces)
