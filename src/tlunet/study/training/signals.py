"""Signals during a run, handled between two batches, where a checkpoint can be written."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

#: Ctrl+C; sent by schedulers and ``kill``; sent by Slurm to submitit before the time limit.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


class Stopped(BaseException):
    """A signal stopped the cell; the same command resumes it from its last checkpoint.

    Not an ``Exception``, so that code that tolerates a failed cell does not catch it.

    Args:
        signum: number of the signal.
    """

    def __init__(self, signum: int) -> None:
        self.signum = signum
        super().__init__(signum)  # the constructor's argument, so that it can be pickled

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.signum).name}"


class Stopping:
    """Signals received by a running cell.

    Attributes:
        requested: the first signal received, or ``None``.
        is_deferred: whether :attr:`requested` is checked regularly; otherwise a signal raises
            :class:`Stopped` at once. A further signal more than a second later always raises.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self.is_deferred = False
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def note(self, signum: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.requested is None:
            self.requested, self._since = signum, time.monotonic()
        if not self.is_deferred or time.monotonic() - self._since > 1:
            raise Stopped(signum)

    def heed(self) -> None:
        """Install the handlers; call it again after a trainer has started and replaced them."""
        if threading.current_thread() is not threading.main_thread():
            return  # Python delivers signals only to the main thread
        for signum in SIGNALS:
            handler = signal.getsignal(signum)
            if signum == signal.SIGUSR2 and not callable(handler):
                continue  # no handler installed: keep the default action
            if handler != self.note:
                self._before.setdefault(signum, handler)
                signal.signal(signum, self.note)

    def pass_on(self) -> None:
        """Restore the previous handlers and forward the received signal to its own.

        In a Slurm job that is submitit's handler, which requeues the job near its time limit.
        """
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        before = self._before.get(self.requested) if self.requested else None
        if self.requested == signal.SIGUSR2 and callable(before):
            before(self.requested, None)


@contextmanager
def heed_signals() -> Iterator[Stopping]:
    """Within the block, signals raise :class:`Stopped`, unless they are deferred."""
    stopping = Stopping()
    stopping.heed()
    try:
        yield stopping
    finally:
        stopping.is_deferred = False
        stopping.pass_on()
