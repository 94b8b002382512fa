"""Training progress on the console."""

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from tlunet.machine.console import LiveLine, console, say
from tlunet.study.training import processes
from tlunet.study.training.lines import clock, duration, fitted, score

TIMED = 20  # steps after which the time of training is estimated
WORTH_TELLING = 60.0  # seconds: a shorter training is over before it is read
EVALUATION = 1 / 3  # of a training step: the forward pass of as many images


class Progress(Callback):
    """Show one line that is updated with every step in a terminal, else one line per epoch.

    For example ``[3/8] densenet · ImageNet · 100% · seed 0  epoch 4/10  val Dice 0.420  ETA 2:10``.
    ETA is the maximum remaining time of training: early stopping may end it sooner. After the first
    :data:`TIMED` steps of the first epoch, one line says how long training will take.

    Args:
        title: title of the cell.
        epochs: maximum number of epochs.
    """

    def __init__(self, title: str, epochs: int) -> None:
        self.title = title
        self.epochs = epochs
        self.live = LiveLine()
        self.fact = ""  # validation Dice of the last epoch, or the step of the first one

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        self.per_epoch = int(trainer.num_training_batches)
        self.resumed_at = self.done = trainer.global_step  # steps
        self.began = self.second_step = time.perf_counter()
        if trainer.is_global_zero:
            self.live.start(fitted(self.title))

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:  # noqa: D102
        self.done += 1
        step = (self.done - 1) % self.per_epoch + 1
        fact = self.fact or f"step {step}/{self.per_epoch}"
        self.live.update(self._line(trainer.current_epoch, fact.ljust(len("val Dice 0.420"))))
        timed = self.done - self.resumed_at
        if timed == 1:  # slower than all others
            self.second_step = time.perf_counter()
        elif timed == TIMED and trainer.current_epoch == 0 and trainer.is_global_zero:
            self._tell_budget(trainer, (time.perf_counter() - self.second_step) / (timed - 1))

    def _tell_budget(self, trainer: pl.Trainer, seconds: float) -> None:
        """Say how long training takes, from the seconds of a step; validation is estimated."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        validation = EVALUATION * len(data.rows["val"]) / data.batch_size
        epoch = seconds * (self.per_epoch + validation)
        whole = epoch * self.epochs
        if whole >= WORTH_TELLING:
            say(f"  about {duration(epoch)} per epoch, {duration(whole)} in all")

    def show(self, row: dict[str, Any]) -> None:
        """Show one epoch's row of :class:`History`."""
        self.fact = score("val Dice", row["val_dice"])
        line = self._line(row["epoch"], self.fact)
        self.live.update(line)
        if not console.is_terminal and processes.rank() == 0:
            say(line)

    def _line(self, epoch: int, fact: str) -> str:
        steps = max(self.done - self.resumed_at, 1)
        left = self.epochs * self.per_epoch - self.done
        seconds = (time.perf_counter() - self.began) / steps * max(left, 0)
        counted = f"epoch {epoch + 1:>{len(str(self.epochs))}}/{self.epochs}"
        return fitted(self.title, counted, fact, f"ETA {clock(seconds)}")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        self.live.stop()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        if trainer.is_global_zero:
            self.live.start(fitted(self.title, "testing"))

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        self.live.stop()

    def on_exception(self, *args: Any) -> None:  # noqa: D102
        self.live.stop()
