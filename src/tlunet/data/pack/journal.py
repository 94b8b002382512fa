"""Work that can be broken off at any moment: files being filled, and a journal that vouches.

``begun.json`` says what is being made; the files have their final length from the start, and every
item its place in them. ``journal.jsonl`` has a line a batch of items, in order, with an entry
``{"row": …}`` or ``{"faults": […]}`` for each. A line is written once its batch is on the disk, so
what it vouches for survives a kill and a power cut; whoever goes on, goes on behind it.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


class Part:
    """A folder with something unfinished in it.

    Args:
        folder: where it lies, or will.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def note(self) -> dict[str, Any]:
        """What `begin` was told; empty where there is nothing to go on with."""
        try:
            note: dict[str, Any] = json.loads((self.folder / "begun.json").read_text())
            whole = all((self.folder / f).stat().st_size == n for f, n in note["files"].items())
        except (OSError, ValueError):
            return {}
        return note if whole else {}

    def begin(self, note: Mapping[str, Any]) -> None:
        """Start over, with nothing done.

        Args:
            note: JSON that says what is being made; ``files`` in it are names and lengths.
        """
        self.remove()
        for name, length in note["files"].items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            os.truncate(path, length)
        (self.folder / "begun.json").write_text(json.dumps(note))  # last: all is there

    def remove(self) -> None:
        """Leave nothing of it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def fill(self, name: str, place: int, shares: Iterable[memoryview]) -> None:
        """Write into a file, from any process; nothing vouches for it yet.

        Args:
            name: the file.
            place: the byte to start at.
            shares: one after the other.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        with (self.folder / name).open("r+b") as file:
            file.seek(place)
            file.writelines(shares)

    def entries(self, kind: str) -> Iterator[Any]:
        """The journal's entries of a kind, ``row`` or ``faults``, in order."""
        with (self.folder / "journal.jsonl").open("rb") as file:
            for entries, _ in _lines(file):
                yield from (entry[kind] for entry in entries if kind in entry)

    @contextmanager
    def journal(self) -> Iterator["Journal"]:
        """Open the journal to go on where it ends; on leaving, all of it is on the disk.

        Raises:
            OSError: the disk is full or cannot be written; the journal stays true.
        """
        files = [self.folder / name for name in self.note["files"]]
        with (self.folder / "journal.jsonl").open("a+b") as file, ThreadPoolExecutor(1) as beside:
            file.seek(0)
            done = whole = 0
            for entries, length in _lines(file):
                done, whole = done + len(entries), whole + length
            file.truncate(whole)
            journal = Journal(done, file, files, beside)
            yield journal
            journal.close()


class Journal:
    """An open journal. The disk is waited for beside the work, not in it.

    Attributes:
        done: items gone through so far, faulty ones among them.
    """

    def __init__(
        self, done: int, file: BinaryIO, files: Sequence[Path], beside: ThreadPoolExecutor
    ) -> None:
        self.done = done
        self._file = file
        self._files = files
        self._beside = beside
        self._lines: list[bytes] = []
        self._vouching: Future[None] | None = None

    def add(self, line: bytes, count: int) -> None:
        """Vouch, soon, for the next ``count`` items, which are in the files.

        Args:
            line: their entries, see `line`.
            count: how many.
        """
        self.done += count
        self._lines.append(line)
        if self._vouching is None or self._vouching.done():  # else the disk is still busy
            self._vouch()

    def close(self) -> None:
        """Wait until all is vouched for."""
        self._vouch()
        if self._vouching:
            self._vouching.result()

    def _vouch(self) -> None:
        if self._vouching:
            self._vouching.result()
        lines, self._lines = self._lines, []
        self._vouching = self._beside.submit(self._sync, lines)

    def _sync(self, lines: list[bytes]) -> None:
        for path in self._files:
            sync(path)
        self._file.writelines(lines)
        self._file.flush()


def sync(path: Path) -> None:
    """Wait until a file is on the disk, whoever has written it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def line(entries: Sequence[Mapping[str, Any]]) -> bytes:
    """A line of the journal, ended by a line feed.

    >>> line([{"row": {"image_id": "a.jpg"}}, {"faults": [{"what": "truncated"}]}]).strip()
    b'[{"row": {"image_id": "a.jpg"}}, {"faults": [{"what": "truncated"}]}]'
    """
    return json.dumps(entries).encode() + b"\n"


def _lines(file: Iterable[bytes]) -> Iterator[tuple[list[dict[str, Any]], int]]:
    """The entries and the length of each whole line; a kill may have torn the last one."""
    for text in file:
        if not text.endswith(b"\n"):
            return
        try:
            yield json.loads(text), len(text)
        except ValueError:  # a power cut leaves zeros
            return
