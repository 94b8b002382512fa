"""Claims GPUs for this process, so that no two cells share one by accident.

The choice must be made before CUDA is initialised, hence without torch.
"""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tlunet.errors import ConfigError, path_of, reason_of
from tlunet.machine.files import locked

#: ``GPU 0: NVIDIA H200 (UUID: GPU-8f…)``; MIG slices are indented: ``MIG 3g.71gb Device 0: (…)``.
_LISTED = re.compile(r"^(?P<indent>\s*)(?:GPU|MIG) .*\(UUID: (?P<uuid>[^)]+)\)")


def number_by_bus() -> None:
    """Let CUDA number GPUs by PCI bus, as ``nvidia-smi`` does; its default is the fastest first.

    Before CUDA is initialised; it reads the variable only once.
    """
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"


def listed() -> list[str]:
    """UUIDs of all GPUs in the driver's order; a GPU with MIG slices is replaced by its slices."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    gpus: list[list[str]] = []
    for match in map(_LISTED.match, done.stdout.splitlines()):
        if match and match["indent"]:
            gpus[-1].append(match["uuid"])
        elif match:
            gpus.append([match["uuid"]])
    return [uuid for gpu in gpus for uuid in gpu[1:] or gpu]


def visible() -> list[str]:
    """The GPUs of :func:`listed` that ``CUDA_VISIBLE_DEVICES`` allows.

    It names them by number, by UUID or by a UUID prefix. Numbers are those of ``nvidia-smi``. As in
    CUDA, everything after an invalid name is also invisible.
    """
    there = listed()
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return there
    uuids: list[str] = []
    for name in wanted.split(","):
        name = name.strip()
        if name.isdecimal():
            fits = there[int(name) : int(name) + 1]
        else:
            fits = [uuid for uuid in there if name and uuid.startswith(name)]
        if len(fits) != 1:
            break
        uuids += fits
    return uuids


def count() -> int:
    """Number of cells that can each have their own GPU; 1 without a GPU, for a cell on the CPU."""
    return max(1, len(visible()))


def a_cell() -> int:
    """GPUs per cell: 1, or 0 if there are none."""
    return min(1, len(visible()))


@contextmanager
def claim(
    wanted: int | str = 1, *, say: Callable[[str], object] = print, pause: float = 1.0
) -> Iterator[list[str]]:
    """Claim GPUs that no other process of this user has claimed, and hide all others from CUDA.

    A claim is a file lock, so it ends with the block or with the process, even if it is killed. If
    all GPUs are claimed, this waits. ``CUDA_VISIBLE_DEVICES`` stays set after the block: CUDA reads
    it only once, and the next claim of this process must be on the same GPU.

    Args:
        wanted: number of GPUs; ``auto``: all visible ones.
        say: called once with a message if it has to wait.
        pause: seconds between two attempts.

    Yields:
        Their UUIDs; empty if there are too few GPUs (the caller reports that).

    Raises:
        ConfigError: the folder of the lock files is not writable.
    """
    there = visible()
    number = len(there) if wanted == "auto" else int(wanted)
    if not 0 < number <= len(there):
        yield []
        return
    with ExitStack() as locks:
        is_told = False
        while not (mine := _take(there, number, locks)):
            if not is_told:
                of_them = f"{number} of {len(there)} GPUs" if len(there) > 1 else "the GPU"
                say(f"waiting for {of_them}: in use by your other cells (trainer=cpu needs no GPU)")
                is_told = True
            time.sleep(pause)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
        number_by_bus()
        yield mine


def _take(there: Sequence[str], number: int, locks: ExitStack) -> list[str]:
    """Claim all of them at once, or none."""
    mine = []
    with ExitStack() as taken:
        for uuid in there:
            if taken.enter_context(locked(_lock_file(uuid), wait=False)):
                mine.append(uuid)
            if len(mine) == number:
                locks.push(taken.pop_all())
                return mine
    return []


def _lock_file(uuid: str) -> Path:
    folder = Path(tempfile.gettempdir()) / f"tlunet-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{path_of(error, folder)}: {reason_of(error)}; GPU locks are kept there, set "
            "TMPDIR to move them"
        ) from error
    return folder / f"{uuid.replace('/', '-')}.lock"
