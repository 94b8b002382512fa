"""Training progress on the console."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from tlunet.machine.console import bars, console, say
from tlunet.study.training import processes


class Progress(Callback):
    """Show a progress bar over the steps in a terminal, otherwise one line per epoch.

    Args:
        title: title of the cell.
        epochs: maximum number of epochs.
    """

    def __init__(self, title: str, epochs: int) -> None:
        self.title = title
        self.epochs = epochs
        self.bars = bars()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        steps = int(trainer.num_training_batches)
        if trainer.is_global_zero:
            self.bars.start()
        self.task = self.bars.add_task(
            self.title, total=self.epochs * steps, completed=trainer.global_step, note=""
        )

    def on_train_batch_end(self, *args: Any) -> None:  # noqa: D102
        self.bars.advance(self.task)

    def show(self, row: dict[str, Any]) -> None:
        """Show one epoch's row of :class:`History`."""
        scores = {"loss": row["val_loss"], "dice": row["val_dice"], "mla": row["val_mla"]}
        shown = " ".join(f"{k} {v:.4g}" for k, v in scores.items() if v is not None)
        note = f"epoch {row['epoch'] + 1}/{self.epochs} val {shown}"
        self.bars.update(self.task, note=note)
        if not console.is_terminal and processes.rank() == 0:
            say(f"  {self.title}: {note}, {row['seconds']:.1f} s")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        self.bars.stop()

    def on_exception(self, *args: Any) -> None:  # noqa: D102
        self.bars.stop()
