"""``history.csv``: metrics and timings of each epoch."""

import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from tlunet.machine.files import write_whole
from tlunet.study.training import processes
from tlunet.study.training.callbacks.steps import Steps, samples
from tlunet.tracking.base import EpochLogger

COLUMNS = (
    "epoch", "seconds", "train_loss", "val_loss", "val_dice", "val_iou", "val_mla", "val_auc",
    "images_per_second", "step", "samples", "elapsed_seconds", "learning_rate", "gradient_norm",
    "waiting_share",
)  # fmt: skip
#: Wall-clock columns; all others are determined by the seed, also after a resume.
TIMED = ("seconds", "images_per_second", "elapsed_seconds", "waiting_share")


class History(Callback):
    """Write one row per epoch, each epoch once, even if the run was interrupted.

    The checkpoint stores the rows and the file is written from them, so an epoch trained again
    after a resume replaces its own row. The columns are :data:`COLUMNS`, then the validation
    scores of each class (``val_dice_class/1`` …) and, where images without masks are learnt from,
    ``rest_loss``; W&B and TensorBoard use the same names.

    - ``step``, ``samples``, ``elapsed_seconds``: steps, training images and seconds from the
      start of training to the end of this epoch;
    - ``gradient_norm``: mean over the epoch's points (``steps.Steps``);
    - ``waiting_share``: fraction of the epoch's training time spent waiting for batches.

    Args:
        path: path of the file.
        on_row: called with every new row.
        steps: records the steps; must come before this callback.
    """

    def __init__(
        self,
        path: Path,
        on_row: Callable[[dict[str, Any]], None] | None = None,
        steps: Steps | None = None,
    ) -> None:
        self.path = path
        self.on_row = on_row
        self.steps = steps
        self.rows: list[dict[str, Any]] = []
        self.started = 0.0  # of this epoch; counts time before an interruption, not the pause
        self.training_seconds: float | None = None  # of this epoch, once its training part is over

    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        spent = self.training_seconds or time.perf_counter() - self.started
        return {"rows": self.rows, "seconds": spent}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # noqa: D102
        self.rows = list(state_dict["rows"])
        self.started = time.perf_counter() - state_dict["seconds"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        points = self.steps.points if self.steps else []
        for row in self.rows:  # of a resumed run; its logger handles repeated rows
            self._tell(trainer, row, [p for p in points if p["epoch"] == row["epoch"]])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        self.started = time.perf_counter()
        self.training_seconds = None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        if trainer.state.fn == "fit":
            if pl_module.device.type == "cuda":
                torch.cuda.synchronize()  # once per epoch: wait for the queued steps
            self.training_seconds = time.perf_counter() - self.started

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        # The losses are logged after the callbacks.
        known = {**trainer.callback_metrics, "train_loss": pl_module.train_loss.compute()}  # type: ignore[operator, union-attr]
        by_class = [name for name in known if "/" in name]
        row: dict[str, Any] = dict.fromkeys((*COLUMNS, *by_class))
        if getattr(pl_module, "rest", None) is not None:
            known["rest_loss"] = pl_module.rest_loss.compute()  # type: ignore[operator, union-attr]
            row["rest_loss"] = None
        for name in row:
            if name in known and not math.isnan(value := float(known[name])):
                row[name] = value
        row["epoch"] = trainer.current_epoch
        points = self._close(trainer, row)
        self.rows = [*self.rows, row]
        self.write()
        if self.on_row:
            self.on_row(row)
        self._tell(trainer, row, points)

    def _close(self, trainer: pl.Trainer, row: dict[str, Any]) -> list[dict[str, float]]:
        """Fill in timings and step statistics of a finished epoch, and return its points."""
        began = sum(r["seconds"] for r in self.rows)
        row["seconds"] = time.perf_counter() - self.started
        training = self.training_seconds or row["seconds"]
        images = trainer.datamodule.images_per_epoch  # type: ignore[attr-defined]
        steps = int(trainer.num_training_batches)
        row["images_per_second"] = images / training
        row["step"] = (trainer.current_epoch + 1) * steps
        row["samples"] = samples(trainer, steps)
        row["elapsed_seconds"] = began + row["seconds"]
        row["learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]
        if self.steps is None:
            return []
        points = self.steps.close_epoch(trainer, began, training)
        row["gradient_norm"] = statistics.fmean(p["gradient_norm_step"] for p in points)
        row["waiting_share"] = self.steps.waiting.seconds / training
        return points

    def _tell(
        self, trainer: pl.Trainer, row: dict[str, Any], points: list[dict[str, float]]
    ) -> None:
        if isinstance(trainer.logger, EpochLogger):
            trainer.logger.log_epoch(row, points)

    def write(self) -> None:
        """Write the whole file."""
        if processes.rank() > 0:
            return
        table = pd.DataFrame(self.rows)
        write_whole(self.path, lambda temporary: table.to_csv(temporary, index=False))

    @property
    def images_per_second(self) -> float | None:
        """Median over the epochs of training images per second."""
        speeds = [row["images_per_second"] for row in self.rows]
        return statistics.median(speeds) if speeds else None
