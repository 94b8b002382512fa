"""The table of a YOLO data set, ``data.yaml``: class names, and which images belong to it.

Ultralytics' rules: ``path`` is the root, and ``train``, ``val`` and ``test`` are relative to it,
each a folder, a text file with one image per line, or a list of these. Label Studio writes only
``classes.txt``, one name per line.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tlunet.data.convert.labelled import short
from tlunet.data.readers.alike import contents
from tlunet.data.source import require_folder
from tlunet.errors import DataError, first_line

LAYOUT = "expected data.yaml with names, and images/ next to labels/"
NAMES = "names: expected the class names, [a, b] or {0: a, 1: b}"
KNOWN = ("data.yaml", "dataset.yaml", "data.yml", "dataset.yml")
CLASSES = "classes.txt"
PARTS = ("train", "val", "test")


class Table(NamedTuple):
    """What a table says.

    Attributes:
        file: the table.
        classes: the names of the ids 0…M-1.
        root: the folder of the data set.
        parts: the folders and lists of images that it names; empty: it names none.
        notes: what was passed over, one line each.
    """

    file: Path
    classes: tuple[str, ...]
    root: Path
    parts: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def read_table(source: Path) -> Table:
    """Read the table of a data set.

    Args:
        source: its folder, or the file itself.

    Raises:
        DataError: there is none, it is malformed, or it names folders that do not exist.
    """
    file = source if source.is_file() else _find(source)
    text = _text(file)
    if file.suffix.lower() == ".txt":
        return Table(
            file, _names(file, [n for n in text.splitlines() if n.strip()]), file.parent, ()
        )
    content = _parse(file, text)
    if "kpt_shape" in content:
        raise DataError(f"{file}: kpt_shape: key points have no outline; export segmentation")
    names = _names(file, content.get("names"))
    if str(content.get("nc", len(names))) != str(len(names)):
        number = f"nc: {short(content['nc'])}, but names has {len(names)} names"
        raise DataError(f"{file}: {number}; correct one of them")
    root = _root(file, content.get("path"))
    parts, notes = _parts(file, root, content)
    return Table(file, names, root, parts, notes)


def _find(source: Path) -> Path:
    require_folder(source, LAYOUT)
    others = sorted(path for kind in ("*.yaml", "*.yml") for path in source.glob(kind))
    for file in (*(source / name for name in KNOWN), *others[:1], source / CLASSES):
        if file.is_file() and (len(others) < 2 or file not in others or file.name in KNOWN):
            return file
    what = f"several YAML files and no data.yaml; pass the one to use; {contents(source)}"
    if len(others) < 2:
        deeper = next(iter(sorted(source.glob("*/data.yaml"))), None)
        instead = f"pass {deeper.parent}" if deeper else f"{LAYOUT}; {contents(source)}"
        what = f"contains no data.yaml; {instead}"
    raise DataError(f"{source}: {what}")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as text in UTF-8 ({first_line(error)})") from error


def _parse(file: Path, text: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or first_line(error)
        raise DataError(f"{file}{where}: cannot be read as YAML ({what})") from error
    if not isinstance(content, dict):
        raise DataError(f"{file}: {NAMES}")
    return content


def _names(file: Path, names: Any) -> tuple[str, ...]:
    """Return the class names in the order of their numbers."""
    if isinstance(names, dict):
        numbered = {str(number): name for number, name in names.items()}
        names = [numbered.get(str(number)) for number in range(len(names))]
        if len(numbered) != len(names) or None in names:
            raise DataError(f"{file}: {NAMES}, numbered from 0 without gaps")
    if not isinstance(names, list) or not names:
        raise DataError(f"{file}: {NAMES}")
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"{file}: {NAMES}; {short(name)} is not text: quote it")
    names = [name.strip() for name in names]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{file}: names: a name appears twice ({twice!r})")
    return tuple(names)


def _root(file: Path, path: Any) -> Path:
    if path is None or path == "":
        return file.parent
    if not isinstance(path, str):
        raise DataError(f"{file}: path: {short(path)}; expected a folder")
    near = (file.parent, file.parent.absolute().parent, Path())  # Ultralytics: one above, or here
    if folder := _first(near, path, Path.is_dir):
        return folder
    raise DataError(
        f"{file}: path: {short(path, 120)}: no such folder; write the folder that train and val "
        "are relative to (path: . is that of this file)"
    )


def _parts(
    file: Path, root: Path, content: dict[str, Any]
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Find the folders and lists of images; one line for each that does not exist."""
    parts: list[Path] = []
    missing: dict[str, str] = {}
    for key in PARTS:
        entries = content.get(key) or []
        for entry in entries if isinstance(entries, list) else [entries]:
            if not isinstance(entry, str):
                raise DataError(f"{file}: {key}: {short(entry)}; expected a folder, or a text file")
            near = (entry.removeprefix("../"), entry)  # Roboflow writes ../train/images
            places = [_first((root, file.parent), name, Path.exists) for name in near]
            if place := places[0] or places[1]:
                parts.append(place)
            else:
                missing[f"{key}: {short(entry, 120)}"] = key
    lines = {text: f"{file}: {text}: no such folder or file in {root}" for text in missing}
    needed = [line for text, line in lines.items() if missing[text] != "test" or not parts]
    if needed:
        there = contents(root)
        raise DataError(*(f"{line}; correct it or remove it; {there}" for line in needed))
    notes = tuple(f"{line}: skipped" for line in lines.values())  # Roboflow always names a test set
    return tuple(dict.fromkeys(parts)), notes


def _first(folders: tuple[Path, ...], name: str, test: Any) -> Path | None:
    """Return the first existing path, with ``..`` resolved; names may be written on Windows."""
    name = name.strip().replace("\\", "/")
    for folder in folders:
        path = Path(name).expanduser() if name.startswith("~/") else folder / name
        try:
            if test(path):
                return Path(os.path.normpath(path))
        except (OSError, ValueError):  # a name that is too long
            continue
    return None


def find_file(folders: tuple[Path, ...], name: str) -> Path | None:
    """Return the first file of that name in some folders, or ``None``."""
    return _first(folders, name, Path.is_file)
