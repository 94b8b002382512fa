"""Times several ways of training, alternating in one process (A B A B …): medians and ratios.

A turn is a real ``Trainer.fit`` or ``Trainer.validate``. The clock runs from the end of one step
to the end of a later one, so it includes fetching the batches between them and excludes starting
the loop and its workers. A GPU is synchronised at both ends.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from tlunet.machine import memory
from tlunet.machine.device import Hardware


@dataclass
class Side:
    """One side of the comparison.

    Attributes:
        name: name in tables.
        fit: trains for the given number of steps with the given callbacks; returns nothing.
        evaluate: the same without gradients; ``None`` if that is not compared.
        before: called before each of its turns, for settings such as the allocator's.
        images: images per second in training, one value per turn.
        eval_images: images per second in evaluation, one value per turn.
        waiting: fraction of time waiting for batches, one value per turn.
        peak: peak memory of training in bytes, one value per turn.
        first: seconds from the start of training to the end of its first step, one value per turn;
            the first turn includes compilation and the choice of kernels.
    """

    name: str
    fit: Callable[[int, list[Callback]], None]
    evaluate: Callable[[int, list[Callback]], None] | None = None
    before: Callable[[], None] = lambda: None
    images: list[float] = field(default_factory=list)
    eval_images: list[float] = field(default_factory=list)
    waiting: list[float] = field(default_factory=list)
    peak: list[int] = field(default_factory=list)
    first: list[float] = field(default_factory=list)


class Clock(Callback):
    """Measures images per second and the fraction of waiting time, after a warm-up.

    Args:
        warmup: untimed steps, at least 1.
        steps: timed steps.
        accelerator: device to synchronise before the clock is read.
    """

    def __init__(self, warmup: int, steps: int, accelerator: str) -> None:
        self.warmup, self.steps, self.accelerator = warmup, steps, accelerator
        self.done = self.images = 0
        self.waited = self.began = self.ended = 0.0
        self.made, self.first = time.perf_counter(), 0.0

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
        if self.done == 1:
            self.first = self._now() - self.made
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
        """Images per second over the timed steps."""
        return self.images / (self.ended - self.began)

    @property
    def waiting(self) -> float:
        """Fraction of time between requesting a batch and receiving it."""
        return self.waited / (self.ended - self.began)


class Watched:
    """An endless loader that measures the waiting time for batches.

    Args:
        loader: the loader.
        clock: the clock that the waiting time is added to.
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
                # The clock is reset when the warm-up ends, so earlier waiting does not count.
                self.clock.waited += time.perf_counter() - asked
                yield batch


def take_turns(
    sides: Sequence[Side],
    *,
    rounds: int,
    steps: int,
    warmup: int,
    accelerator: str,
    evaluates: bool = True,
    progress: Callable[[str], None] = lambda text: None,
) -> None:
    """Let each side train and evaluate once per round, and record its speed.

    Args:
        sides: the sides, in the order of their turns.
        rounds: rounds per side.
        steps: timed steps per round.
        warmup: untimed steps before them.
        accelerator: ``cuda``, ``mps`` or ``cpu``.
        evaluates: whether to measure evaluation too.
        progress: called with each measurement.
    """
    for number in range(rounds):
        for side in sides:
            memory.free_memory(accelerator)
            side.before()
            memory.forget_peak_memory(accelerator)
            clock = Clock(warmup, steps, accelerator)
            side.fit(warmup + steps, [clock])
            side.images.append(clock.images_per_second)
            side.waiting.append(clock.waiting)
            side.peak.append(memory.peak_memory(accelerator))
            side.first.append(clock.first)
            speed = f"{clock.images_per_second:.3g} images/s"
            text = f"round {number + 1}/{rounds} {side.name}: {speed}"
            if side.evaluate and evaluates:
                clock = Clock(warmup, steps, accelerator)
                side.evaluate(warmup + steps, [clock])
                side.eval_images.append(clock.images_per_second)
                text += f", evaluation {clock.images_per_second:.3g} images/s"
            progress(text)


def trainer(
    machine: Hardware,
    precision: str,
    verb: str,
    steps: int,
    callbacks: list[Callback],
    benchmark: bool | None = None,
) -> pl.Trainer:
    """Create a Lightning trainer for one turn of a few steps: ``fit`` or ``validate``.

    ``benchmark`` lets cuDNN time its kernels for every shape; ``None`` leaves that to callbacks.
    """
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
        benchmark=benchmark,
    )


def earned_at(side: Side, plain: Side, batch_size: int) -> int | None:
    """Training step from which a side with a slower start is ahead; ``None``: never.

    Args:
        side: the side, for example a compiled one.
        plain: the side it is compared with.
        batch_size: images per step.

    >>> late, soon = (Side(name, fit=lambda steps, callbacks: None) for name in ("late", "soon"))
    >>> late.first, late.images = [60.0], [200.0]
    >>> soon.first, soon.images = [2.0], [100.0]
    >>> earned_at(late, soon, batch_size=10)  # 58 s later, each step 0.05 s shorter
    1161
    """
    slower, faster = (batch_size / statistics.median(s.images) for s in (plain, side))
    if faster >= slower:
        return None
    return 1 + max(0, math.ceil((side.first[0] - plain.first[0]) / (slower - faster)))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Ours divided by theirs, pair by pair: median, minimum and maximum.

    >>> ratios([2.0, 6.0, 4.0], [1.0, 2.0, 1.0])
    {'median': 3.0, 'min': 2.0, 'max': 4.0}
    """
    pairs = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {"median": statistics.median(pairs), "min": min(pairs), "max": max(pairs)}
