"""Names of files that were probably meant, and what a folder contains: for error messages."""

import difflib
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from tlunet.data.readers.listing import IMAGE_SUFFIXES, is_folder_link, plain

SHOWN = 6
#: Label Studio: a1b2c3d4-strip; Roboflow: strip_png.rf.0123456789abcdef; others: strip_mask.
_ADDED = re.compile(r"^[0-9a-f]{8}-|_[a-z]{3,4}\.rf\.\w+$|[_-](masks?|labels?|gt|seg)$")
LINK = "a link to a folder: not followed; copy the folder there"


class Alike:
    """Find the file that differs from a name only in case, folder, separators or suffix.

    >>> Alike(["images/a.png", "images/strip 0.png"]).find("STRIP_0.png.txt")
    'images/strip 0.png'
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names: dict[str, list[str]] = {}
        for name in names:
            self._names.setdefault(_bare(name), []).append(name)

    def find(self, name: str) -> str | None:
        """Return the most similar of these files, ``None`` if there is none."""
        candidates = self._names.get(_bare(name), []) if _bare(name) else []
        return next(iter(difflib.get_close_matches(name, candidates[:50], 1, 0)), None)

    def hint(self, name: str) -> str:
        """Return the end of a message about a missing file: "; there is …", or nothing."""
        similar = self.find(name)
        return f"; there is {similar!r}: correct the name" if similar else ""


def _bare(name: str) -> str:
    """Return what is left of a name without case, folders, suffixes and what tools add to it."""
    path = PurePosixPath(PurePosixPath(plain(name.replace("\\", "/"))).name.casefold())
    path = path.with_suffix("")
    while path.suffix in (".txt", *IMAGE_SUFFIXES):
        path = path.with_suffix("")
    return re.sub(r"[\W_]+", "", re.sub(_ADDED, "", path.name) or path.name)


def contents(folder: Path) -> str:
    """Say what a folder contains, in a few words.

    The sub-folders are named with what is in them, links to folders with the fact that they are
    not followed.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return "it cannot be read"
    some = [_entry(path) for path in entries[:SHOWN]]
    more = [f"{len(entries) - SHOWN} more"] if len(entries) > SHOWN else []
    return f"it contains {', '.join(some + more)}" if some else "it is empty"


def _entry(path: Path) -> str:
    if is_folder_link(path):
        return f"{path.name}/ ({LINK})"
    if path.is_symlink() or not path.is_dir():
        return path.name
    try:
        kinds = Counter("folder" if p.is_dir() else p.suffix or "file" for p in path.iterdir())
    except OSError:
        return f"{path.name}/ (cannot be read)"
    inside = ", ".join(
        f"{number} {kind}{'s' if number > 1 and kind == 'folder' else ''}"
        for kind, number in kinds.most_common(3)
    )
    return f"{path.name}/ ({inside or 'empty'})"
