"""What went wrong with a cell, in the one line that its user reads."""

import errno
import traceback
from functools import cache, partial

import torch

from tlunet.errors import ConfigError, UserError
from tlunet.machine.console import complain
from tlunet.machine.files import write_text
from tlunet.model.memory import kept_bytes
from tlunet.model.network import TLUNet
from tlunet.study.training.resolve import Cell

_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "your quota is used up: free some space",
    errno.EROFS: "the file system is read-only: set paths.runs and paths.data to another",
    errno.EACCES: "set paths.runs and paths.data to folders that you may write to",
}
_AGAIN = "the same command goes on from the last checkpoint"


def explain(error: Exception, cell: Cell) -> str:
    """What failed and what to do; what nobody foresaw is written to ``traceback.txt`` whole."""
    if isinstance(error, UserError):
        return "; ".join(error.lines)
    if isinstance(error, OSError) and error.errno in _ADVICE:
        where = error.filename or cell.folder
        return f"{where}: {error.strerror}; {_ADVICE[error.errno]}, and {_AGAIN}"
    first = (str(error).splitlines() or [""])[0]
    try:
        write_text(cell.folder / "traceback.txt", "".join(traceback.format_exception(error)))
    except OSError as unwritten:
        complain(f"{cell.folder}: {unwritten.strerror}: the traceback cannot be written there")
        complain(*traceback.format_exception(error))
    return f"{type(error).__name__}: {first} (see {cell.folder}/traceback.txt)"


def is_out_of_memory(error: Exception) -> bool:
    """Whether the GPU's or the machine's memory ran out."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def what_fits(cell: Cell, free: int | None) -> str:
    """That a step was too large, and the largest batch, halving, that the memory should hold.

    Args:
        cell: the one that failed.
        free: bytes before it began.
    """
    batch_size = cell.config["batch_size"]
    failed = f"out of memory at batch_size={batch_size}"
    while free is not None and (batch_size := batch_size // 2):
        if 1.25 * step_bytes(cell, batch_size) < free:  # something is left for all else
            return f"{failed}; by estimate batch_size={batch_size} fits into {free / 2**30:.1f} GiB"
    return f"{failed}; take a smaller data.size, or a machine with more memory"


def step_bytes(cell: Cell, batch_size: int) -> int:
    """Memory that a training step needs, roughly, if every activation is kept.

    Args:
        cell: processes that have a GPU each share the batch, those on CPUs share memory, too.
        batch_size: of all processes.
    """
    encoder, arch = cell.config["encoder"]["name"], cell.config["arch"]["name"]
    pack, machine = cell.data.pack, cell.hardware
    share = -(-batch_size // (machine.nodes if machine.accelerator == "cpu" else machine.processes))
    kept = _kept_bytes(encoder, len(pack.classes), arch, share, tuple(pack.size))
    if cell.hardware.precision == "bf16-mixed":
        kept //= 2
    return 3 * kept // 2  # gradients of activations live beside them for a while


@cache  # for the other cells of a sweep
def _kept_bytes(
    encoder: str, classes: int, arch: str, batch_size: int, size: tuple[int, int]
) -> int:
    build = partial(TLUNet, encoder, classes, arch=arch)
    try:
        with torch.device("meta"):  # there may be no memory left for it
            network = build()
    except ConfigError:  # an encoder that computes while it is built
        network = build()
    return kept_bytes(network, batch_size, size)
