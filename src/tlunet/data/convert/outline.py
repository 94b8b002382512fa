"""Outlines as pixels.

**Convention:** the image spans 0…W and 0…H, so pixel (row 0, column 0) has its centre at
(x 0.5, y 0.5). A pixel belongs to an object if its centre is inside the outline by the even-odd
rule; a centre exactly on the outline counts if it is on the left or the top edge. A rectangle of
1×40 therefore has 40 pixels, as in COCO's ``area`` and in run-length code, and outlines that share
an edge share no pixel.

**Thin outlines**, less than one pixel wide, would lose pixels or vanish. They become lines: every
row and column whose centre line crosses the outline has at least one pixel.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlunet.data.convert.labelled import Draw, Patch

Points = NDArray[np.float64]  # (P, 2): x and y
THIN = 1 - 1e-6  # pixels; the width below which an outline is drawn as a line


class _Spans(NamedTuple):
    """Where the centre lines of rows (or columns) run inside an outline, (S,) each."""

    line: NDArray[np.int64]
    start: NDArray[np.float64]
    end: NDArray[np.float64]


def draw_polygons(polygons: Sequence[Points], is_relative: bool) -> Draw:
    """Return a function that draws an object made of one or more polygons.

    Args:
        polygons: (P, 2) each, x and y; in pixels, or as fractions of width and height.
        is_relative: whether they are fractions.
    """

    def draw(size: tuple[int, int]) -> Patch:
        height, width = size
        scale = np.array([width, height]) if is_relative else np.ones(2)
        outlines = [polygon * scale for polygon in polygons]
        corners = np.concatenate(outlines)
        left, right = _range(corners[:, 0], width)
        top, bottom = _range(corners[:, 1], height)
        mask = np.zeros((max(bottom - top, 0), max(right - left, 0)), bool)
        if mask.size:
            for outline in outlines:
                _add(mask, outline - (left, top))
        return Patch(top, left, mask)

    return draw


def _range(values: NDArray[np.float64], most: int) -> tuple[int, int]:
    """Return the first and the last pixel + 1 that values from 0 to ``most`` touch."""
    low, high = values.min(), values.max()
    if high < 0 or low > most:
        return 0, 0
    first = min(max(int(low), 0), most - 1)  # the right edge belongs to the last pixel
    return first, min(int(high), most - 1) + 1


def _add(mask: NDArray[np.bool_], outline: Points) -> None:
    """Add the pixels of an outline to a mask (h, w)."""
    height, width = mask.shape
    rows = _spans(outline, height)
    first, last = _columns(rows, width)
    steps = np.zeros((height, width + 1), np.int8)  # +1 where a span begins, -1 after its end
    np.add.at(steps, (rows.line, first), 1)
    np.add.at(steps, (rows.line, last), -1)
    filled = np.cumsum(steps, axis=1, dtype=np.int8)[:, :width] > 0
    if _width(outline) < THIN or not filled.any():
        _add_line(filled, outline, rows)
    mask |= filled


def _add_line(filled: NDArray[np.bool_], outline: Points, rows: _Spans) -> None:
    """Add the pixel in the middle of every span that contains no pixel's centre."""
    height, width = filled.shape
    columns = _spans(outline[:, ::-1], width)
    for view, spans, most in ((filled, rows, width), (filled.T, columns, height)):
        first, last = _columns(spans, most)
        missed = (first == last) & (spans.end >= 0) & (spans.start <= most)
        middle = (spans.start.clip(0, most) + spans.end.clip(0, most)) / 2
        view[spans.line[missed], np.minimum(middle[missed].astype(int), most - 1)] = True
    low, high = outline.min(0), outline.max(0)
    if not filled.any() and (high - low < 1).all():  # between the centre lines: a single pixel
        x, y = (low + high) / 2
        if 0 <= x <= width and 0 <= y <= height:
            filled[min(int(y), height - 1), min(int(x), width - 1)] = True


def _spans(outline: Points, lines: int) -> _Spans:
    """Intersect the lines y = 0.5, 1.5, … with an outline (P, 2)."""
    following = np.roll(outline, -1, axis=0)
    upward = (outline[:, 1] > following[:, 1])[:, None]
    low, high = np.where(upward, following, outline), np.where(upward, outline, following)
    begin, end = (np.ceil(y - 0.5).clip(0, lines).astype(np.int64) for y in (low[:, 1], high[:, 1]))
    crossed = end - begin  # lines per edge: from its lower end, without its upper end
    edge = np.repeat(np.arange(len(outline)), crossed)
    line = np.arange(len(edge)) + (begin - (np.cumsum(crossed) - crossed))[edge]
    low, high = low[edge], high[edge]
    share = (line + 0.5 - low[:, 1]) / (high[:, 1] - low[:, 1])
    at = low[:, 0] + share * (high[:, 0] - low[:, 0])
    order = np.lexsort((at, line))
    line, at = line[order], at[order]
    return _Spans(line[::2], at[::2], at[1::2])


def _columns(spans: _Spans, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first pixel whose centre is in each span, and the last + 1."""
    first, last = (np.ceil(x - 0.5).clip(0, most).astype(np.int64) for x in spans[1:])
    return first, last


def _width(outline: Points) -> float:
    """Estimate an outline's width, in pixels: of the rectangle with its area and perimeter.

    >>> [round(_width(np.array([(0, 0), (40, 0), (40, w), (0, w)], float)), 6) for w in (3, 1, 0)]
    [3.0, 1.0, 0.0]
    """
    following = np.roll(outline, -1, axis=0)
    (x, y), (next_x, next_y) = (outline - outline[0]).T, (following - outline[0]).T
    area = abs((x * next_y - next_x * y).sum()) / 2
    half = np.hypot(*(following - outline).T).sum() / 2  # = length + width
    return float(half - np.sqrt(max(half**2 - 4 * area, 0))) / 2
