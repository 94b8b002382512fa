"""Font files that have the glyphs of a text; needs Pillow only."""

import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

FOLDERS = {
    "linux": ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts"),
    "darwin": ("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts"),
    "win32": ("C:/Windows/Fonts",),
}
SUFFIXES = (".ttf", ".ttc", ".otf", ".otc")
#: Parts of the names of common text fonts, tried first; "regular" before bold and italic.
FIRST = ("dejavusans.", "notosans", "sourcehansans", "wqy", "msyh", "pingfang", "simhei", "regular")
PLACEHOLDERS = "lastresort"  # a font of boxes, which has a glyph for everything
MISSING = "\uffff"  # not a character: drawn as the glyph of every missing one


@cache
def files() -> tuple[Path, ...]:
    """Return the font files of this machine, common text fonts first."""
    paths = sorted(_files(), key=lambda path: (_rank(path), str(path)))
    return tuple(dict.fromkeys(paths))


def _files() -> Iterator[Path]:
    roots = [Path(folder).expanduser() for folder in FOLDERS.get(sys.platform, ())]
    spec = find_spec("matplotlib")  # it has its own copy of DejaVu Sans
    if spec and spec.origin:
        roots.append(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf")
    for root in roots:
        yield from (
            path
            for path in root.rglob("*")
            if path.suffix.lower() in SUFFIXES and PLACEHOLDERS not in path.name.lower()
        )


def _rank(path: Path) -> int:
    name = path.name.lower()
    return next((k for k, part in enumerate(FIRST) if part in name), len(FIRST))


@cache
def has_glyphs(file: Path, text: str) -> bool:
    """Whether a font file can be read and has a glyph for each character of a text.

    >>> DEJAVU = next(path for path in files() if path.name == "DejaVuSans.ttf")
    >>> has_glyphs(DEJAVU, "Riß, трещина"), has_glyphs(DEJAVU, "钢板")
    (True, False)
    """
    try:
        font = ImageFont.truetype(str(file), 20)
        missing = _shape(font, MISSING)
        return all(_shape(font, c) not in (missing, ()) for c in {*text} if not c.isspace())
    except (OSError, ValueError):
        return False


def _shape(font: ImageFont.FreeTypeFont, character: str) -> tuple[object, ...]:
    mask = font.getmask(character)
    return (mask.size, bytes(mask)) if any(mask.size) else ()


@cache
def find(text: str) -> Path | None:
    """Return the first font file that has all glyphs of a text, or ``None``."""
    return next((file for file in files() if has_glyphs(file, text)), None)


def numbered(names: tuple[str, ...], lacking: tuple[str, ...]) -> list[str]:
    """Replace the names that cannot be drawn by their class numbers.

    >>> numbered(("rust", "钢板"), ("钢板",))
    ['rust', 'class 2']
    """
    return [f"class {m}" if n in lacking else n for m, n in enumerate(names, start=1)]


@cache
def tell_missing(lacking: tuple[str, ...]) -> None:
    """Say once that pictures show class numbers, and what to do."""
    from tlunet.machine.console import complain

    complain(
        f"no installed font has the characters of {', '.join(lacking)}: pictures show class "
        "numbers instead; install one, such as Noto Sans CJK (apt install fonts-noto-cjk)"
    )


def legend(names: tuple[str, ...], size: int) -> tuple[ImageFont.FreeTypeFont, list[str]]:
    """Choose a font that has all glyphs of some class names, for a picture drawn with Pillow.

    Args:
        names: of the classes 1…M.
        size: pixels.

    Returns:
        The font, and the names to draw with it: numbers for those that no font has.
    """
    default = ImageFont.load_default(size)
    assert isinstance(default, ImageFont.FreeTypeFont)
    missing = _shape(default, MISSING)
    text = "".join(sorted({*"".join(names)}))
    if all(_shape(default, c) not in (missing, ()) for c in text if not c.isspace()):
        return default, list(names)
    digits = "0123456789%,.: "
    lacking = tuple(name for name in names if find(name + digits) is None)
    if lacking:
        tell_missing(lacking)
    drawn = numbered(names, lacking)
    file = find("".join(sorted({*"".join(drawn), *digits})))
    if file is None:  # each name has a font, but not the same one
        return default, numbered(names, names)
    return ImageFont.truetype(str(file), size), drawn
