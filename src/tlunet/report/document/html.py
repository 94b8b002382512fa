"""A report as one HTML file that needs nothing beside it: no network, no folder, no storage.

The template is ``page.html``, its style ``page.css`` and its script ``page.js``; all three go into
the file. Without the script everything is readable but the browser of test images.
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

from tlunet.report.document.document import Browser, Document, Part, Row, Tile

_METADATA = re.compile(r"<metadata>.*?</metadata>", re.S)
_REFERENCE = re.compile(r'(\sid="|href="#|url\(#)')
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def render(document: Document) -> str:
    """Write a report as HTML.

    Names may hold any text: all of it is escaped, and the page's own policy lets a reader's browser
    run this module's script alone and load nothing. Drawings are trusted and go in as they are.

    Args:
        document: what to say.

    Returns:
        The whole file, UTF-8; the same text for the same document.

    Raises:
        ValueError: a row with more or fewer entries than columns; a drawing that is not SVG; a
            browser whose images, pairs, classes and colours do not fit together.
    """
    style, script = _read("page.css"), _read("page.js")
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
    environment.globals["zip"] = zip  # with strict=true: a short row is an error
    return environment


def _read(name: str) -> str:
    return files("tlunet.report").joinpath(name).read_text(encoding="utf-8")


def _kind(part: Part) -> str:
    return type(part).__name__


def _key(value: float | str) -> str:
    """What the script sorts by: a JSON string, or a number as JavaScript's ``Number`` reads it."""
    return json.dumps(value if isinstance(value, str) else float(value))


def _inline(svg: str, prefix: str) -> Markup:
    """A drawing as a part of the page.

    Every id is given the prefix: two drawings of matplotlib have ids in common, and a clip path
    that lies in a closed section would cut away what refers to it from an open one.
    """
    start = svg.find("<svg")
    if start < 0:
        raise ValueError(f"no <svg> element in the drawing that begins {svg[:40]!r}")
    drawing = _METADATA.sub("", svg[start:])
    return Markup(_REFERENCE.sub(rf"\g<1>{prefix}-", drawing))


def _data_uri(content: bytes, kind: str) -> str:
    """A file as a part of the page."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _is_wide(tile: Tile) -> bool:
    """Whether a picture takes a line for itself; as in ``page.js``."""
    height, width = tile.size
    return width > 2 * height


def _is_small(row: Row) -> bool:
    """Whether a row leaves room for another one beside it."""
    return len(row.tiles) <= 2 and not any(map(_is_wide, row.tiles))


def _colour(text: str) -> str:
    """A colour, which goes into the style of an element."""
    if not _COLOUR.fullmatch(text):
        raise ValueError(f"colour {text!r}: expected #rrggbb")
    return text


def _data(browser: Browser) -> dict[str, Any]:
    """What the script needs of a browser, for Jinja's ``tojson``, which escapes <, >, & and '."""
    _check(browser)
    return {
        "pairs": browser.pairs,
        "colours": browser.colours,
        "images": [
            {
                "id": image.image_id,
                "jpeg": _data_uri(image.jpeg, "image/jpeg"),
                "size": image.size,
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
            raise ValueError(f"image {image.image_id!r}: nothing of the cells {sorted(missing)}")
        for masks in (image.truth, *image.predictions.values()):
            if len(masks) != len(browser.classes):
                raise ValueError(
                    f"image {image.image_id!r}: {len(masks)} masks for "
                    f"{len(browser.classes)} classes"
                )
