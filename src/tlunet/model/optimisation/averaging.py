"""An exponential moving average of a network's weights."""

from collections.abc import Mapping
from itertools import chain

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

PREFIX = "average.module."  # of the averaged tensors in a task's state dict


class WeightAverage(AveragedModel):
    """Exponential moving average of a network, with the running statistics of its normalisation.

    ``a ← d·a + (1 − d)·w`` after each optimiser step, with ``d = min(decay, (1 + n) / (10 + n))``
    after n earlier updates, so that short runs soon forget their random start. Floating-point
    buffers are averaged like weights, as the statistics must fit the averaged weights; integer
    buffers are copied.

    Args:
        network: the network; the average starts as a copy of it and gets no gradient.
        decay: d after the warm-up, in (0, 1).

    Example:
        >>> average = WeightAverage(nn.Linear(1, 1), decay=0.99)
        >>> average.decay_after(0), average.decay_after(10_000)
        (0.1, 0.99)
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network, use_buffers=True)
        self.decay = decay
        self.requires_grad_(False)

    def decay_after(self, updates: int) -> float:
        """Decay of the update that follows a number of earlier ones."""
        return min(self.decay, (1 + updates) / (10 + updates))

    @torch.no_grad()
    def update_after(self, updates: int, network: nn.Module) -> None:
        """Include the network's current weights.

        Unlike ``update_parameters``, it does not read ``n_averaged``, which would wait for the GPU
        in every step.

        Args:
            updates: number of earlier updates.
            network: the network of the constructor.
        """
        pairs = list(
            zip(_tensors(self.module), _tensors(network), strict=True)  # same order: a copy
        )
        floating = [(mean, new) for mean, new in pairs if mean.is_floating_point()]
        means, new = (list(side) for side in zip(*floating, strict=True))
        get_ema_multi_avg_fn(self.decay_after(updates))(means, new, updates)
        for count, new_count in pairs:
            if not count.is_floating_point():
                count.copy_(new_count)
        self.n_averaged += 1


def _tensors(network: nn.Module) -> list[Tensor]:
    return [t.detach() for t in chain(network.parameters(), network.buffers())]


def averaged(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the averaged tensors of a checkpoint's weights, without prefix; empty if it has none.

    >>> averaged({"network.bias": torch.zeros(1), "average.module.bias": torch.ones(1)})
    {'bias': tensor([1.])}
    >>> averaged({"network.bias": torch.zeros(1)})
    {}
    """
    return {k.removeprefix(PREFIX): v for k, v in weights.items() if k.startswith(PREFIX)}
