"""Which images belong to a YOLO data set, and their label files."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tlunet.data.convert.label_files import absolute, find_labels, images_at
from tlunet.data.convert.labelled import short
from tlunet.data.convert.table import LAYOUT, Table, find_file
from tlunet.data.readers.alike import LINK, contents
from tlunet.data.readers.listing import IMAGE_SUFFIXES, Listing, is_folder_link, list_files, plain
from tlunet.data.source import Problem, data_error
from tlunet.errors import DataError, first_line


class Selection(NamedTuple):
    """The images of a data set.

    Attributes:
        images: new id → image.
        labels: new id → label file, where there is one.
        problems: files that cannot be used, and label files that belong to no image.
        notes: what was left out or assumed, one line each.
    """

    images: dict[str, Path]
    labels: dict[str, Path]
    problems: list[Problem]
    notes: list[str]


def select(table: Table) -> Selection:
    """Find the images of a data set and their label files.

    Raises:
        DataError: there are no images.
    """
    root = absolute(table.root)
    around = list_files(table.root, IMAGE_SUFFIXES)
    if table.parts:
        chosen, problems = _named(table)
    else:
        depth = len(table.root.parts)
        chosen = [p for p in around.files.values() if "images" in p.parts[depth:-1]]
        links = [p for p in _links(around) if "images" in Path(p.where).parts[depth:]]
        problems = [*around.problems, *links] if chosen else list(around.problems)
    if not chosen:
        if problems:
            raise data_error(problems)
        where = ", ".join(map(str, table.parts)) or f"a folder named images/ in {table.root}"
        folder = next((part for part in table.parts if part.is_dir()), table.root)
        layout = LAYOUT if table.parts else f"{LAYOUT}, or train: with their folder"
        raise DataError(f"{table.file}: no images in {where}; {contents(folder)}; {layout}")
    base = root
    if not all(absolute(path).is_relative_to(root) for path in chosen):
        base = Path(os.path.commonpath([absolute(path).parent for path in chosen]))
    images: dict[str, Path] = {}
    for path in chosen:
        image_id = _image_id(absolute(path).relative_to(base))
        if images.setdefault(image_id, path) is not path:
            problems.append(Problem(str(path), image_id, f"has the name of {images[image_id]}"))
    labels = find_labels(table, images, around)
    problems += labels.problems
    notes = [*table.notes, *_skipped(table, around, images), *labels.notes]
    return Selection(images, labels.files, problems, notes)


def _links(listing: Listing) -> Iterator[Problem]:
    """Find linked folders, whose images would be missing without a word."""
    for path in listing.ignored:
        if is_folder_link(path) and not path.name.startswith("."):
            yield Problem(str(path), "", LINK)


def _skipped(table: Table, around: Listing, images: dict[str, Path]) -> Iterator[str]:
    taken = {absolute(path) for path in images.values()}
    if others := sum(absolute(path) not in taken for path in around.files.values()):
        folders = "train, val and test" if table.parts else "a folder named images/"
        yield f"{others} images in {table.root} are not in {folders} and are skipped"


# --- images ----------------------------------------------------------------------------------


def _named(table: Table) -> tuple[list[Path], list[Problem]]:
    """List the images of the folders and lists that a table names."""
    chosen: dict[Path, Path] = {}
    problems: list[Problem] = []
    for part in table.parts:
        if part.is_dir():
            listing = list_files(part, IMAGE_SUFFIXES)
            problems += [*listing.problems, *_links(listing)]
            paths: Iterable[Path] = listing.files.values()
        else:
            paths = _listed(part, table, problems)
        for path in paths:
            chosen.setdefault(absolute(path), path)
    return list(chosen.values()), problems


def _listed(part: Path, table: Table, problems: list[Problem]) -> Iterator[Path]:
    """Read a text file with the path of one image per line."""
    try:
        rows = part.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        problems.append(Problem(str(part), "", f"cannot be read as a list ({first_line(error)})"))
        return
    for row, name in enumerate(rows, start=1):
        if not name.strip():
            continue
        near = (part.parent, table.root, table.file.parent)
        path = find_file(near, name) or find_file(near, name.removeprefix("data/"))  # CVAT
        if path and path.suffix.lower() in IMAGE_SUFFIXES:
            yield path
        else:
            what = "is not an image that can be read" if path else "no such image"
            problems.append(Problem(f"{part} row {row}", "", f"{short(name.strip(), 120)}: {what}"))


def _image_id(path: Path) -> str:
    at = images_at(path.parts)
    return plain(
        Path(*path.parts[:at], *path.parts[at + 1 :]).as_posix() if at >= 0 else path.as_posix()
    )
