"""The learning rate of each optimiser step."""

import math
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

SCHEDULES = ("constant", "cosine", "one_cycle")


def make_schedule(optimizer: Optimizer, name: str, warmup: float, steps: int) -> LRScheduler | None:
    """Create a scheduler to be stepped after every optimiser step.

    Args:
        optimizer: its learning rate is the largest of the schedule.
        name: ``constant``; ``cosine``, down to 0; or ``one_cycle`` (Smith and Topin 2019): up from
            1/25 and down to 1/250,000 of the rate, both as cosines.
        warmup: fraction of the steps in which the rate rises: linearly from 0, or in the first part
            of ``one_cycle``.
        steps: number of steps of a whole training.

    Returns:
        The scheduler; ``None`` for a constant learning rate.
    """
    if name == "one_cycle":
        highest = [group["lr"] for group in optimizer.param_groups]
        total = max(steps, 3)  # one step up, one down: OneCycleLR divides by their number
        up = max(float(warmup), 2 / total) if warmup else 0.0
        return OneCycleLR(optimizer, highest, total_steps=total, pct_start=up, cycle_momentum=False)
    if name == "constant" and not warmup:
        return None
    return LambdaLR(optimizer, partial(factor, name=name, rising=warmup * steps, steps=steps))


def factor(step: int, name: str, rising: float, steps: int) -> float:
    """Fraction of the largest learning rate in a step, counted from 0.

    Args:
        step: the step.
        name: ``constant`` or ``cosine``.
        rising: number of steps of the warm-up.
        steps: number of steps of a whole training.

    >>> [factor(step, "cosine", rising=2, steps=6) for step in (0, 1, 2, 4, 6)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    if step < rising:
        return min(1.0, (step + 1) / rising)
    if name == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(steps - rising, 1)))
