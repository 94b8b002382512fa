"""The processes that run a launcher's jobs, and the GPUs they claim."""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event
from types import FrameType

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from tlunet.machine import gpus
from tlunet.study.sweep.launcher import LEFT_OUT, STARTED_BY
from tlunet.study.training.signals import Stopped

_is_over = Event()  # in a worker: whether Ctrl+C has come


@contextmanager
def own_gpus(cells: Sequence[DictConfig]) -> Iterator[None]:
    """As many GPUs as the largest of the cells takes, before anything asks CUDA; nobody else's.

    Raises:
        ConfigError: they cannot be claimed.
    """
    wanted = [c.trainer.devices for c in cells if c.trainer.accelerator in ("auto", "cuda")]
    if not wanted:
        yield
        return
    with gpus.claim("auto" if "auto" in wanted else max(wanted), say=_say):
        yield


def run_job(cfg: DictConfig) -> float | None:
    """One of Hydra's jobs, in whichever process its launcher has put it.

    Returns:
        As :func:`tlunet.study.training.run.run`.
    """
    hydra = HydraConfig.get()
    left_out = os.environ.get(LEFT_OUT, "").split()
    if left_out and str(hydra.job.num) in left_out:
        return None
    os.chdir(hydra.runtime.cwd)  # where the command was typed: paths are relative to it
    from tlunet.study.training.run import run

    target = str(hydra.launcher._target_)
    if target.endswith(".BasicLauncher") or os.environ.get(STARTED_BY) == str(os.getpid()):
        return run(cfg)
    if share := os.environ.get("OMP_NUM_THREADS"):
        cfg.trainer.threads = cfg.trainer.threads or int(share)  # of this machine's cores
    if target.endswith(".JoblibLauncher"):
        return _run_in_pool(cfg)
    try:
        return run(cfg)
    except Stopped:
        if target.endswith(".RayLauncher"):  # a task that raises is over, one that dies is retried
            os._exit(1)
        raise


def _run_in_pool(cfg: DictConfig) -> float | None:
    """A cell in one of joblib's workers, which would kill the others in their midst if it raised.

    What ended the cell is written down in its folder.
    """
    from tlunet.study.training.run import run

    if _is_over.is_set():
        return None
    try:
        with own_gpus([cfg]):
            return run(cfg)
    except Stopped as stop:
        if stop.signum == signal.SIGINT:
            _is_over.set()
        return None


@contextmanager
def let_workers_end() -> Iterator[None]:
    """Ctrl+C goes to the workers, too: wait while they write their checkpoints.

    A second one waits for nothing.

    Raises:
        KeyboardInterrupt: at the end.
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


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
