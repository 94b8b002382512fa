"""What went wrong with a cell, in the one line that its user reads."""

import errno
import gc
import traceback

import torch

from tlunet.errors import UserError
from tlunet.model.memory import kept_bytes
from tlunet.model.network import TLUNet
from tlunet.study.cell import Cell
from tlunet.study.console import complain
from tlunet.study.files import write_text
from tlunet.study.hardware import free_memory

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
    if is_out_of_memory(error):
        traceback.clear_frames(error.__traceback__)  # what the failed step holds is given back
        return f"out of memory at batch_size={cell.config['batch_size']}; {_what_fits(cell)}"
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


def _what_fits(cell: Cell) -> str:
    """The largest batch, halving, that the free memory should hold."""
    gc.collect()
    if cell.hardware.accelerator == "cuda":
        torch.cuda.empty_cache()
    free = free_memory(cell.hardware.accelerator)
    batch_size = cell.config["batch_size"]
    while free is not None and (batch_size := batch_size // 2):
        if step_bytes(cell, batch_size) < free:
            return f"by estimate batch_size={batch_size} fits into the {free / 2**30:.1f} GiB free"
    return "a smaller data.size, or a machine with more memory"


def step_bytes(cell: Cell, batch_size: int) -> int:
    """Memory that a training step needs, roughly, if every activation is kept."""
    with torch.device("meta"):  # there may be no memory left for it
        network = TLUNet(cell.config["encoder"]["name"], len(cell.data.pack.classes))
    kept = kept_bytes(network, batch_size, cell.data.pack.size)
    if cell.hardware.precision == "bf16-mixed":
        kept //= 2
    return 3 * kept // 2  # gradients of activations live beside them for a while
