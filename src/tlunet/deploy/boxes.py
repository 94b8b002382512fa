"""Where in an image the defects lie: a box around each connected region."""

import numpy as np
from numpy.typing import NDArray

MOST = 100  # boxes a class and image: the largest regions; more are speckles, and no row of a table


def boxes(mask: NDArray[np.bool_]) -> list[tuple[int, int, int, int]]:
    """A box (x0, y0, x1, y1) around each region whose pixels touch, corners included.

    Args:
        mask: (H, W).

    Returns:
        The largest region first, :data:`MOST` at most. Pixels count from the upper left one, 0;
        x1 and y1 are one past the region's last, so that x1 - x0 is its width.

    >>> boxes(np.array([[1, 0, 0, 1], [0, 1, 0, 0]], bool))
    [(0, 0, 2, 2), (3, 0, 4, 1)]
    """
    from scipy import ndimage  # here: most masks are empty, and it takes a moment to import

    regions, number = ndimage.label(mask, np.ones((3, 3)))
    areas = np.bincount(regions.ravel(), minlength=number + 1)[1:]
    slices = ndimage.find_objects(regions)
    largest = np.argsort(-areas, kind="stable")[:MOST]
    return [(x.start, y.start, x.stop, y.stop) for y, x in (slices[k] for k in largest)]


def as_text(mask: NDArray[np.bool_]) -> str:
    """Boxes as a table has them: ``x0 y0 x1 y1; x0 y0 x1 y1``, empty for an empty mask.

    >>> as_text(np.array([[1, 0, 0, 1], [0, 1, 0, 0]], bool))
    '0 0 2 2; 3 0 4 1'
    """
    return "; ".join(" ".join(map(str, box)) for box in boxes(mask)) if mask.any() else ""
