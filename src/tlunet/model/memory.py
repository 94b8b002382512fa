"""Memory and FLOPs of a training step, and how to save memory without changing results.

Every activation is kept from the forward to the backward pass. Recomputing those of the encoder in
the backward pass costs one more forward pass of the encoder and does not change any result.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode


def kept_bytes(network: nn.Module, batch_size: int, size: tuple[int, int]) -> int:
    """Count bytes that the forward pass of a training step keeps for the backward pass, in float32.

    Only shapes are propagated, on torch's meta device.

    Args:
        network: takes images (B, 1, H, W); it is moved to the meta device and unusable afterwards.
        batch_size: B.
        size: (H, W).
    """
    seen: dict[int, int] = {}
    alive: list[Tensor] = []  # an id is unique only while its storage exists

    def note(tensor: Tensor) -> Tensor:
        alive.append(tensor)
        storage = tensor.untyped_storage()
        seen[storage._cdata] = storage.nbytes()
        return tensor

    network = network.to("meta").train()
    weights = {p.untyped_storage()._cdata for p in network.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        network(torch.empty(batch_size, 1, *size, device="meta"))
    return sum(nbytes for storage, nbytes in seen.items() if storage not in weights)


def forward_flops(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Count floating-point operations of one forward pass; a multiply-add counts as two.

    Only matrix products and convolutions are counted, as usual; training costs about three times as
    much.

    Args:
        network: moved to the meta device and unusable afterwards. Reported costs are those of
            :func:`tlunet.model.network.library_network`, without our optimisations.
        shape: input shape, (1, 3, H, W) for one image.
    """
    network = network.to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(shape, device="meta"))
    return counter.get_total_flops()


def recompute(module: nn.Module, x: Tensor) -> list[Tensor]:
    """Compute ``module(x)``; its activations are not kept but recomputed in the backward pass.

    The second pass does not update the running statistics of batch normalisation: they already
    include this batch.
    """
    contexts = partial(_contexts, module)
    return checkpoint(module, x, use_reentrant=False, context_fn=contexts)


def _contexts(
    module: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _frozen_statistics(module)


@contextmanager
def _frozen_statistics(module: nn.Module) -> Iterator[None]:
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # running · (1 - 0) + batch · 0: unchanged, bit for bit
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
