"""List and name the images of a command."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tlunet.data.readers.alike import contents
from tlunet.data.readers.listing import IMAGE_SUFFIXES, OTHER_PICTURES, is_folder_link, list_files
from tlunet.deploy.stream import Unreadable
from tlunet.errors import DataError

TABLE = "predictions.csv"  # in an output folder
LISTS = (".txt", ".csv", ".lst", ".list")  # suffixes of lists of paths, which are not opened
OUTPUTS = ("masks", "overlays")  # next to it: folders of pictures


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
        problems: paths that are missing or unusable.
        notes: what was left out on purpose, one line each.
    """

    images: Images
    problems: list[Unreadable]
    notes: list[str]


def list_paths(paths: Iterable[Path], out: Path | None = None) -> Listing:
    """List all image files of some files and folders (including sub-folders).

    Predicted masks and overlays are left out: everything in the output folder, and the outputs
    of earlier calls.

    Args:
        paths: files and folders.
        out: the output folder.

    Raises:
        DataError: no images at all; one line per problem.
    """
    search = _Search(out)
    for path in paths:
        if path.is_dir():
            search.add_folder(path)
        elif path.is_file():
            search.add(path, path.parent)
        else:
            search.problems.append(Unreadable(path, "no such file or folder"))
    search.images.close()
    listing = Listing(search.images, search.problems, search.notes())
    if not len(listing.images):
        lines = [f"{path}: {reason}" for path, reason in listing.problems] + listing.notes
        raise DataError(*lines or ["no images given; expected files, folders or a list"])
    return listing


class _Search:
    """Collects the images of files and folders."""

    def __init__(self, out: Path | None) -> None:
        self.images = Images()
        self.problems: list[Unreadable] = []
        self._out = _OutputFolders(out)
        self._outputs: Counter[Path] = Counter()  # output folder → images left out
        self._others: Counter[str] = Counter()  # suffix → pictures of other formats
        self._links = 0  # to folders

    def add_folder(self, folder: Path) -> None:
        listing = list_files(folder, IMAGE_SUFFIXES)
        self.problems.extend(
            Unreadable(Path(p.where), p.what)
            for p in listing.problems
            if not self._is_output(Path(p.where), folder)
        )
        if not listing.files:
            reason = f"no images in this folder; {contents(folder)}"
            self.problems.append(Unreadable(folder, reason))
        for path in listing.files.values():
            self.add(path, folder)
        seen = [path for path in listing.ignored if not path.name.startswith(".")]
        suffixes = [path.suffix.lower() for path in seen]
        self._others.update(suffix for suffix in suffixes if suffix in OTHER_PICTURES)
        self._links += sum(is_folder_link(path) for path in seen)

    def add(self, path: Path, root: Path) -> None:
        if path.suffix.lower() in LISTS:
            what = f"not an image; pass a list of paths as standard input: - < {path.name}"
            self.problems.append(Unreadable(path, what))
            return
        if self._is_output(path, root):
            return
        try:
            self.images.add(path, root)
        except UnicodeEncodeError:
            self.problems.append(Unreadable(path, "file name is not UTF-8; rename it"))

    def _is_output(self, path: Path, root: Path) -> bool:
        folder = self._out.folder_of(path, root)
        if folder is not None:
            self._outputs[folder] += 1
        return folder is not None

    def notes(self) -> list[str]:
        """What was left out, one line each."""
        notes = [
            f"{folder}: output of tlunet predict, left out ({images} images)"
            for folder, images in self._outputs.items()
        ]
        if self._others:
            kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(self._others.items()))
            notes.append(
                f"ignored pictures of other formats: {kinds}; images are read from "
                f"{' '.join(sorted(IMAGE_SUFFIXES))}"
            )
        if self._links:
            notes.append(f"links to folders are not followed ({self._links}); name the folders")
        return notes


class _OutputFolders:
    """Recognises what ``tlunet predict`` has written.

    Args:
        out: the output folder of this call.
    """

    def __init__(self, out: Path | None) -> None:
        self._out = out
        self._known: dict[tuple[Path, Path], Path | None] = {}  # a cache

    @cached_property
    def _real_out(self) -> Path | None:
        return self._out and self._out.resolve()

    def folder_of(self, path: Path, root: Path) -> Path | None:
        """Return the output folder that a file belongs to, if any.

        Args:
            path: a file.
            root: the folder that was searched for it. If it is itself inside the output folder,
                only masks and overlays are outputs.
        """
        key = path.parent, root
        if key not in self._known:
            self._known[key] = self._find(path.parent.resolve(), root)
        return self._known[key]

    def _find(self, parent: Path, root: Path) -> Path | None:
        out = self._real_out
        if out and parent.is_relative_to(out) and not root.resolve().is_relative_to(out):
            return self._out
        for folder in (parent, *parent.parents):
            if folder.name not in OUTPUTS:
                continue
            if folder.parent == out or (folder.parent / TABLE).is_file():
                return folder.parent
        return None


def absolute(path: Path) -> Path:
    """Return the absolute path without resolving links: names follow the link, not its target."""
    return Path(os.path.abspath(path))  # noqa: PTH100
