"""Random numbers of a training step that do not depend on what was drawn before it."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

DROPOUT = 3  # stream of random numbers, next to those of tlunet.data.batches and augment


class Reseed(Callback):
    """Seeds torch before each training batch from (seed, epoch, batch, rank).

    A resumed run then draws the same dropout as an uninterrupted one.
    """

    def on_train_batch_start(  # noqa: D102
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        seed = trainer.datamodule.seed  # type: ignore[attr-defined]
        entropy = (DROPOUT, seed, trainer.current_epoch, batch_idx, trainer.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
