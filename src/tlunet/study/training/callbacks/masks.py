"""Masks predicted for the test images, stored as run-length codes."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from tlunet.data.rle import encode
from tlunet.machine.parallel import cores
from tlunet.runs.masks import COLUMNS
from tlunet.study.training.processes import gather

AHEAD = 8  # batches whose masks may wait for encoding


class PredictedMasks(Callback):
    """Collect the masks of ``test_step``: one row per image and class with any pixel.

    A report can then show predictions without running the network or having its checkpoint.
    Threads encode the masks while the network predicts the next batch.
    """

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(cores())
        self.encoded: list[Future[dict[tuple[int, int], str]]] = []

    def on_test_batch_end(  # noqa: D102
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.encoded.append(self.pool.submit(_encode, OnHost(outputs["bits"], batch["index"])))
        if len(self.encoded) > AHEAD:
            self.encoded[-AHEAD - 1].result()  # slow encoding must not let the masks pile up

    def table(self, image_ids: Sequence[str]) -> pd.DataFrame:
        """Return the collected masks.

        Args:
            image_ids: names of *all* images of the data set.

        Returns:
            The masks of all processes on rank 0, of this process on other ranks.
            Columns ``image_id, class_id, runs``: 1-based, column-major runs at the network's input
            size; an image × class without a row has no predicted pixel.
        """
        runs: dict[tuple[int, int], str] = {}
        for batch in self.encoded:
            runs |= batch.result()
        self.pool.shutdown()
        runs = gather(runs)
        rows = [(image_ids[i], c, code) for (i, c), code in sorted(runs.items())]
        return pd.DataFrame(rows, columns=list(COLUMNS))


class OnHost:
    """Tensors on their way from a GPU to the host; only :meth:`wait` waits for them.

    A thread that copied them itself would wait for every batch queued until then.
    """

    def __init__(self, *tensors: Tensor) -> None:
        self._tensors = [t.to("cpu", non_blocking=True) for t in tensors]  # into pinned memory
        self._event = torch.cuda.Event() if any(t.is_cuda for t in tensors) else None
        if self._event:
            self._event.record()

    def wait(self) -> list[np.ndarray]:
        """Return them once they have arrived."""
        if self._event:
            self._event.synchronize()
        return [t.numpy() for t in self._tensors]


def _encode(batch: OnHost) -> dict[tuple[int, int], str]:
    """Run-length codes of a bit field (B, H, W): (row in the data set, class id) → code."""
    codes = {}
    for bits, row in zip(*batch.wait(), strict=True):
        present = int(np.bitwise_or.reduce(bits, axis=None))  # most masks are empty
        for m in range(present.bit_length()):
            if present >> m & 1:
                codes[int(row), m + 1] = encode(bits >> m & 1)
    return codes
