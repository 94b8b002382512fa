"""Images with object outlines in another format, before they are painted into masks."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlunet.data.source import Problem

ALIKE_SHOWN = 3  # problems with the same text that are listed one by one


class Patch(NamedTuple):
    """The pixels of one object: a mask of its bounding box, bool (h, w), and its first pixel."""

    top: int
    left: int
    mask: NDArray[np.bool_]


Draw = Callable[[tuple[int, int]], Patch]  # (height, width) of the image → the object in it


class Object(NamedTuple):
    """One outlined object.

    Attributes:
        class_id: from 1.
        draw: returns its pixels in an image of (H, W); raises ValueError if the outline does not
            fit such an image.
        where: file and position of the outline.
    """

    class_id: int
    draw: Draw
    where: str


class Item(NamedTuple):
    """One image with its objects; its id is its path in the new folder."""

    image_id: str
    path: Path
    objects: tuple[Object, ...]
    size: tuple[int, int] | None = None  # (height, width) according to its annotation


class Labelled(NamedTuple):
    """Images and objects found by a reader of another format.

    Attributes:
        classes: the names of the ids 1…M.
        items: the images.
        problems: problems found; none of them stopped the reader.
        notes: what was left out or assumed, one line each.
        empty: the problem if there are no objects, and no other problem.
    """

    classes: tuple[str, ...]
    items: tuple[Item, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    empty: Problem | None = None


def grouped(problems: Iterable[Problem]) -> list[Problem]:
    """Replace many problems with the same text by the first of them and their number.

    >>> print(*grouped(Problem(f"a.txt row {row}", "a.png", "a box") for row in range(1, 6)))
    a.txt row 1 (and 4 more): a box
    """
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        kinds.setdefault(problem.what, []).append(problem)
    return [
        line
        for same in kinds.values()
        for line in (same if len(same) <= ALIKE_SHOWN else [_with_count(same)])
    ]


def _with_count(same: list[Problem]) -> Problem:
    return same[0]._replace(where=f"{same[0].where} (and {len(same) - 1} more)")


def short(value: Any, most: int = 40) -> str:
    """Format any value of a file for a message.

    >>> short("a.png"), short(10**400, 8)
    ("'a.png'", '1000000…')
    """
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"
