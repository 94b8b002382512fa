"""The ``segmentation`` of a COCO annotation: polygons or run-length code."""

from typing import Any, NamedTuple, TypeGuard

import numpy as np

from tlunet.data.convert.categories import is_id
from tlunet.data.convert.labelled import Draw
from tlunet.data.convert.outline import draw_polygons
from tlunet.data.convert.runs import draw_runs

FAR = 1e6  # pixels; no image is that large
EXPECTED = "expected polygons of at least three points: x, y, …"


class Shape(NamedTuple):
    """One annotated object; ``draw`` is ``None`` if nothing but slivers is left of it.

    Attributes:
        draw: draws it.
        slivers: parts of one or two points, which have no area; they are passed over.
    """

    draw: Draw | None
    slivers: int = 0


def read_segmentation(value: Any) -> Shape:
    """Read run-length code or polygons.

    Raises:
        ValueError: it is neither; the message says what was expected.
    """
    if isinstance(value, dict):
        return Shape(_runs(value))
    if not isinstance(value, list) or all(part == [] for part in value):
        raise ValueError("segmentation: empty; expected polygons (a box has no outline)")
    parts = value if isinstance(value[0], list) else [value]
    lengths = [_length(part) for part in parts]
    if len(parts) > 2 and set(lengths) == {2}:
        raise ValueError(f"segmentation: a list of points; {EXPECTED} in one flat list")
    whole = [_corners(part) for part, length in zip(parts, lengths, strict=True) if length >= 6]
    return Shape(
        draw_polygons(whole, is_relative=False) if whole else None, len(parts) - len(whole)
    )


def _length(part: Any) -> int:
    """Return the number of coordinates of a polygon, checked."""
    if not isinstance(part, list) or not all(map(_is_number, part)) or len(part) % 2:
        raise ValueError(f"segmentation: {EXPECTED}")
    if not all(abs(value) < FAR for value in part):  # before an array overflows
        raise ValueError("segmentation: a point far outside any image")
    return len(part)


def _corners(part: list[float]) -> np.ndarray:
    return np.array(part, float).reshape(-1, 2)


def _runs(code: dict[str, Any]) -> Draw:
    counts, size = code.get("counts"), code.get("size")
    if not (isinstance(counts, str) or _are_integers(counts)) or not _is_size(size):
        raise ValueError("segmentation: run-length code needs counts and size [height, width]")
    return draw_runs(counts, (size[0], size[1]))


def _is_size(value: Any) -> TypeGuard[list[int]]:
    return _are_integers(value) and len(value) == 2 and all(0 < side < FAR for side in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_integers(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(map(is_id, value))
