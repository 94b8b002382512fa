"""Running a launcher's jobs in their processes, and claiming GPUs for them."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event
from types import FrameType

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from tlunet.machine import gpus
from tlunet.machine.streams import make_patient
from tlunet.runs.cell import POSITION
from tlunet.study.sweep.launcher import CELLS, LEFT_OUT, STARTED_BY
from tlunet.study.training.signals import Stopped

Then = Callable[[Path], None]
_is_over = Event()  # in a worker: whether Ctrl+C was received


@contextmanager
def own_gpus(cells: Sequence[DictConfig]) -> Iterator[None]:
    """Claim as many free GPUs as the largest cell needs, before CUDA is initialised.

    Raises:
        ConfigError: the GPUs cannot be claimed.
    """
    wanted = [c.trainer.devices for c in cells if c.trainer.accelerator in ("auto", "cuda")]
    if not wanted:
        yield
        return
    with gpus.claim(
        "auto" if "auto" in wanted else max(wanted), say=partial(print, file=sys.stderr)
    ):
        yield


def run_job(cfg: DictConfig, then: Then | None = None) -> float | None:
    """Run one Hydra job in the process that its launcher chose.

    Args:
        cfg: the configuration of one cell.
        then: called with the folder of the finished cell.

    Returns:
        Same as :func:`tlunet.study.training.run.run_cell`.
    """
    make_patient()
    hydra = HydraConfig.get()
    left_out = os.environ.get(LEFT_OUT, "").split()
    if left_out and str(hydra.job.num) in left_out:
        return None
    if cells := os.environ.get(CELLS):
        os.environ[POSITION] = _position(int(hydra.job.num), int(cells))
    os.chdir(hydra.runtime.cwd)  # paths are relative to where the command was run
    from tlunet.study.training.run import run_cell

    target = str(hydra.launcher._target_)
    if target.endswith(".BasicLauncher") or os.environ.get(STARTED_BY) == str(os.getpid()):
        return run_cell(cfg, then)
    os.environ["TTY_COMPATIBLE"] = "0"  # no live lines: several workers share the terminal
    if share := os.environ.get("OMP_NUM_THREADS"):
        cfg.trainer.threads = cfg.trainer.threads or int(share)  # this cell's part of the cores
    if target.endswith(".JoblibLauncher"):
        return _run_in_pool(cfg, then)
    try:
        return run_cell(cfg, then)
    except Stopped:
        if target.endswith(".RayLauncher"):  # Ray retries a task that dies, not one that raises
            os._exit(1)
        raise


def _position(number: int, cells: int) -> str:
    """Name a job by its place in a sweep.

    >>> _position(2, 8), _position(2, 0)
    ('[3/8]', '[3]')
    """
    digits = len(str(cells))
    return f"[{number + 1:>{digits}}/{cells}]" if cells else f"[{number + 1}]"


def _run_in_pool(cfg: DictConfig, then: Then | None) -> float | None:
    """Run a cell in a joblib worker; raising there would take the other workers down with it.

    The cell's folder records why it ended.
    """
    from tlunet.study.training.run import run_cell

    if _is_over.is_set():
        return None
    try:
        with own_gpus([cfg]):
            return run_cell(cfg, then)
    except Stopped as stop:
        if stop.signum == signal.SIGINT:
            _is_over.set()
        return None


@contextmanager
def let_workers_end() -> Iterator[None]:
    """On Ctrl+C, which also reaches the workers, wait until they have written their checkpoints.

    A second Ctrl+C ends the command at once.

    Raises:
        KeyboardInterrupt: at the end of the block, if Ctrl+C was pressed.
    """
    came = []

    def note(signum: int, frame: FrameType | None) -> None:
        came.append(signum)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt
