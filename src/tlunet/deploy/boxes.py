"""Bounding boxes around the connected regions of a mask."""

import numpy as np
from numpy.typing import NDArray

# Boxes per class and image: only the largest regions; more would be speckles and swamp a table row.
MOST = 100


def boxes(mask: NDArray[np.bool_]) -> list[tuple[int, int, int, int]]:
    """Return a box (x0, y0, x1, y1) around each 8-connected region.

    Args:
        mask: (H, W).

    Returns:
        The largest region first, at most :data:`MOST`. Coordinates start at 0 in the upper left
        corner; x1 and y1 are exclusive, so the width is x1 - x0.

    >>> boxes(np.array([[1, 0, 0, 1], [0, 1, 0, 0]], bool))
    [(0, 0, 2, 2), (3, 0, 4, 1)]
    """
    from scipy import ndimage  # slow to import, and most masks are empty

    regions, number = ndimage.label(mask, np.ones((3, 3)))
    areas = np.bincount(regions.ravel(), minlength=number + 1)[1:]
    slices = ndimage.find_objects(regions)
    largest = np.argsort(-areas, kind="stable")[:MOST]
    return [(x.start, y.start, x.stop, y.stop) for y, x in (slices[k] for k in largest)]


def as_text(mask: NDArray[np.bool_]) -> str:
    """Format boxes for a table: ``x0 y0 x1 y1; x0 y0 x1 y1``, empty for an empty mask.

    >>> as_text(np.array([[1, 0, 0, 1], [0, 1, 0, 0]], bool))
    '0 0 2 2; 3 0 4 1'
    """
    return "; ".join(" ".join(map(str, box)) for box in boxes(mask)) if mask.any() else ""
