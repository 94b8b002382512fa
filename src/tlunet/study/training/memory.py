"""Estimating whether a training step fits into memory, and what to do if it does not."""

import re
from functools import cache, partial

import torch

from tlunet.data import residency
from tlunet.errors import ConfigError
from tlunet.machine.console import say
from tlunet.machine.memory import free_memory
from tlunet.model.memory import kept_bytes
from tlunet.model.network import TLUNet
from tlunet.runs.cell import Cell
from tlunet.runs.data import learnt_from_rest

#: What torch, CUDA, cuBLAS and cuDNN say if memory runs out: each allocates on its own.
_OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|_ALLOC(ATION)?_FAILED")


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that GPU or host memory ran out."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and bool(_OUT_OF_MEMORY.search(str(error)))
    )


def what_fits(cell: Cell, free: int | None) -> str:
    """Report an out-of-memory failure and the largest halved batch size that should fit.

    Args:
        cell: the cell that failed.
        free: free bytes before it started.
    """
    batch_size = cell.config["batch_size"]
    failed = f"out of memory at batch_size={batch_size}"
    while free is not None and (batch_size := batch_size // 2):
        if 1.25 * step_bytes(cell, batch_size) < free:  # leave room for everything else
            return f"{failed}; estimate: batch_size={batch_size} fits into {free / 2**30:.1f} GiB"
    return f"{failed}; use a smaller data.size or a machine with more memory"


def step_bytes(cell: Cell, batch_size: int) -> int:
    """Estimate the memory of a training step that keeps every activation.

    Args:
        cell: with one GPU per process, processes share the batch; on CPUs they also share memory.
        batch_size: total over all processes; images of the rest come on top of them.
    """
    if rest := learnt_from_rest(cell.config | {"batch_size": batch_size}):
        batch_size += rest["batch_size"]
    encoder, arch = cell.config["encoder"]["name"], cell.config["arch"]["name"]
    pack, machine = cell.data.pack, cell.hardware
    share = -(-batch_size // (machine.nodes if machine.accelerator == "cpu" else machine.processes))
    kept = _kept_bytes(encoder, len(pack.classes), arch, share, tuple(cell.data.train_size))
    if cell.hardware.precision == "bf16-mixed":
        kept //= 2
    return 3 * kept // 2  # activations and their gradients coexist for a while


@cache  # shared by the cells of a sweep
def _kept_bytes(
    encoder: str, classes: int, arch: str, batch_size: int, size: tuple[int, int]
) -> int:
    build = partial(TLUNet, encoder, classes, arch=arch)
    try:
        with torch.device("meta"):  # may not fit into memory
            network = build()
    except ConfigError:  # an encoder that runs computations in its constructor
        network = build()
    return kept_bytes(network, batch_size, size)


def free_for_steps(cell: Cell) -> int | None:
    """Return the bytes a step may use; packs on the GPU make way unless explicitly requested."""
    free = free_memory(cell.hardware.accelerator)
    if free is None:
        return None
    is_held = cell.data.residency == "gpu"
    return free + residency.resident_bytes() - (cell.data.pack.nbytes if is_held else 0)


def is_short_of_memory(cell: Cell, free: int | None) -> bool:
    """Whether a step's activations do not fit; recomputing them leaves results unchanged."""
    needed = cell.data.reserved = step_bytes(cell, cell.config["batch_size"])
    if free is None or needed < free:
        return False
    say(
        f"  {cell.title}: a step needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free; "
        "encoder activations are recomputed (slower, same results)"
    )
    return True
