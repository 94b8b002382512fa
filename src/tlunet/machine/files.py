"""Atomic file writes, lock files, and what a folder contains."""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LONGEST = 255  # bytes of a file name, on nearly all file systems


def example_of(folder: Path, name: str) -> str:
    """Name a sub-folder that has a file, as the end of a message: ", such as …", or nothing."""
    files = sorted(folder.glob(f"*/{name}"))
    return f", such as {files[0].parent}" if files else ""


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a lock file; the lock is released when its process ends.

    Args:
        path: the lock file; created if missing and not removed.
        wait: whether to wait until another process releases it.

    Yields:
        Whether this process holds the lock; always ``True`` with ``wait``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


def write_whole(path: Path, write: Callable[[Path], object], flush: bool = True) -> None:
    """Let ``write`` fill a temporary file next to ``path``, then rename it atomically.

    Args:
        path: the file; its folder is made if it is missing.
        write: called with the temporary file.
        flush: whether to wait for the disk; else a system crash can leave an empty file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        write(temporary)
        if flush:
            sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """Return a hidden name next to ``path``, no longer than a file system allows."""
    name = path.name
    if len(name.encode(errors="surrogateescape")) > LONGEST - 20:
        name = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:16]
    return path.with_name(f".{name}.{os.getpid()}")


def sync(path: Path) -> None:
    """Flush a file to disk, no matter which process wrote it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically; NaN and infinities are not valid JSON and are refused.

    Raises:
        ValueError: the content contains NaN or an infinity.
    """
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file's object; empty if the file does not exist."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
