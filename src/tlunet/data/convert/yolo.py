"""YOLO segmentation labels: one text file per image, one line per object, relative polygons.

Reference: docs.ultralytics.com/datasets/segment.
"""

import re
from pathlib import Path

import numpy as np

from tlunet.data.convert.labelled import Item, Labelled, Object, grouped, short
from tlunet.data.convert.outline import draw_polygons
from tlunet.data.convert.selection import Selection, select
from tlunet.data.convert.table import Table, read_table
from tlunet.data.readers.alike import contents
from tlunet.data.source import Problem
from tlunet.errors import first_line

OUTSIDE = 0.02  # tolerated fraction of width or height, because labelling tools round
_CLASS = re.compile(r"([0-9]{1,9})(\.0*)?")  # some tools write 3.0


def read(source: Path) -> Labelled:
    """List the images and objects of a folder of YOLO labels.

    Args:
        source: the folder with ``data.yaml``, or that file.

    Raises:
        DataError: the folder is missing or contains no images.
    """
    table = read_table(source)
    chosen = select(table)
    items, ungrouped = [], []
    for image_id, path in chosen.images.items():
        objects, wrong = _objects(chosen.labels.get(image_id), image_id, len(table.classes))
        items.append(Item(image_id, path, tuple(objects)))
        ungrouped += wrong
    problems = [*chosen.problems, *grouped(ungrouped)]
    return Labelled(
        table.classes,
        tuple(items),
        tuple(problems),
        notes=tuple(chosen.notes),
        empty=_no_objects(table, chosen),
    )


def _no_objects(table: Table, chosen: Selection) -> Problem:
    without = len(chosen.images) - len(chosen.labels)
    what = (
        f"no objects: every image would count as defect-free; {len(chosen.labels)} label files are "
        f"empty, {without} images have none (expected in labels/, next to images/; {table.root} "
        f"{contents(table.root).removeprefix('it ')})"
    )
    return Problem(str(table.file), "", what)


def _objects(
    labels: Path | None, image_id: str, classes: int
) -> tuple[list[Object], list[Problem]]:
    """Return the objects of one label file, and its problems."""
    if labels is None:
        return [], []
    try:
        text = labels.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        return [], [
            Problem(str(labels), image_id, f"cannot be read as UTF-8 ({first_line(error)})")
        ]
    objects, problems = [], []
    for row, line in enumerate(text.splitlines(), start=1):
        where = f"{labels} row {row}"
        try:
            if values := line.split():
                objects.append(_object(values, where, classes))
        except ValueError as error:
            problems.append(Problem(where, image_id, str(error)))
    return objects, problems


def _object(values: list[str], where: str, classes: int) -> Object:
    if any("," in value for value in values):
        raise ValueError("a comma; expected decimal points, and spaces between values")
    match = _CLASS.fullmatch(values[0])
    if not match or int(match[1]) >= classes:
        raise ValueError(f"class {short(values[0])}; expected 0 to {classes - 1}")
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
    return Object(int(match[1]) + 1, draw_polygons([corners], is_relative=True), where)
