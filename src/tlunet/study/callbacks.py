"""What is kept of a training run while it runs: its history, its checkpoints, its progress."""

import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint, EarlyStopping
from pytorch_lightning.plugins.io import TorchCheckpointIO

from tlunet.errors import UserError
from tlunet.study.console import bars, console, say
from tlunet.study.files import write_whole

COLUMNS = (
    "epoch", "seconds", "train_loss", "val_loss", "val_dice", "val_iou", "val_mla", "val_auc",
    "images_per_second",
)  # fmt: skip


class History(Callback):
    """``history.csv``: one row an epoch, each epoch once, whatever broke off in between.

    The rows travel in the checkpoint; the file is written from them, so an epoch that is trained
    again after a resume replaces its own row.

    Args:
        path: of the file.
        on_row: called with every new row.
    """

    def __init__(self, path: Path, on_row: Callable[[dict[str, Any]], None] | None = None) -> None:
        self.path = path
        self.on_row = on_row
        self.rows: list[dict[str, Any]] = []

    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # noqa: D102
        self.rows = list(state_dict["rows"])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        # Dropout and the like must not remember what was drawn before a resume.
        torch.manual_seed(hash((trainer.datamodule.seed, trainer.current_epoch)) % 2**32)  # type: ignore[attr-defined]
        self.started = time.perf_counter()
        self.images = 0

    def on_train_batch_end(  # noqa: D102
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, _: int
    ) -> None:
        self.images += len(batch["id"])

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        if trainer.state.fn == "fit":
            if pl_module.device.type == "cuda":
                torch.cuda.synchronize()  # once an epoch: the steps are queued, not done
            self.training_seconds = time.perf_counter() - self.started

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        known = trainer.callback_metrics
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        for name in COLUMNS:
            if name in known and not math.isnan(value := float(known[name])):
                row[name] = value
        row["epoch"] = trainer.current_epoch
        row["seconds"] = time.perf_counter() - self.started
        row["images_per_second"] = self.images / self.training_seconds
        self.rows = [*self.rows, row]
        self.write()
        if self.on_row:
            self.on_row(row)
        if trainer.logger:
            trainer.logger.log_metrics(
                {"epoch_seconds": row["seconds"], "images_per_second": row["images_per_second"]},
                step=trainer.global_step,
            )

    def write(self) -> None:
        """Write the file, whole."""
        table = pd.DataFrame(self.rows, columns=list(COLUMNS))
        write_whole(self.path, lambda temporary: table.to_csv(temporary, index=False))

    @property
    def images_per_second(self) -> float | None:
        """Median over the epochs of training images a second."""
        speeds = [row["images_per_second"] for row in self.rows]
        return statistics.median(speeds) if speeds else None


class Checkpoints(Checkpoint):
    """``best.ckpt``, weights of the epoch of lowest ``val_loss``, and ``last.ckpt``, everything.

    Why not Lightning's ModelCheckpoint: the best must be on disk before the last says that its
    epoch is over, or a kill between the two would lose it. Both are written by
    :class:`WholeFiles`, one after the other, while the next epoch is being trained.

    Args:
        folder: where they go.
        stopping: the early stopping to heed after a resume, if there is one.
    """

    def __init__(self, folder: Path, stopping: EarlyStopping | None = None) -> None:
        self.folder = folder
        self.stopping = stopping
        self.best_loss: float | None = None
        self.best_epoch: int | None = None

    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        return {"best_loss": self.best_loss, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # noqa: D102
        self.best_loss = state_dict["best_loss"]
        self.best_epoch = state_dict["best_epoch"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        # Stopped early, then killed before the test: training must not go on after the resume.
        if self.stopping and self.stopping.wait_count >= self.stopping.patience:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        loss = float(trainer.callback_metrics["val_loss"])
        if not math.isfinite(loss):
            raise UserError(
                f"val_loss is {loss} after epoch {trainer.current_epoch + 1}: the weights have "
                "diverged; lower optimizer.lr, or take trainer.precision=32-true"
            )
        is_best = self.best_loss is None or loss < self.best_loss
        if is_best:
            self.best_loss, self.best_epoch = loss, trainer.current_epoch
            trainer.save_checkpoint(self.folder / "best.ckpt", weights_only=True)
        trainer.save_checkpoint(self.folder / "last.ckpt", weights_only=False)


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
            write_whole(Path(path), lambda temporary: torch.save(checkpoint, temporary))
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
        self.note = ""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        steps = int(trainer.num_training_batches)
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
        if not console.is_terminal:
            say(f"  {self.title}: {note}, {row['seconds']:.1f} s")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        self.bars.stop()

    def on_exception(self, *args: Any) -> None:  # noqa: D102
        self.bars.stop()
