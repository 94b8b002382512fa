"""What a folder contains instead of what was expected: most often it was unpacked too deep."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tlunet.data.readers.listing import Listing, is_folder_link
from tlunet.data.source import require_folder
from tlunet.errors import DataError
from tlunet.machine.command_line import override

NAMED = 5  # most names in a line
DEPTH = 2  # levels below a folder at which its parts are looked for
_LEFTOVERS = frozenset({"thumbs.db", "desktop.ini", "__macosx"})  # of Windows and macOS


def require_parts(root: Path, parts: Sequence[str], layout: str, name: str = "") -> None:
    """Raise DataError unless a data set's folder has all of its sub-folders.

    Args:
        root: the folder.
        parts: its parts; those that end in ``/`` are required, files are not.
        layout: what is expected, in words.
        name: of the data set.
    """
    whose = f"{name} data".strip()
    require_folder(root, f"set data.root to the folder of the {whose}: {layout}")
    for part in parts:
        folder = root / part
        if not part.endswith("/") or folder.is_dir():
            continue
        if inner := find_parts(root, parts):
            named = " and ".join(parts)
            raise DataError(
                f"{folder}: no such folder; {inner} has {named}: set {override('data.root', inner)}"
            )
        require_folder(folder, f"{layout}; {root} {_entries(root)}")


def find_parts(root: Path, parts: Sequence[str]) -> Path | None:
    """Find the folder below another that has all parts of a data set.

    Args:
        root: where to look, two levels deep; links and hidden folders are left out.
        parts: names; folders end in ``/``.
    """
    level = [root]
    for _ in range(DEPTH):
        level = [folder for outer in level for folder in _folders(outer)]
        for folder in level:
            if has_parts(folder, parts):
                return folder
    return None


def has_parts(folder: Path, parts: Sequence[str]) -> bool:
    """Tell whether a folder has all parts of a data set; folders end in ``/``."""
    try:
        return all((folder / p).is_dir() if p[-1] == "/" else (folder / p).exists() for p in parts)
    except OSError:  # no permission
        return False


def no_images(folder: Path, listing: Listing, parts: Sequence[str], layout: str) -> DataError:
    """Return the error of a folder in which no image was found.

    Args:
        folder: the folder of the images.
        listing: what was listed in it: no file.
        parts: of the data set, as in :func:`require_parts`.
        layout: what is expected, in words.
    """
    if listing.problems:
        return DataError(*map(str, listing.problems))
    others = [path for path in listing.ignored if not _is_leftover(path)]
    links = [path for path in others if is_folder_link(path)]
    folders = [path for path in others if not path.is_symlink() and path.is_dir()]
    files = [path for path in others if path not in links and path not in folders]
    kinds = Counter(path.suffix.lower() or path.name for path in files)
    inner = find_parts(folder.parent, parts)
    if len(folders) == 1 and (inner or not kinds):
        set_root = f"set {override('data.root', inner)}" if inner else ""
        way_out = set_root or f"move its files up, to {folder}"
        what = f"contains only a folder {folders[0].name}: unpacked one level too deep; {way_out}"
    elif links and not kinds:
        named = _names(links, folder)
        what = f"contains only links to folders ({named}), which are not followed: copy them there"
    elif kinds:
        counts = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(NAMED))
        what = f"contains only other files ({counts}); {layout}"
    else:
        what = f"{_entries(folder)}; {layout}"
    return DataError(f"{folder}: has no images; {what}")


def _entries(folder: Path) -> str:
    """Say in a few words what is in a folder."""
    try:
        inside = sorted(path for path in folder.iterdir() if not _is_leftover(path))
        are_empty = all(path.is_dir() and not any(path.iterdir()) for path in inside)
    except OSError:  # no permission
        return "cannot be listed"
    if not inside:
        return "is empty"
    return f"contains only {'empty folders: ' if are_empty else ''}{_names(inside, folder)}"


def _names(paths: Sequence[Path], folder: Path) -> str:
    named = [path.relative_to(folder).as_posix() for path in paths[:NAMED]]
    return ", ".join([*named, "…"] if len(paths) > NAMED else named)


def _folders(folder: Path) -> list[Path]:
    try:
        inside = [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.is_symlink()]
    except OSError:  # no permission
        return []
    return [path for path in inside if not _is_leftover(path)]


def _is_leftover(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in _LEFTOVERS
