"""Signals while a cell runs: heeded between two batches, where a checkpoint can be written."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

#: Ctrl+C; what schedulers and ``kill`` send; what Slurm sends submitit before the time is over.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


class Stopped(BaseException):
    """A signal ended the cell; the same command goes on from its last checkpoint.

    No ``Exception``: nothing that forgives a failed cell may forgive this.

    Args:
        signum: which signal.
    """

    def __init__(self, signum: int) -> None:
        self.signum = signum
        super().__init__(signum)  # as it was made, so that it can be pickled

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.signum).name}"


class Stopping:
    """What a running cell knows of signals.

    Attributes:
        requested: the first signal that came, ``None`` as long as there is none.
        is_deferred: whether somebody looks at :attr:`requested` soon; else a signal raises
            :class:`Stopped` at once. So does another one a second later, or more.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self.is_deferred = False
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def note(self, signum: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if self.requested is None:
            self.requested, self._since = signum, time.monotonic()
        if not self.is_deferred or time.monotonic() - self._since > 1:
            raise Stopped(signum)

    def heed(self) -> None:
        """Take the signals; a trainer takes them for itself when it starts, so this is repeated."""
        if threading.current_thread() is not threading.main_thread():
            return  # Python delivers signals to the main thread alone
        for signum in SIGNALS:
            handler = signal.getsignal(signum)
            if signum == signal.SIGUSR2 and not callable(handler):
                continue  # nobody asked for it: its meaning stays what it is
            if handler != self.note:
                self._before.setdefault(signum, handler)
                signal.signal(signum, self.note)

    def pass_on(self) -> None:
        """Give the signals back, and the one that came to whom it was meant for.

        In a Slurm job that is submitit, which requeues the job when its time is nearly over.
        """
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        before = self._before.get(self.requested) if self.requested else None
        if self.requested == signal.SIGUSR2 and callable(before):
            before(self.requested, None)


@contextmanager
def heed_signals() -> Iterator[Stopping]:
    """Signals raise :class:`Stopped` in the block, or wait where they are deferred."""
    stopping = Stopping()
    stopping.heed()
    try:
        yield stopping
    finally:
        stopping.is_deferred = False
        stopping.pass_on()
