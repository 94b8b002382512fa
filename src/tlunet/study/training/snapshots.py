"""Writes checkpoints in the background, without holding up training or a GPU's queue."""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor

from tlunet.machine.files import write_whole

BEST = "best.ckpt"  # written before all others: see Snapshots


class Snapshot(NamedTuple):
    """The content of a checkpoint at one moment; training may change the originals."""

    content: dict[str, Any]
    is_copied: "torch.cuda.Event | None"  # the GPU's queue has made the copies; None on a CPU

    @classmethod
    def of(cls, checkpoint: dict[str, Any]) -> "Snapshot":
        """Copy every tensor on its own device; only queues work on a GPU, waits for nothing."""
        content = apply_to_collection(checkpoint, Tensor, lambda t: t.detach().clone())
        if not torch.cuda.is_initialized():
            return cls(content, None)
        event = torch.cuda.Event()
        event.record()
        return cls(content, event)

    def on_host(self, stream: "torch.cuda.Stream | None") -> dict[str, Any]:
        """Return the content in host memory.

        Args:
            stream: the GPU stream that copies, so that it waits for the copies that
                :meth:`of` has queued and for no later step.
        """
        if self.is_copied is None or stream is None:
            return self.content
        with torch.cuda.stream(stream):
            self.is_copied.wait(stream)
            # Into pinned memory, which torch keeps for the next snapshot.
            content = apply_to_collection(
                self.content, Tensor, lambda t: t.to("cpu", non_blocking=True)
            )
            stream.synchronize()
        return content


class Snapshots(TorchCheckpointIO):
    """Writes each checkpoint completely or not at all, in a thread.

    While one is written, at most one per file waits; a newer one of the same file replaces it, so
    a slow disk delays checkpoints but never piles them up. A waiting ``best.ckpt`` is written
    first: no ``last.ckpt`` on disk may name a best epoch that is not on disk.

    An error stops all further writing. It is raised by the next :meth:`save_checkpoint` and by
    :meth:`teardown`.

    Args:
        write: called with the content and the path; by default :func:`write_checkpoint`.
    """

    def __init__(self, write: Callable[[dict[str, Any], Path], None] | None = None) -> None:
        self._write = write or write_checkpoint
        self._waiting: dict[Path, Snapshot] = {}
        self._changing = Lock()
        self._thread: ThreadPoolExecutor | None = None
        self._error: BaseException | None = None
        self._stream: torch.cuda.Stream | None = None

    def save_checkpoint(  # noqa: D102
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        if self._error:
            raise self._error
        snapshot = Snapshot.of(checkpoint)
        if snapshot.is_copied and self._stream is None:
            self._stream = torch.cuda.Stream()  # here: a new thread starts with the first GPU
        with self._changing:
            self._waiting[Path(path)] = snapshot
        self._thread = self._thread or ThreadPoolExecutor(1, "checkpoints")
        self._thread.submit(self._write_next)

    def teardown(self) -> None:
        """Wait until everything is written.

        Raises:
            OSError: a checkpoint could not be written.
        """
        if self._thread is not None:
            self._thread.shutdown(wait=True)
            self._thread = None
        if self._error:
            raise self._error

    def _write_next(self) -> None:
        with self._changing:
            if self._error or not self._waiting:  # nothing: a newer one took its place
                return
            path = min(self._waiting, key=lambda path: path.name != BEST)
            snapshot = self._waiting.pop(path)
        try:
            self._write(snapshot.on_host(self._stream), path)
        except BaseException as error:
            self._error = error


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint; the file appears complete or not at all.

    Raises:
        OSError: the disk is full, or the folder is not writable.
    """
    buffer = io.BytesIO()  # torch's own writer does not report a full disk
    torch.save(content, buffer)
    write_whole(path, lambda temporary: temporary.write_bytes(buffer.getbuffer()))
