"""Which GPUs this process may use: no two cells share one by accident.

Asked and decided before CUDA is initialised, hence without torch.
"""

import fcntl
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tlunet.errors import ConfigError

#: ``GPU 0: NVIDIA H200 (UUID: GPU-8f…)``; a slice of one, indented: ``MIG 3g.71gb Device 0: (…)``.
_LISTED = re.compile(r"^(?P<indent>\s*)(?:GPU|MIG) .*\(UUID: (?P<uuid>[^)]+)\)")


def listed() -> list[str]:
    """Every GPU of this machine by its UUID, in the driver's order; MIG slices for their GPU."""
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
    """Those of :func:`listed` that ``CUDA_VISIBLE_DEVICES`` leaves.

    It names them by index, by UUID or by the beginning of one; what follows a wrong name is
    invisible, too. That is how CUDA reads it.
    """
    there = listed()
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return there
    found: list[str] = []
    for name in wanted.split(","):
        name = name.strip()
        if name.isdecimal():
            fits = there[int(name) : int(name) + 1]
        else:
            fits = [uuid for uuid in there if name and uuid.startswith(name)]
        if len(fits) != 1:
            break
        found += fits
    return found


def count() -> int:
    """How many cells have a GPU to themselves here; 1 where there is none: a cell on the CPU."""
    return max(1, len(visible()))


def a_cell() -> int:
    """How many a cell takes here: 1, or 0 where there is none."""
    return min(1, len(visible()))


@contextmanager
def claim(
    wanted: int | str = 1, *, say: Callable[[str], object] = print, pause: float = 1.0
) -> Iterator[list[str]]:
    """Take GPUs that no other process of this user has claimed, and let CUDA see no other.

    A claim is a lock on a file, so it ends with the block or its process, however that ends. Where
    all are claimed this waits. What CUDA may see stays after the block: CUDA asks only once, and
    the process's next claim must be on the same GPU.

    Args:
        wanted: how many; ``auto``: all that are visible.
        say: told, once, that there is something to wait for.
        pause: between two looks, in seconds.

    Yields:
        Their UUIDs; none where there is no GPU, or not as many (whoever uses them says so).

    Raises:
        ConfigError: the folder of the locks cannot be written to.
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
                say(f"waiting for {of_them}: other cells of yours run there (trainer=cpu: without)")
                is_told = True
            time.sleep(pause)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
        yield mine


def _take(there: Sequence[str], number: int, locks: ExitStack) -> list[str]:
    """So many at once, or none."""
    mine = []
    with ExitStack() as taken:
        for uuid in there:
            with suppress(BlockingIOError):
                taken.enter_context(_lock(uuid))
                mine.append(uuid)
            if len(mine) == number:
                locks.push(taken.pop_all())
                return mine
    return []


@contextmanager
def _lock(uuid: str) -> Iterator[None]:
    folder = Path(tempfile.gettempdir()) / f"tlunet-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        file = (folder / f"{uuid.replace('/', '-')}.lock").open("a")
    except OSError as error:
        raise ConfigError(
            f"{error.filename}: {error.strerror}; GPUs are claimed there, TMPDIR moves it"
        ) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
