"""Predicted masks over an image, with a legend below."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tlunet.data.colours import class_colour
from tlunet.data.drawing import FILL, draw, enlarged, enlarged_image, zoom
from tlunet.errors import ConfigError
from tlunet.machine.fonts import legend

STYLES = ("tint", "outline")
LINE, GAP = 18, 6  # pixels: height of a legend line, gap between its entries


def check_style(style: str | None) -> None:
    """Raise ConfigError unless the style is ``None`` or one of :data:`STYLES`."""
    if style is not None and style not in STYLES:
        raise ConfigError(f"--overlay {style}: expected {' or '.join(STYLES)}")


def overlay(
    image: NDArray[np.uint8], masks: NDArray[np.bool_], style: str = "tint"
) -> NDArray[np.uint8]:
    """Draw masks over an image in their class colours; a small image is enlarged.

    Args:
        image: (H, W) or (H, W, 3).
        masks: (M, H, W).
        style: ``tint`` (the steel shows through) or ``outline`` (the inside stays unchanged).

    Returns:
        (k·H, k·W, 3), k from :func:`tlunet.data.drawing.zoom`.
    """
    times = zoom(max(image.shape[:2]))  # the longer side: a tall strip is not small
    fill = FILL if style == "tint" else 0
    return draw(enlarged_image(image, times), enlarged(masks, times), fill=fill)


def picture(
    image: NDArray[np.uint8],
    masks: NDArray[np.bool_],
    classes: Sequence[str],
    probabilities: NDArray[np.floating],
    style: str = "tint",
) -> Image.Image:
    """Draw an overlay with a legend: colour, name, probability and area of each class.

    Args:
        image: (H, W) or (H, W, 3).
        masks: (M, H, W).
        classes: M names.
        probabilities: (M,) of the labels.
        style: as in :func:`overlay`.
    """
    font, names = legend(tuple(classes), 12)
    shares = masks.mean((1, 2))
    texts = [
        f": {probability:.0%}, {share:.2%} of the area"
        for probability, share in zip(probabilities, shares, strict=True)
    ]
    drawn = Image.fromarray(overlay(image, masks, style))
    # Name and numbers are drawn apart: a name in Arabic would turn around what follows it.
    named = [font.getlength(name) for name in names]
    widths = [
        LINE + own + font.getlength(text) + GAP for own, text in zip(named, texts, strict=True)
    ]
    width = max(drawn.width, int(max(widths)) + GAP)  # a small image must not truncate its legend
    places = _flow(widths, width)
    height = (places[-1][0] + 1) * LINE + GAP
    canvas = Image.new("RGB", (width, drawn.height + height), "white")
    canvas.paste(drawn)
    pen = ImageDraw.Draw(canvas)
    for m, (row, x) in enumerate(places):
        top = drawn.height + GAP + row * LINE
        pen.rectangle((x, top, x + 10, top + 10), fill=class_colour(m))
        start = x + LINE - 2
        pen.text((start, top - 2), names[m], fill="black", font=font)
        pen.text((start + named[m], top - 2), texts[m], fill="black", font=font)
    return canvas


def _flow(widths: Sequence[float], width: int) -> list[tuple[int, float]]:
    """Return (row, x) of entries laid out in lines with wrapping.

    >>> _flow([40, 40, 40], 100)
    [(0, 6), (0, 52), (1, 6)]
    """
    places: list[tuple[int, float]] = []
    row, x = 0, float(GAP)
    for part in widths:
        if x > GAP and x + part > width:
            row, x = row + 1, GAP
        places.append((row, int(x)))
        x += part + GAP
    return places
