"""A checkpoint within a validation: the resumed run validates from the start."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback


class RewindValidation(Callback):
    """Sets the validation back to its first batch, as its metrics so far are not saved."""

    def on_save_checkpoint(  # noqa: D102
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.validating:
            first = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
            done = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
            done.update(total=first, current=first, is_last_batch=False)
