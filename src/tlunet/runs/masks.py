"""The predicted masks of the test images, as stored in a run folder."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tlunet.data.rle import decode

FILE = "test_masks.parquet"
COLUMNS = ("image_id", "class_id", "runs")


def read_masks(folder: Path) -> dict[tuple[str, int], str] | None:
    """Read a run's predicted masks: (image id, class id) → run-length code, if not empty.

    Returns:
        ``None`` if the run is from a version that did not store masks.
    """
    if not (folder / FILE).exists():
        return None
    table = pd.read_parquet(folder / FILE)
    keys = zip(table["image_id"], table["class_id"].astype(int), strict=True)
    return dict(zip(keys, table["runs"], strict=True))


def masks_of(
    codes: dict[tuple[str, int], str], image_id: str, classes: int, size: tuple[int, int]
) -> NDArray[np.bool_]:
    """Decode the predicted masks of one image.

    Args:
        codes: from :func:`read_masks`.
        image_id: name of the image.
        classes: M.
        size: (height, width) at which the run predicted.

    Returns:
        (M, H, W).
    """
    runs = (codes.get((image_id, m + 1), "") for m in range(classes))
    return np.stack([decode(code, size) for code in runs])
