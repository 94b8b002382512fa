"""Two ways of training, timed in turn in one process: A B A B …, medians and ratios.

A turn is a real ``Trainer.fit`` or ``Trainer.validate``. The clock runs from the end of one step
to the end of a later one, so that fetching the batches between them is in it and starting the
loop and its workers is not; on a GPU the queue is emptied at both ends.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from tlunet.machine import device
from tlunet.machine.device import Hardware


@dataclass
class Side:
    """One of the things compared.

    Attributes:
        name: as tables say it.
        fit: trains for so many steps with these callbacks; yields nothing.
        evaluate: likewise without gradients; ``None`` if that is not compared.
        before: what is set before each of its turns and belongs to it, as the allocator's ways.
        images: trained a second, a value a turn.
        eval_images: evaluated a second, a value a turn.
        waiting: share of the time in which the loop waited for a batch, a value a turn.
        peak: bytes held at most in training, a value a turn.
    """

    name: str
    fit: Callable[[int, list[Callback]], None]
    evaluate: Callable[[int, list[Callback]], None] | None = None
    before: Callable[[], None] = lambda: None
    images: list[float] = field(default_factory=list)
    eval_images: list[float] = field(default_factory=list)
    waiting: list[float] = field(default_factory=list)
    peak: list[int] = field(default_factory=list)


class Clock(Callback):
    """Images a second, and the share of waiting, over the steps after the first few.

    Args:
        warmup: steps not counted, at least 1.
        steps: steps counted.
        accelerator: whose queue is emptied before the clock is read.
    """

    def __init__(self, warmup: int, steps: int, accelerator: str) -> None:
        self.warmup, self.steps, self.accelerator = warmup, steps, accelerator
        self.done = self.images = 0
        self.waited = self.began = self.ended = 0.0

    def on_train_batch_end(  # noqa: D102
        self, trainer: Any, module: Any, outputs: Any, batch: Any, i: int
    ) -> None:
        self._count(batch)

    def on_validation_batch_end(  # noqa: D102
        self, trainer: Any, module: Any, outputs: Any, batch: Any, i: int, loader: int = 0
    ) -> None:
        self._count(batch)

    def _count(self, batch: Any) -> None:
        self.done += 1
        if self.done == self.warmup:
            self.began, self.waited = self._now(), 0.0
        elif self.warmup < self.done <= self.warmup + self.steps:
            self.images += len(batch["id"])
            if self.done == self.warmup + self.steps:
                self.ended = self._now()

    def _now(self) -> float:
        if self.accelerator == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    @property
    def images_per_second(self) -> float:
        """Over the steps counted."""
        return self.images / (self.ended - self.began)

    @property
    def waiting(self) -> float:
        """Share of the time that went by between asking for a batch and having it."""
        return self.waited / (self.ended - self.began)


class Watched:
    """A loader whose batches are waited for on a clock, and which never ends.

    Args:
        loader: the loader.
        clock: what the waiting is added to.
    """

    def __init__(self, loader: Any, clock: Clock) -> None:
        self.loader, self.clock = loader, clock

    def __iter__(self) -> Iterator[Any]:
        while True:
            batches = iter(self.loader)
            while True:
                asked = time.perf_counter()
                try:
                    batch = next(batches)
                except StopIteration:
                    break
                # The clock is set back when the warm-up ends; what was waited before is no part.
                self.clock.waited += time.perf_counter() - asked
                yield batch


def take_turns(
    sides: Sequence[Side],
    *,
    rounds: int,
    steps: int,
    warmup: int,
    accelerator: str,
    progress: Callable[[str], None] = lambda text: None,
) -> None:
    """Let each side train and evaluate once a round, and note what it reached.

    Args:
        sides: in the order of their turns.
        rounds: turns a side.
        steps: counted in a turn.
        warmup: steps before them.
        accelerator: ``cuda``, ``mps`` or ``cpu``.
        progress: told what has been measured.
    """
    for number in range(rounds):
        for side in sides:
            device.free_memory(accelerator)
            side.before()
            device.forget_peak_memory(accelerator)
            clock = Clock(warmup, steps, accelerator)
            side.fit(warmup + steps, [clock])
            side.images.append(clock.images_per_second)
            side.waiting.append(clock.waiting)
            side.peak.append(device.peak_memory(accelerator))
            speed = f"{clock.images_per_second:.3g} images/s"
            text = f"round {number + 1}/{rounds} {side.name}: {speed}"
            if side.evaluate:
                clock = Clock(warmup, steps, accelerator)
                side.evaluate(warmup + steps, [clock])
                side.eval_images.append(clock.images_per_second)
                text += f", evaluation {clock.images_per_second:.3g} images/s"
            progress(text)


def trainer(
    machine: Hardware, precision: str, verb: str, steps: int, callbacks: list[Callback]
) -> pl.Trainer:
    """Lightning's trainer for one turn of a few steps: ``fit`` or ``validate``."""
    return pl.Trainer(
        accelerator=machine.accelerator,
        devices=1,
        precision=precision,  # type: ignore[arg-type]
        max_steps=steps,
        limit_val_batches=steps if verb == "validate" else 0,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        benchmark=machine.accelerator == "cuda",
    )


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Ours over theirs, pair by pair: median, least and most.

    >>> ratios([2.0, 6.0, 4.0], [1.0, 2.0, 1.0])
    {'median': 3.0, 'min': 2.0, 'max': 4.0}
    """
    pairs = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {"median": statistics.median(pairs), "min": min(pairs), "max": max(pairs)}
