"""The checkpoints of a training run: its best epoch, and all that a resume needs."""

import math
import signal
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping

from tlunet.errors import UserError
from tlunet.study.training import processes
from tlunet.study.training.signals import Stopped, Stopping


class Checkpoints(Checkpoint):
    """Writes ``best.ckpt``, the weights of the best epoch, and ``last.ckpt``, everything.

    ``last.ckpt`` is written at the end of each epoch, every few minutes within an epoch, and on a
    signal: a resumed run continues with the next batch.

    Lightning's ModelCheckpoint does not fit: the best checkpoint must be on disk before the last
    one records the end of its epoch, or a kill between the two would lose it. Both are written by
    :class:`~tlunet.study.training.snapshots.Snapshots`, one after the other, while training
    continues.

    Args:
        folder: the run folder.
        early: the early stopping to respect after a resume, if any.
        stopping: records signals.
        monitor: what the best epoch has: the lowest ``val_loss``, or the highest ``val_dice``, with
            the lower loss among equals.
        minutes: between two checkpoints within an epoch; ``None``: only at its end.
    """

    def __init__(
        self,
        folder: Path,
        early: EarlyStopping | None = None,
        stopping: Stopping | None = None,
        minutes: float | None = None,
        monitor: str = "val_loss",
    ) -> None:
        self.folder = folder
        self.early = early
        self.stopping = stopping or Stopping()
        self.seconds = math.inf if minutes is None else 60 * minutes
        self.saved = time.monotonic()
        self.monitor = monitor
        self.best_loss: float | None = None  # of the best epoch
        self.best_dice: float | None = None  # likewise, if it is monitored
        self.best_epoch: int | None = None

    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        best = {"best_loss": self.best_loss, "best_epoch": self.best_epoch}
        return best if self.monitor == "val_loss" else best | {"best_dice": self.best_dice}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # noqa: D102
        self.best_loss = state_dict["best_loss"]
        self.best_epoch = state_dict["best_epoch"]
        self.best_dice = state_dict.get("best_dice")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        # Stopped early, then killed before the test: a resumed run must not train any further.
        if self.early and self.early.wait_count >= self.early.patience:
            trainer.should_stop = True
        self.saved = time.monotonic()
        self.stopping.heed()
        self.stopping.is_deferred = True

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:  # noqa: D102
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return  # the end of the epoch saves everything, after the validation
        is_due = time.monotonic() - self.saved >= self.seconds
        is_asked, is_due = processes.any_rank(bool(self.stopping.requested), is_due)
        if is_asked or is_due:
            self._save_last(trainer)
        self._stop_if(is_asked)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        if trainer.state.fn == "fit":
            _check("train_loss", pl_module.train_loss.compute(), trainer.current_epoch)  # type: ignore[operator, union-attr]

    def on_validation_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:  # noqa: D102
        # Processes differ in their number of validation batches, so they wait for the end.
        if trainer.state.fn == "fit" and self.stopping.requested and trainer.world_size == 1:
            self._save_last(trainer)
            self._stop_if(True)

    def _save_last(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.folder / "last.ckpt", weights_only=False)
        self.saved = time.monotonic()

    def _stop_if(self, is_asked: bool) -> None:
        if is_asked:
            self.stopping.is_deferred = False
            raise Stopped(self.stopping.requested or signal.SIGTERM)  # or another rank got it

    def on_train_end(self, *args: Any) -> None:  # noqa: D102
        self.stopping.is_deferred = False  # an interrupted test starts from scratch

    def on_exception(self, *args: Any) -> None:  # noqa: D102
        self.stopping.is_deferred = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        loss = _check("val_loss", trainer.callback_metrics["val_loss"], trainer.current_epoch)
        dice = None
        if self.monitor == "val_dice":
            dice = float(trainer.callback_metrics["val_dice"])
        if self._is_best(loss, dice):
            self.best_loss, self.best_dice = loss, dice
            self.best_epoch = trainer.current_epoch
            trainer.save_checkpoint(self.folder / "best.ckpt", weights_only=True)
        self._save_last(trainer)
        self._stop_if(*processes.any_rank(bool(self.stopping.requested)))

    def _is_best(self, loss: float, dice: float | None) -> bool:
        if self.best_loss is None:
            return True
        if dice is None or self.best_dice is None:
            return loss < self.best_loss
        return (dice, -loss) > (self.best_dice, -self.best_loss)


def _check(name: str, loss: torch.Tensor, epoch: int) -> float:
    if not math.isfinite(loss):
        raise UserError(
            f"{name} is {float(loss)} in epoch {epoch + 1}: the weights have diverged; lower "
            "optimizer.lr, or use trainer.precision=32-true"
        )
    return float(loss)
