"""What a step costs in memory and arithmetic, and how to need less memory for the same numbers.

Between the forward and the backward pass every activation is kept. Recomputing the encoder's in
the backward pass instead costs one more forward pass of the encoder and changes no number.
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
    """Bytes that the forward pass of a training step keeps for the backward pass, in float32.

    Counted by sending shapes alone through the network, on torch's meta device.

    Args:
        network: takes images (B, 1, H, W); it is moved to the meta device and of no use after.
        batch_size: B.
        size: (H, W).
    """
    seen: dict[int, int] = {}
    alive: list[Tensor] = []  # an id is unique only as long as its storage lives

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
    """Floating-point operations of one forward pass; a multiply-add counts as two.

    Only matrix products and convolutions are counted, as is usual; training costs about three times
    as much.

    Args:
        network: moved to the meta device and of no use after. What a network costs is said of
            :func:`tlunet.model.network.library_network`, whatever is saved in running it.
        shape: of its input, (1, 3, H, W) for one image.
    """
    network = network.to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(shape, device="meta"))
    return counter.get_total_flops()


def recompute(module: nn.Module, x: Tensor) -> list[Tensor]:
    """``module(x)``, its activations not kept but computed again in the backward pass.

    The second pass leaves the running statistics of batch normalisation alone: they have seen
    this batch already.
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
        norm.momentum = 0.0  # running · (1 - 0) + batch · 0: as it was, to the bit
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
