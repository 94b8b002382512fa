"""Optimiser, learning rate and clipping, step by step."""

import math

import pytest
import torch
from torch import nn

from tlunet.model.network import TLUNet
from tlunet.model.optimisation.schedule import make_schedule
from tlunet.model.task import DefectTask

LR = 1e-3


def rates(name: str, warmup: float, steps: int) -> list[float]:
    """Learning rate of each step."""
    optimizer = torch.optim.Adam(nn.Linear(1, 1).parameters(), lr=LR)
    schedule = make_schedule(optimizer, name, warmup, steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if schedule:
            schedule.step()
    return found


def test_constant_is_no_schedule() -> None:
    assert rates("constant", 0.0, 5) == [LR] * 5


def test_warmup_rises_linearly() -> None:
    found = rates("constant", 0.4, 10)
    assert found == pytest.approx([LR / 4, LR / 2, 3 * LR / 4, *[LR] * 7])


def test_cosine_falls_to_zero() -> None:
    expected = [LR * (1 + math.cos(math.pi * k / 8)) / 2 for k in range(8)]
    assert rates("cosine", 0.0, 8) == pytest.approx(expected)
    assert rates("cosine", 0.2, 10) == pytest.approx([LR / 2, LR, *expected])


def test_one_cycle_rises_and_falls() -> None:
    found = rates("one_cycle", 0.1, 100)
    assert found[0] == pytest.approx(LR / 25)
    assert max(found) == pytest.approx(found[9]) == pytest.approx(LR)
    assert found[-1] == pytest.approx(LR / 250_000)


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@pytest.mark.parametrize("warmup", [0, 0.1, 0.9])
@pytest.mark.parametrize("name", ["cosine", "one_cycle"])
def test_short_trainings_have_a_rate(name: str, warmup: float, steps: int) -> None:
    assert all(0 < rate <= LR * (1 + 1e-9) for rate in rates(name, warmup, steps))


def test_norms_and_biases_do_not_decay() -> None:
    network = TLUNet("mobilenet_v2")
    task = DefectTask(network, optimizer="adamw", weight_decay=0.1, betas=(0.9, 0.999))
    optimizer = task.configure_optimizers()
    assert isinstance(optimizer, torch.optim.AdamW)
    decaying, others = optimizer.param_groups
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert {p.ndim for p in others["params"]} == {1}
    assert sum(len(g["params"]) for g in (decaying, others)) == len(list(network.parameters()))


def test_gradients_are_clipped_to_a_norm() -> None:
    task = DefectTask(TLUNet("mobilenet_v2"), clip=0.5)
    gradients = []
    for p in task.network.parameters():
        p.grad = torch.ones_like(p)
        gradients.append(p.grad)
    task.configure_gradient_clipping(None)
    assert float(nn.utils.get_total_norm(gradients)) == pytest.approx(0.5, rel=1e-2)
    assert all(torch.equal(g, g.flatten()[0].expand_as(g)) for g in gradients[:3])
