"""The optimiser of a task: Adam of the paper, or AdamW."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

OPTIMIZERS: dict[str, type[torch.optim.Adam]] = {
    "adam": torch.optim.Adam, "adamw": torch.optim.AdamW,
}  # fmt: skip


def make_optimizer(
    network: nn.Module,
    name: str = "adam",
    *,
    lr: float,
    betas: Sequence[float],
    weight_decay: float = 0.0,
    fused: bool = True,
) -> torch.optim.Adam:
    """Create an optimiser of a network's weights.

    Args:
        network: the network.
        name: ``adam`` or ``adamw``.
        lr: learning rate.
        betas: (β₁, β₂).
        weight_decay: of matrices and kernels; biases and normalisation layers do not decay.
        fused: whether a step is one kernel.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1))
        >>> adamw = make_optimizer(network, "adamw", lr=1e-3, betas=(0.9, 0.999), weight_decay=0.1)
        >>> [(len(group["params"]), group["weight_decay"]) for group in adamw.param_groups]
        [(1, 0.1), (3, 0.0)]
    """
    parameters: Iterator[Tensor] | list[dict[str, Any]] = network.parameters()
    if weight_decay:
        decaying = [p for p in network.parameters() if p.ndim > 1]
        others = [p for p in network.parameters() if p.ndim <= 1]
        parameters = [
            {"params": decaying, "weight_decay": weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
    return OPTIMIZERS[name](
        parameters, lr=lr, betas=(betas[0], betas[1]), weight_decay=0.0, fused=fused
    )
