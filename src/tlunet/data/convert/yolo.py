"""YOLO segmentation labels: one text file per image, one line per object, relative polygons.

The path of a label file is that of its image with ``labels`` instead of ``images``, as written by
Ultralytics and Roboflow. An image without a label file has no objects.

Reference: docs.ultralytics.com/datasets/segment.
"""

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from tlunet.data.convert.labelled import Item, Labelled, Object, draw_polygons
from tlunet.data.readers.listing import IMAGE_SUFFIXES, list_files
from tlunet.data.source import Problem
from tlunet.errors import DataError

LAYOUT = "expected data.yaml with names, and images/ next to labels/"
OUTSIDE = 0.02  # tolerated fraction of width or height, because labelling tools round


def read(source: Path) -> Labelled:
    """List the images and objects of a folder of YOLO labels.

    Args:
        source: the folder with ``data.yaml``, or that file.

    Raises:
        DataError: the folder is missing or contains no images.
    """
    table = source if source.is_file() else _table(source)
    names = _names(table)
    listing = list_files(table.parent, IMAGE_SUFFIXES)
    problems: list[Problem] = list(listing.problems)
    items, unused = [], 0
    for file_id, path in listing.files.items():
        parts = PurePosixPath(file_id).parts
        if "images" not in parts[:-1]:
            unused += 1
            continue
        at = len(parts) - 2 - parts[-2::-1].index("images")  # the last one with that name
        labels = table.parent.joinpath(*parts[:at], "labels", *parts[at + 1 :]).with_suffix(".txt")
        image_id = "/".join((*parts[:at], *parts[at + 1 :]))
        objects = []
        for where, line in _lines(labels, image_id, problems):
            try:
                objects.append(_object(line, where, len(names)))
            except ValueError as error:
                problems.append(Problem(where, image_id, str(error)))
        items.append(Item(image_id, path, tuple(objects)))
    if not items:
        raise DataError(f"{table.parent}: no images in a folder named images/; {LAYOUT}")
    return Labelled(names, tuple(items), tuple(problems), unused)


def _table(source: Path) -> Path:
    for name in ("data.yaml", "dataset.yaml", "data.yml"):
        if (source / name).is_file():
            return source / name
    what = "contains no data.yaml" if source.is_dir() else "no such folder"
    raise DataError(f"{source}: {what}; {LAYOUT}")


def _names(table: Path) -> tuple[str, ...]:
    """Return the class names in the order of their numbers."""
    try:
        content: Any = yaml.safe_load(table.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{table}: cannot be read as YAML ({error})") from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and sorted(names, key=str) == sorted(range(len(names)), key=str):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise DataError(f"{table}: names: expected the class names, [a, b] or {{0: a, 1: b}}")
    if len(set(names)) < len(names):
        raise DataError(f"{table}: names: a name appears twice")
    return tuple(names)


def _lines(labels: Path, image_id: str, problems: list[Problem]) -> list[tuple[str, list[str]]]:
    """Return the position and the values of each object."""
    try:
        text = labels.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        problems.append(Problem(str(labels), image_id, f"cannot be read ({error})"))
        return []
    rows = enumerate(text.splitlines(), start=1)
    return [(f"{labels} row {row}", line.split()) for row, line in rows if line.strip()]


def _object(values: list[str], where: str, classes: int) -> Object:
    if not values[0].isdecimal() or int(values[0]) >= classes:
        raise ValueError(f"class {values[0]!r}; expected 0 to {classes - 1}")
    if len(values) in (5, 6):
        raise ValueError("a box has no outline; expected a polygon: class x y x y x y …")
    if len(values) < 7 or len(values) % 2 == 0:
        raise ValueError(f"{len(values)} values; expected a class and at least three points: x y …")
    try:
        corners = np.array(values[1:], float).reshape(-1, 2)
    except ValueError:
        raise ValueError("a value is not a number; expected class x y x y x y …") from None
    if not ((corners >= -OUTSIDE) & (corners <= 1 + OUTSIDE)).all():
        raise ValueError(
            "a point is outside the image; expected fractions of width and height, 0 to 1"
        )
    return Object(int(values[0]) + 1, draw_polygons([corners], is_relative=True), where)
