"""Cores, threads, and worker processes for what threads of one cannot do in parallel."""

import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread


def cores() -> int:
    """Number of cores this process may use; a container or a scheduler can limit it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads(processes: int = 1) -> int:
    """CPU threads of one of several processes: its part of the cores, at most OMP_NUM_THREADS."""
    share = max(1, cores() // processes)
    most = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(most)) if most.isdigit() and int(most) else share


@contextmanager
def processes(n: int) -> Iterator[Executor]:
    """Open `n` worker processes; after an error no further work is started.

    They take a second or two to start and end with this process, even if it is killed.
    """
    # Spawned, not forked: the caller may have torch threads.
    pool = ProcessPoolExecutor(n, mp_context=get_context("spawn"), initializer=_end_with_parent)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """End the worker with its parent; else it would wait for work forever."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()
