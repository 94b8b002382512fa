"""Render a report as one self-contained HTML file: no network, no other files, no storage.

The template is ``page.html``, its style ``page.css``, its scripts ``page.js`` and ``browser.js``;
all are embedded. Without JavaScript everything is readable except the image browser.
"""

import base64
import hashlib
import json
import re
from functools import partial
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from tlunet.data.colours import OUTCOME_COLOURS, OUTCOMES
from tlunet.report.document.document import Browser, Document, Part, Row, Tile

_METADATA = re.compile(r"<metadata>.*?</metadata>", re.S)
_REFERENCE = re.compile(r'(\sid="|href="#|url\(#)')
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def render(document: Document) -> str:
    """Render a report as HTML.

    Names may contain any text: it is escaped, and the content security policy of the page allows
    only this module's script and no loading. Drawings are trusted and embedded unchanged.

    Args:
        document: the report.

    Returns:
        The content of the file; the same text for the same document.

    Raises:
        ValueError: a row has more or fewer entries than columns, a drawing is not SVG, or a
            browser's images, pairs, classes and colours are inconsistent.
    """
    style, script = _read("page.css"), _read("page.js") + _read("browser.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .from_string(_read("page.html"))
        .render(document=document, style=Markup(style), script=Markup(script), script_digest=digest)
    )


def _environment() -> Environment:
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= {
        "kind": _kind,
        "key": _key,
        "inline": _inline,
        "data": _data,
        "colour": _colour,
        "jpeg": partial(_data_uri, kind="image/jpeg"),
        "png": partial(_data_uri, kind="image/png"),
        "wide": _is_wide,
        "small": _is_small,
    }
    environment.globals["zip"] = zip  # with strict=true, a short row is an error
    environment.globals |= {"outcomes": OUTCOMES, "outcome_colours": OUTCOME_COLOURS}
    return environment


def _read(name: str) -> str:
    return files("tlunet.report.document").joinpath(name).read_text(encoding="utf-8")


def _kind(part: Part) -> str:
    return type(part).__name__


def _key(value: float | str) -> str:
    """Encode a sort key: a JSON string, or a number that JavaScript's ``Number`` parses."""
    return json.dumps(value if isinstance(value, str) else float(value))


def _inline(svg: str, prefix: str) -> Markup:
    """Embed a drawing in the page.

    Every id gets the prefix: matplotlib drawings share ids, and a clip path in a closed section
    would hide the elements of an open section that refer to it.
    """
    start = svg.find("<svg")
    if start < 0:
        raise ValueError(f"no <svg> element in the drawing that begins with {svg[:40]!r}")
    drawing = _METADATA.sub("", svg[start:])
    return Markup(_REFERENCE.sub(rf"\g<1>{prefix}-", drawing))


def _data_uri(content: bytes, kind: str) -> str:
    """Encode a file as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _is_wide(tile: Tile) -> bool:
    """Return whether an image takes a whole row; as in ``browser.js``."""
    height, width = tile.size
    return width > 2 * height


def _is_small(row: Row) -> bool:
    """Return whether a row leaves room for another one next to it."""
    return len(row.tiles) <= 2 and not any(map(_is_wide, row.tiles))


def _colour(text: str) -> str:
    """Check a colour, which becomes part of an element's style."""
    if not _COLOUR.fullmatch(text):
        raise ValueError(f"colour {text!r}: expected #rrggbb")
    return text


def _data(browser: Browser) -> dict[str, Any]:
    """Collect a browser's data for Jinja's ``tojson``, which escapes <, >, & and '."""
    _check(browser)
    return {
        "pairs": browser.pairs,
        "colours": browser.colours,
        "outcomeColours": OUTCOME_COLOURS,
        "images": [
            {
                "id": image.image_id,
                "jpeg": _data_uri(image.jpeg, "image/jpeg"),
                "size": image.size,
                "shown": image.shown,
                "truth": image.truth,
                "predictions": image.predictions,
                "scores": image.scores,
            }
            for image in browser.images
        ],
    }


def _check(browser: Browser) -> None:
    if not browser.pairs:
        raise ValueError(f"{browser.title!r}: no pair of cells to choose")
    if len(browser.colours) != len(browser.classes):
        raise ValueError(f"{len(browser.colours)} colours for {len(browser.classes)} classes")
    for colour in browser.colours:
        _colour(colour)
    cells = {cell for _, *pair in browser.pairs for cell in pair}
    for image in browser.images:
        if missing := cells - (image.predictions.keys() & image.scores.keys()):
            raise ValueError(f"image {image.image_id!r}: no data for the cells {sorted(missing)}")
        for masks in (image.truth, *image.predictions.values()):
            if len(masks) != len(browser.classes):
                raise ValueError(
                    f"image {image.image_id!r}: {len(masks)} masks for "
                    f"{len(browser.classes)} classes"
                )
