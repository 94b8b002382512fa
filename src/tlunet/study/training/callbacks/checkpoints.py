"""What is kept and shown of a training run while it runs: its checkpoints, its progress."""

import io
import math
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint, EarlyStopping
from pytorch_lightning.plugins.io import TorchCheckpointIO

from tlunet.errors import UserError
from tlunet.machine.console import bars, console, say
from tlunet.machine.files import write_whole
from tlunet.study.training import processes
from tlunet.study.training.signals import Stopped, Stopping

DROPOUT = 3  # stream of random numbers, next to those of tlunet.data.batches and augment


class Checkpoints(Checkpoint):
    """``best.ckpt``, weights of the epoch of lowest ``val_loss``, and ``last.ckpt``, everything.

    ``last.ckpt`` is written at the end of each epoch, within one every so many minutes, and when
    a signal comes: a resumed run goes on with the very next batch. Within the validation it says
    that the validation is to be done, from its beginning.

    Why not Lightning's ModelCheckpoint: the best must be on disk before the last says that its
    epoch is over, or a kill between the two would lose it. Both are written by
    :class:`WholeFiles`, one after the other, while training goes on.

    Args:
        folder: where they go.
        early: the early stopping to heed after a resume, if there is one.
        stopping: where signals are noted.
        minutes: between two checkpoints within an epoch; ``None``: at its end only.
    """

    def __init__(
        self,
        folder: Path,
        early: EarlyStopping | None = None,
        stopping: Stopping | None = None,
        minutes: float | None = None,
    ) -> None:
        self.folder = folder
        self.early = early
        self.stopping = stopping or Stopping()
        self.seconds = math.inf if minutes is None else 60 * minutes
        self.saved = time.monotonic()
        self.is_validating = False
        self.best_loss: float | None = None
        self.best_epoch: int | None = None

    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        return {"best_loss": self.best_loss, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # noqa: D102
        self.best_loss = state_dict["best_loss"]
        self.best_epoch = state_dict["best_epoch"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        # Stopped early, then killed before the test: training must not go on after the resume.
        if self.early and self.early.wait_count >= self.early.patience:
            trainer.should_stop = True
        self.saved = time.monotonic()
        self.stopping.heed()
        self.stopping.is_deferred = True

    def on_train_batch_start(  # noqa: D102
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # Dropout and the like must not depend on what was drawn before a resume.
        seed = trainer.datamodule.seed  # type: ignore[attr-defined]
        entropy = (DROPOUT, seed, trainer.current_epoch, batch_idx, trainer.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:  # noqa: D102
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return  # the validation comes first, and at the end of the epoch all is kept
        is_due = time.monotonic() - self.saved >= self.seconds
        is_asked, is_due = processes.any_of(bool(self.stopping.requested), is_due)
        if is_asked or is_due:
            self._save_last(trainer)
        self._stop_if(is_asked)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        if trainer.state.fn == "fit":
            _check("train_loss", pl_module.train_loss.compute(), trainer.current_epoch)  # type: ignore[operator, union-attr]

    def on_validation_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:  # noqa: D102
        # Of several processes each has another number of batches here: they wait for the end.
        if trainer.state.fn == "fit" and self.stopping.requested and trainer.world_size == 1:
            self.is_validating = True
            self._save_last(trainer)
            self._stop_if(True)

    def on_save_checkpoint(  # noqa: D102
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self.is_validating:  # as in the first batch of it: what is counted so far is not kept
            first = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
            done = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
            done.update(total=first, current=first, is_last_batch=False)

    def _save_last(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.folder / "last.ckpt", weights_only=False)
        self.saved = time.monotonic()

    def _stop_if(self, is_asked: bool) -> None:
        if is_asked:
            self.stopping.is_deferred = False
            raise Stopped(self.stopping.requested or signal.SIGTERM)  # which one came to another

    def on_train_end(self, *args: Any) -> None:  # noqa: D102
        self.stopping.is_deferred = False  # the test is done again from its beginning

    def on_exception(self, *args: Any) -> None:  # noqa: D102
        self.stopping.is_deferred = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        loss = _check("val_loss", trainer.callback_metrics["val_loss"], trainer.current_epoch)
        is_best = self.best_loss is None or loss < self.best_loss
        if is_best:
            self.best_loss, self.best_epoch = loss, trainer.current_epoch
            trainer.save_checkpoint(self.folder / "best.ckpt", weights_only=True)
        self._save_last(trainer)
        self._stop_if(*processes.any_of(bool(self.stopping.requested)))


def _check(name: str, loss: torch.Tensor, epoch: int) -> float:
    if not math.isfinite(loss):
        raise UserError(
            f"{name} is {float(loss)} in epoch {epoch + 1}: the weights have diverged; lower "
            "optimizer.lr, or take trainer.precision=32-true"
        )
    return float(loss)


class WholeFiles(TorchCheckpointIO):
    """Checkpoints appear whole or not at all; after one that failed no later one is written."""

    def __init__(self) -> None:
        self.failed = False

    def save_checkpoint(  # noqa: D102
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        if self.failed:
            return  # its error is raised where the trainer waits for it
        try:
            content = io.BytesIO()  # torch's own writer does not say that the disk is full
            torch.save(checkpoint, content)
            write_whole(Path(path), lambda temporary: temporary.write_bytes(content.getbuffer()))
        except BaseException:
            self.failed = True
            raise


class Progress(Callback):
    """A bar for the epochs' steps in a terminal; elsewhere a line an epoch.

    Args:
        title: of the cell.
        epochs: how many there will be at most.
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
        """One epoch's row, as :class:`History` has it."""
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
