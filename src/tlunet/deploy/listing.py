"""List and name the images of a command."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tlunet.data.readers.listing import IMAGE_SUFFIXES, list_files
from tlunet.deploy.stream import Unreadable
from tlunet.errors import DataError


class Images:
    """Image files in the order given, without duplicates.

    An image's name is its POSIX path relative to the common folder of all arguments. For one
    folder this is the path within it, which equals the image id in a data set. Names are unique.
    """

    def __init__(self) -> None:
        self._paths: dict[str, Path] = {}  # absolute path → as given
        self._base: str | None = None
        self._keeps_suffix = False

    def add(self, path: Path, root: Path) -> None:
        """Add an image unless it is already listed.

        Args:
            path: as given by the user.
            root: the folder given by the user, or the image's parent folder.

        Raises:
            UnicodeEncodeError: the name is not UTF-8.
        """
        own, asked = str(absolute(path)), str(absolute(root))
        own.encode()
        self._paths.setdefault(own, path)
        self._base = os.path.commonpath([self._base, asked]) if self._base else asked

    def close(self) -> None:
        """Finish adding; if two images share a stem, :meth:`mask` keeps the suffixes."""
        stems = {PurePosixPath(own).with_suffix("") for own in self._paths}
        self._keeps_suffix = len(stems) < len(self)

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[Path]:
        return iter(self._paths.values())

    def name(self, path: Path) -> str:
        """Return the name of an image in the tables."""
        return absolute(path).relative_to(self._base or "/").as_posix()

    def mask(self, path: Path) -> str:
        """Return the name without suffix (``cam1/a``), or with it if two images share a stem."""
        name = self.name(path)
        return name if self._keeps_suffix else str(PurePosixPath(name).with_suffix(""))


class Listing(NamedTuple):
    """The images of a command.

    Attributes:
        images: the images found.
        faults: paths that are missing or unusable.
    """

    images: Images
    faults: list[Unreadable]


def list_paths(paths: Iterable[Path]) -> Listing:
    """List all image files of some files and folders (including sub-folders).

    Raises:
        DataError: no images at all; one line per problem.
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
        raise DataError(*lines or ["no images given; expected files, folders or a list"])
    return listing


def _add_folder(listing: Listing, folder: Path) -> None:
    found = list_files(folder, IMAGE_SUFFIXES)
    listing.faults.extend(Unreadable(Path(p.where), p.what) for p in found.problems)
    if not found.files:
        listing.faults.append(Unreadable(folder, "no images in this folder"))
    for path in found.files.values():
        _add(listing, path, folder)


def _add(listing: Listing, path: Path, root: Path) -> None:
    try:
        listing.images.add(path, root)
    except UnicodeEncodeError:
        listing.faults.append(Unreadable(path, "file name is not UTF-8; rename it"))


def absolute(path: Path) -> Path:
    """Return the absolute path without resolving links: names follow the link, not its target."""
    return Path(os.path.abspath(path))  # noqa: PTH100
