"""How complex the shapes of an image's true defects are."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tlunet.data.bits import class_masks
from tlunet.errors import UserError

Floats = NDArray[np.float64]


def shapes(mask: NDArray[np.bool_]) -> tuple[float, int]:
    """Measure the defects of an image.

    The perimeter is that of the Crofton formula in two directions: π/4 of the pixel edges between
    defect and background, which is right for a disc.

    Args:
        mask: (M, H, W).

    Returns:
        Compactness 4πA/P² of all defects together (1: one disc; the smaller, the more ragged or
        scattered; NaN without a defect), and the number of connected components.

    >>> disc = np.hypot(*np.ogrid[-20:21, -20:21]) < 20
    >>> compactness, pieces = shapes(disc[None])
    >>> round(compactness, 1), pieces
    (1.0, 1)
    """
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1))).astype(np.int8)
    edges = sum(int(np.abs(np.diff(padded, axis=axis)).sum()) for axis in (1, 2))
    pieces = sum(ndimage.label(one, np.ones((3, 3)))[1] for one in mask)
    perimeter = np.pi / 4 * edges
    area = float(mask.sum())
    return (4 * np.pi * area / perimeter**2 if edges else float("nan")), pieces


def true_shapes(run: Path, image_ids: tuple[str, ...]) -> dict[str, Floats] | str:
    """Measure the true defects of a run's test images, at the size it was trained on.

    Args:
        run: a run folder.
        image_ids: N names of test images.

    Returns:
        ``raggedness`` (1 / compactness) and ``components``, (N,) each, NaN without a defect; or
        why the images cannot be read.
    """
    from tlunet.runs.data import open_data

    try:
        pack = open_data(run).pack
    except UserError as error:
        return "; ".join(error.lines)
    row_of = {name: row for row, name in enumerate(pack.index["image_id"])}
    M = len(pack.classes)
    measured = np.array([shapes(class_masks(pack.masks[row_of[name]], M)) for name in image_ids])
    components = np.where(measured[:, 1] > 0, measured[:, 1], np.nan)
    return {"raggedness": 1 / measured[:, 0], "components": components}
