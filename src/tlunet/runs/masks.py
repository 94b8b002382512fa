"""The predicted masks of the test images, as stored in a run folder."""

from pathlib import Path

import pandas as pd

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
