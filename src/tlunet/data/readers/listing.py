"""List the files of a folder, with names that are portable and never outside of it."""

import os
import unicodedata
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from stat import S_ISREG
from typing import NamedTuple

from tlunet.data.source import Problem
from tlunet.errors import reason_of

#: Of the formats that are read (:data:`tlunet.data.readers.pixels.FORMATS`).
IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif",
    ".pgm", ".ppm", ".pbm", ".pnm",
})  # fmt: skip
#: Of other image formats: such files are ignored, which a user should know.
OTHER_PICTURES = frozenset({
    ".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jxl", ".avif", ".heic", ".heif", ".mpo", ".apng",
    ".tga", ".pcx", ".ico", ".psd", ".svg", ".eps", ".dds", ".exr", ".hdr", ".pfm", ".pam",
    ".dcm", ".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".fits",
})  # fmt: skip
_NEITHER = "not a file or a link to one; remove it"


class Listing(NamedTuple):
    """The contents of a folder.

    Attributes:
        files: id (POSIX path relative to the folder) → file, sorted by id.
        problems: files of the right kind that cannot be used.
        ignored: other files and folders: hidden, with another suffix, links to folders.
    """

    files: dict[str, Path]
    problems: list[Problem]
    ignored: list[Path]


def list_files(folder: Path, suffixes: Collection[str], *, deep: bool = True) -> Listing:
    """List all files with certain suffixes in a folder.

    Args:
        folder: the folder; it may itself be a link.
        suffixes: lower-case suffixes with their dots.
        deep: whether to search sub-folders. Links to folders are never followed, and links to
            files only if they stay inside.
    """
    root = folder.resolve()
    listing = Listing({}, [], [])

    def cannot_enter(error: OSError) -> None:
        what = f"folder cannot be read ({reason_of(error)})"
        listing.problems.append(Problem(str(error.filename), "", what))

    for where, folders, names in os.walk(folder, onerror=cannot_enter):
        here = Path(where)
        aside = [f for f in folders if not deep or f.startswith(".") or (here / f).is_symlink()]
        listing.ignored.extend(here / name for name in aside)
        folders[:] = sorted(set(folders).difference(aside))
        for name in sorted(names):
            path = here / name
            if name.startswith(".") or path.suffix.lower() not in suffixes:
                listing.ignored.append(path)
                continue
            file_id = plain(path.relative_to(folder).as_posix())
            problem = _problem(path, file_id, root)
            if file_id in listing.files:
                problem = "another file has this name with accents encoded differently; rename one"
            if problem:
                listing.problems.append(Problem(str(path), file_id, problem))
            else:
                listing.files[file_id] = path
    return listing._replace(files=dict(sorted(listing.files.items())))


def is_folder_link(path: Path) -> bool:
    """Whether a path is a link to a folder; a target that cannot be accessed is none."""
    try:
        return path.is_symlink() and path.is_dir()
    except OSError:
        return False


def plain(name: str) -> str:
    """Normalise a name for comparison: accents have two encodings, and macOS uses the other one.

    >>> plain("e\N{COMBINING ACUTE ACCENT}.jpg") == "\N{LATIN SMALL LETTER E WITH ACUTE}.jpg"
    True
    """
    return unicodedata.normalize("NFC", name)


def is_plain_name(name: str) -> bool:
    """Whether an image name from a CSV file stays inside the folder of the data set.

    >>> is_plain_name("a.jpg"), is_plain_name("../a.jpg"), is_plain_name("/etc/a.jpg")
    (True, False, False)
    """
    path = PurePosixPath(name.replace("\\", "/"))
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _problem(path: Path, file_id: str, root: Path) -> str | None:
    """Return why a file cannot be used, judging by its name and kind only."""
    try:
        file_id.encode()
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            return f"a link out of {root}: not followed; copy the file there"
        if not S_ISREG(path.stat().st_mode):
            return _NEITHER
    except FileNotFoundError:  # a broken link
        return _NEITHER
    except UnicodeEncodeError:
        return "file name is not UTF-8; rename it"
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself
        return f"cannot be accessed ({reason_of(error)})"
    return None
