"""The label files of a YOLO data set.

The path of a label file is that of its image with ``labels`` instead of the last ``images``, or,
where no folder has that name, beside the image. A label file that belongs to no image is a problem:
an image without one counts as defect-free, so a wrong name would teach defects as sound steel.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tlunet.data.convert.table import Table
from tlunet.data.readers.alike import Alike
from tlunet.data.readers.listing import Listing, list_files, plain
from tlunet.data.source import Problem

BEGINNING = 1000  # characters of a file that tell whether it contains labels
NO_PICTURES = {"", ".txt", ".json", ".yaml", ".yml", ".xml", ".cache", ".npy", ".csv", ".md"}


class LabelFiles(NamedTuple):
    """The label files of the images.

    Attributes:
        files: image id → label file, where there is one.
        problems: those that belong to no image or cannot be used.
        notes: how many images have none.
    """

    files: dict[str, Path]
    problems: list[Problem]
    notes: list[str]


def find_labels(table: Table, images: dict[str, Path], around: Listing) -> LabelFiles:
    """Find the label file of each image, and label files that belong to none.

    Args:
        table: the data set.
        images: id → image.
        around: all images in the data set's folder, also of parts that are not converted.
    """
    root = absolute(table.root)
    expected = {image_id: _label_of(path, root) for image_id, path in images.items()}
    folders = dict.fromkeys(label.parent for label in expected.values() if label.parent.is_dir())
    listings = [list_files(folder, {".txt"}, deep=False) for folder in folders]
    listings.append(list_files(table.root, {".txt"}))
    texts = {_key(path): path for listing in listings for path in listing.files.values()}
    unusable = {p.where: p for listing in listings for p in listing.problems}

    present = {_key(label) for label in expected.values()}
    problems = [p for where, p in unusable.items() if _key(Path(where)) in present]
    around_it = (*around.files.values(), *(Path(problem.where) for problem in around.problems))
    owned = present | {_key(_label_of(path, root)) for path in around_it}
    others = [path for key, path in texts.items() if key not in owned]
    others = [p for p in others if p != table.file and p not in table.parts and _is_label(p)]
    files = {i: texts[key] for i, label in expected.items() if (key := _key(label)) in texts}
    problems += _orphans(table, images, expected, files, others, around)
    missing = [label for image_id, label in expected.items() if image_id not in files]
    problems += [
        Problem(str(label), "", "is not a file; remove it")
        for label in missing
        if os.path.lexists(label) and str(label) not in unusable
    ]
    notes = []
    if missing:
        number = f"{len(missing)} of {len(images)} images have no label file"
        notes = [f"{number} and count as defect-free (the first: no {missing[0]})"]
    return LabelFiles(files, problems, notes)


def _orphans(
    table: Table,
    images: dict[str, Path],
    expected: dict[str, Path],
    files: dict[str, Path],
    others: list[Path],
    around: Listing,
) -> Iterator[Problem]:
    """Say what is wrong with label files that belong to no image."""
    places = {absolute(path).parent for path in (*images.values(), *expected.values())}
    label_of = {str(path): expected[image_id] for image_id, path in images.items()}
    without = Alike(str(path) for image_id, path in images.items() if image_id not in files)
    every = Alike(label_of)
    unread = Alike(str(p) for p in around.ignored if p.suffix.lower() not in NO_PICTURES)
    for path in others:
        name = str(path)
        is_elsewhere = absolute(path).parent not in places
        if image := without.find(name):
            yield Problem(
                name, "", f"belongs to no image; {image} needs {label_of[image]}: rename or move it"
            )
        elif is_elsewhere and (table.parts or every.find(name)):
            continue  # of a part that is not converted, or another version of the same labels
        elif picture := unread.find(name):
            yield Problem(name, "", f"belongs to no image that can be read; convert {picture}")
        else:
            yield Problem(name, "", "belongs to no image; add the image or remove this file")


def _label_of(image: Path, root: Path) -> Path:
    """Replace the last folder images in the data set by labels, and the suffix by .txt."""
    label, whole = image.with_suffix(".txt"), absolute(image)
    outer = len(root.parts) if whole.is_relative_to(root) else 0
    at = images_at(whole.parts[outer:])
    if at < 0:
        return label
    back = len(whole.parts) - outer - at  # counted from the end, to keep the path as typed
    return Path(*label.parts[:-back], "labels", *label.parts[len(label.parts) - back + 1 :])


def images_at(parts: tuple[str, ...]) -> int:
    """Return the position of the last folder named images in a file's path, -1 without one.

    >>> images_at(("images", "train", "a.png")), images_at(("a", "images"))
    (0, -1)
    """
    return max((at for at, part in enumerate(parts[:-1]) if part == "images"), default=-1)


def absolute(path: Path) -> Path:
    """Return a path from the root of the file system, without following links."""
    return Path(os.path.normpath(path.absolute()))


def _key(label: Path) -> str:
    """Return what equal names have in common: accents have two encodings, .TXT is .txt."""
    return plain(str(absolute(label).with_suffix("")))


def _is_label(path: Path) -> bool:
    """Whether a text file looks like labels: numbers only, or empty in a folder of labels."""
    is_inside = "labels" in path.parts
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            lines = [line.split() for line in file.read(BEGINNING).splitlines() if line.strip()]
    except OSError:
        return is_inside
    if not lines:
        return is_inside
    return len(lines[0]) >= (1 if is_inside else 5) and all(map(_is_number, lines[0]))


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True
