"""The masks that a network finds in the test images, kept in run-length code."""

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from tlunet.data.rle import encode
from tlunet.study.training.processes import gather

FILE = "test_masks.parquet"
COLUMNS = ("image_id", "class_id", "runs")
AHEAD = 8  # batches whose masks may wait to be coded


class PredictedMasks(Callback):
    """Gathers what ``test_step`` predicts, a row per image and class with any pixel.

    A report shows pictures without computing a network's output again, on a machine without its
    checkpoint. Codes are written in threads while the network predicts the next batch.
    """

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(os.cpu_count())
        self.found: list[Future[dict[tuple[int, int], str]]] = []

    def on_test_batch_end(  # noqa: D102
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.found.append(self.pool.submit(_encode, outputs["masks"], batch["index"]))
        if len(self.found) > AHEAD:
            self.found[-AHEAD - 1].result()  # a slow coder must not let the masks pile up

    def table(self, image_ids: Sequence[str]) -> pd.DataFrame:
        """What was gathered.

        Args:
            image_ids: names of *all* the data set's images.

        Returns:
            Of all processes, in the first of them.
            Columns ``image_id, class_id, runs``: 1-based and column-major runs at the size that
            the network saw; an image × class without a row has no predicted pixel.
        """
        runs: dict[tuple[int, int], str] = {}
        for batch in self.found:
            runs |= batch.result()
        self.pool.shutdown()
        runs = gather(runs)
        rows = [(image_ids[i], c, code) for (i, c), code in sorted(runs.items())]
        return pd.DataFrame(rows, columns=list(COLUMNS))


def _encode(masks: Tensor, index: Tensor) -> dict[tuple[int, int], str]:
    """Run-length codes of masks (B, M, H, W): (row in the data set, class id) → code."""
    masks, rows = masks.cpu(), index.tolist()
    found = masks.flatten(2).any(2).nonzero().tolist()  # most masks are empty
    return {(rows[b], m + 1): encode(masks[b, m].numpy()) for b, m in found}


def read_masks(folder: Path) -> dict[tuple[str, int], str] | None:
    """A run's predicted masks: (image id, class id) → run-length code, for those with any pixel.

    Returns:
        ``None`` if the run was made before masks were kept.
    """
    if not (folder / FILE).exists():
        return None
    table = pd.read_parquet(folder / FILE)
    keys = zip(table["image_id"], table["class_id"].astype(int), strict=True)
    return dict(zip(keys, table["runs"], strict=True))
