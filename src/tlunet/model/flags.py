"""How many images are missed and how many flagged falsely: what a plant decides on."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ANY = "any class"


class Flags(NamedTuple):
    """Images of one row: of one class, or of any.

    Attributes:
        defective: images that show the class.
        defect_free: images without any defect.
        missed: of `defective`, those that are not flagged for the class.
        false: of `defect_free`, those that are flagged for the class.
    """

    defective: int
    defect_free: int
    missed: int
    false: int


def rows(classes: int) -> Iterator[list[int]]:
    """Columns of each row of a table: of all classes, then of each."""
    yield list(range(classes))
    yield from ([m] for m in range(classes))


def count_flags(
    label: NDArray[np.bool_], flagged: NDArray[np.bool_], columns: Sequence[int]
) -> Flags:
    """Count the images of some classes.

    Args:
        label: (N, M) whether the image shows the class.
        flagged: (N, M) whether a pixel of the class, or its label, is predicted.
        columns: classes, from 0.

    >>> label = np.array([[1, 0], [0, 1], [0, 0], [0, 0]], bool)
    >>> flagged = np.array([[1, 0], [1, 0], [0, 1], [0, 0]], bool)
    >>> count_flags(label, flagged, [0, 1])
    Flags(defective=2, defect_free=2, missed=0, false=1)
    >>> count_flags(label, flagged, [1])
    Flags(defective=1, defect_free=2, missed=1, false=1)
    """
    has, flag = label[:, columns].any(1), flagged[:, columns].any(1)
    free = ~label.any(1)
    counts: tuple[Any, ...] = (has, free, has & ~flag, free & flag)
    return Flags(*(int(one.sum()) for one in counts))
