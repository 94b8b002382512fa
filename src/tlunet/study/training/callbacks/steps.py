"""Per-step training statistics: loss, gradient norm, and time spent waiting for batches."""

import time
from math import ceil
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.profilers import Profiler
from torch import Tensor
from torch.nn.utils import get_total_norm

POINTS = 50  # maximum per epoch, evenly spaced; a short epoch has one per step
FETCHING = "[_TrainingEpochLoop].train_dataloader_next"  # Lightning's name of the action


class Waiting(Profiler):
    """Measure how long the training loop waits for batches, using Lightning's profiler hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self._asked = 0.0

    def start(self, action_name: str) -> None:  # noqa: D102
        if action_name == FETCHING:
            self._asked = time.perf_counter()

    def stop(self, action_name: str) -> None:  # noqa: D102
        if action_name == FETCHING:
            self.seconds += time.perf_counter() - self._asked


class Steps(Callback):
    """Record up to :data:`POINTS` points per epoch, and the time spent waiting for batches.

    A point is ``epoch, step, samples, elapsed_seconds, train_loss_step, gradient_norm_step``.
    ``step`` and ``samples`` count from the start of training and include the step itself. The loss
    is that of the whole batch, for any number of processes. The norm is the L2 norm of the gradient
    over all parameters, before clipping. Both stay on the device until the epoch ends, so no step
    waits for them. As steps are not timed individually, the epoch's seconds are spread evenly.

    The checkpoint stores everything, so a resumed run has the same points.

    Attributes:
        points: points of all finished epochs, in order.
        waiting: pass it to the trainer as its profiler.
    """

    def __init__(self) -> None:
        self.points: list[dict[str, float]] = []
        self.waiting = Waiting()
        self._open: list[tuple[int, Tensor]] = []  # this epoch: batch, (loss, norm)
        self._norm: Tensor | None = None

    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        # As tensors: reading them would wait for the GPU.
        return {"points": self.points, "open": list(self._open), "waited": self.waiting.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # noqa: D102
        self.points = list(state_dict["points"])
        self._open = [(batch, torch.as_tensor(values)) for batch, values in state_dict["open"]]
        self.waiting.seconds = state_dict["waited"]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        self._open, self.waiting.seconds = [], 0.0

    def on_before_optimizer_step(  # noqa: D102
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any
    ) -> None:
        if _is_point(trainer):
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            self._norm = get_total_norm(gradients)

    def on_train_batch_end(  # noqa: D102
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *args: Any
    ) -> None:
        if not _is_point(trainer):
            return
        assert self._norm is not None
        loss = outputs.get("train_loss", outputs["loss"]).detach().clone()
        if trainer.world_size > 1:  # the processes' weighted losses average to the batch loss
            dist.all_reduce(loss)
            loss /= trainer.world_size
        self._open.append((_batch(trainer), torch.stack([loss, self._norm])))

    def close_epoch(
        self, trainer: pl.Trainer, began: float, seconds: float
    ) -> list[dict[str, float]]:
        """Read the points of the finished epoch from the device.

        Args:
            trainer: the trainer at the end of the epoch.
            began: seconds of training before the epoch.
            seconds: duration of the epoch's training.
        """
        steps = int(trainer.num_training_batches)
        known = [values.to("cpu") for _, values in self._open]
        points = []
        for (batch, _), (loss, norm) in zip(self._open, known, strict=True):
            done = batch + 1
            points.append(
                {
                    "epoch": trainer.current_epoch,
                    "step": trainer.current_epoch * steps + done,
                    "samples": samples(trainer, done),
                    "elapsed_seconds": began + seconds * done / steps,
                    "train_loss_step": float(loss),
                    "gradient_norm_step": float(norm),
                }
            )
        self._open = []
        self.points = [*self.points, *points]
        return points


def samples(trainer: pl.Trainer, batches: int) -> int:
    """Count the training images seen up to the given number of batches of this epoch."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    images: int = data.images_per_epoch
    is_over = batches >= int(trainer.num_training_batches)
    within = images if is_over else batches * data.batch_size
    return trainer.current_epoch * images + within


def _batch(trainer: pl.Trainer) -> int:
    return trainer.fit_loop.epoch_loop.batch_idx


def _is_point(trainer: pl.Trainer) -> bool:
    every = ceil(int(trainer.num_training_batches) / POINTS)
    return (_batch(trainer) + 1) % every == 0
