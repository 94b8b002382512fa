"""cuDNN's choice of kernels: timed where that pays, by rule elsewhere."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback


class TuneKernels(Callback):
    """Lets cuDNN time its kernels for full training batches only.

    It does so once per shape, which takes seconds with large images. Full batches repeat hundreds
    of times; an epoch's last batch and the batches of an evaluation do not.
    """

    def on_train_batch_start(  # noqa: D102
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        whole: int = trainer.datamodule.batch_size  # type: ignore[attr-defined]
        own = len(range(trainer.global_rank, whole, trainer.world_size))
        torch.backends.cudnn.benchmark = len(batch["id"]) == own

    def on_validation_start(self, *args: Any) -> None:  # noqa: D102
        torch.backends.cudnn.benchmark = False

    def on_train_end(self, *args: Any) -> None:  # noqa: D102
        torch.backends.cudnn.benchmark = False

    def on_exception(self, *args: Any) -> None:  # noqa: D102
        torch.backends.cudnn.benchmark = False
