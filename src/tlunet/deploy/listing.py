"""Which images a command is about, and what each is called; a list of millions lies on disk."""

import os
import sqlite3
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tlunet.data.readers.listing import IMAGE_SUFFIXES, list_files
from tlunet.deploy.stream import Unreadable
from tlunet.errors import DataError


class Images:
    """Image files in the order given, each once, in a temporary database that nobody else sees.

    An image is named by its POSIX path below the folder that holds everything asked for: with one
    folder that is its path in the folder, which a data set calls its id. No two share a name.
    """

    def __init__(self) -> None:
        # In memory while it is small, then in a temporary file; closed when nobody holds this.
        self._rows = sqlite3.connect("", check_same_thread=False)
        weakref.finalize(self, self._rows.close)
        self._rows.execute("CREATE TABLE images (path TEXT, own TEXT UNIQUE, stem TEXT)")
        self._base: str | None = None
        self._keeps_suffix = False

    def add(self, path: Path, root: Path) -> None:
        """Take an image, unless it is there.

        Args:
            path: as it was named.
            root: the folder that was asked for, or the image's own.

        Raises:
            UnicodeEncodeError: its name is not UTF-8.
        """
        own = absolute(path)
        row = str(path), str(own), str(own.with_suffix(""))
        self._rows.execute("INSERT OR IGNORE INTO images VALUES (?, ?, ?)", row)
        asked = str(absolute(root))
        self._base = os.path.commonpath([self._base, asked]) if self._base else asked

    def close(self) -> None:
        """Nothing more is added: now two of one stem keep their suffixes in :meth:`mask`."""
        [stems] = self._rows.execute("SELECT COUNT(DISTINCT stem) FROM images").fetchone()
        self._keeps_suffix = stems < len(self)

    def __len__(self) -> int:
        [number] = self._rows.execute("SELECT COUNT(*) FROM images").fetchone()
        return int(number)

    def __iter__(self) -> Iterator[Path]:
        for [path] in self._rows.execute("SELECT path FROM images ORDER BY rowid"):
            yield Path(path)

    def name(self, path: Path) -> str:
        """What tables call an image."""
        return absolute(path).relative_to(self._base or "/").as_posix()

    def mask(self, path: Path) -> str:
        """The name without its suffix, or with it where two images share a stem: ``cam1/a``."""
        name = self.name(path)
        return name if self._keeps_suffix else str(PurePosixPath(name).with_suffix(""))


class Listing(NamedTuple):
    """The images of a command.

    Attributes:
        images: those that are there.
        faults: what was asked for and is not there.
    """

    images: Images
    faults: list[Unreadable]


def list_paths(paths: Iterable[Path]) -> Listing:
    """Every image file of some files and folders (with their sub-folders).

    Raises:
        DataError: there is no image at all; a line a fault.
    """
    listing = Listing(Images(), [])
    for path in paths:
        if path.is_dir():
            _add_folder(listing, path)
        elif path.is_file():
            _add(listing, path, path.parent)
        else:
            listing.faults.append(Unreadable(path, "no such file or folder"))
    listing.images.close()
    if not len(listing.images):
        lines = [f"{path}: {reason}" for path, reason in listing.faults]
        raise DataError(*lines or ["no image is named; expected files, folders or a list"])
    return listing


def _add_folder(listing: Listing, folder: Path) -> None:
    found = list_files(folder, IMAGE_SUFFIXES)
    listing.faults.extend(Unreadable(Path(p.where), p.what) for p in found.problems)
    if not found.files:
        listing.faults.append(Unreadable(folder, "no image in this folder"))
    for path in found.files.values():
        _add(listing, path, folder)


def _add(listing: Listing, path: Path, root: Path) -> None:
    try:
        listing.images.add(path, root)
    except UnicodeEncodeError:
        listing.faults.append(Unreadable(path, "its name is not UTF-8; rename it"))


def absolute(path: Path) -> Path:
    """Links are not resolved: a file is named as it is called, not as where it leads."""
    return Path(os.path.abspath(path))  # noqa: PTH100
