"""Fallback fonts of the figures: names in any script are drawn, or replaced by numbers."""

import logging
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

from tlunet.machine import fonts

#: Of :data:`tlunet.report.figures.style.STYLE`: a glyph is taken from the first font that has it.
FAMILIES = ["DejaVu Sans"]
DEFAULT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
UNKNOWN = "?"
_has_font: dict[str, bool] = {}  # character → whether a font in FAMILIES has it


def drawable(names: Sequence[str]) -> list[str]:
    """Return class names that can be drawn; a name that no font can draw becomes its number."""
    lacking = tuple(name for name in names if ensure(name) != name)
    if lacking:
        fonts.tell_missing(lacking)
    return fonts.numbered(tuple(names), lacking)


def ensure(text: str) -> str:
    """Add fonts that have the glyphs of a text; characters that no font has become "?"."""
    if text.isascii():
        return text
    new = "".join(sorted({c for c in text if c not in _has_font and not c.isspace()}))
    for character in new:
        _has_font[character] = fonts.has_glyphs(DEFAULT, character)
    lacking = "".join(c for c in new if not _has_font[c])
    if lacking and (file := fonts.find(lacking)):  # one font for all of them looks best
        _add(file, lacking)
    else:
        for character in lacking:
            if file := fonts.find(character):
                _add(file, character)
    return "".join(c if _has_font.get(c, True) else UNKNOWN for c in text)


def _add(file: Path, characters: str) -> None:
    # A fallback font without a bold face is drawn in its regular one, which needs no warning.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    font_manager.fontManager.addfont(file)
    family = font_manager.FontProperties(fname=file).get_name()
    is_inside = matplotlib.rcParams["font.family"] == FAMILIES  # of the project's style
    if family not in FAMILIES:
        FAMILIES.append(family)
    if is_inside:
        matplotlib.rcParams["font.family"] = FAMILIES
    _has_font.update(dict.fromkeys(characters, True))


def settle(figure: Figure) -> None:
    """Make every text of a figure drawable, before its layout is computed."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        known = text.get_text()
        if not known.isascii():
            text.set_text(ensure(known))
            text.set_fontfamily(FAMILIES)
