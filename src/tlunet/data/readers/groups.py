"""Names of groups of images, from their paths or from a table: ``data.groups``."""

import re
from collections.abc import Sequence
from pathlib import Path

from tlunet.data.readers.alike import Alike
from tlunet.data.readers.listing import plain
from tlunet.data.readers.table import numbered_rows
from tlunet.data.source import Problem, data_error
from tlunet.errors import DataError

COLUMNS = ("image", "group")
RULE = "a regular expression with one group, e.g. '^(coil[0-9]+)_', or a .csv with image,group"
NAMED = 3  # most images in a line


def is_rule(rule: object) -> bool:
    """Whether a value of ``data.groups`` names a table, or is an expression with one group.

    >>> is_rule("coils.csv"), is_rule("^(coil[0-9]+)_"), is_rule("coil"), is_rule("(")
    (True, True, False, False)
    """
    if not isinstance(rule, str) or _is_table(rule):
        return isinstance(rule, str)
    try:
        return re.compile(rule).groups == 1
    except (re.error, RecursionError, OverflowError):
        return False


def read_groups(rule: str, image_ids: Sequence[str]) -> list[str]:
    """Find the name of each image's group.

    Args:
        rule: a regular expression with one group, searched in the image's path; or the name of a
            ``.csv`` file with the columns ``image,group``.
        image_ids: paths of the images, relative to their folder.

    Raises:
        DataError: an image has no group or two, or the table cannot be read.
    """
    names = _from_table(Path(rule)) if _is_table(rule) else _from_paths(rule, image_ids)
    if missing := [image_id for image_id in image_ids if image_id not in names]:
        what = "has no row for" if _is_table(rule) else "does not match"
        raise DataError(
            f"data.groups={rule}: {what} {len(missing)} of {len(image_ids)} images: "
            f"{listed(missing)}{Alike(names).hint(missing[0])}"
        )
    return [names[image_id] for image_id in image_ids]


def listed(names: Sequence[str]) -> str:
    """Join the first names of some images.

    >>> listed(["a", "b"]), listed(["a", "b", "c", "d"])
    ('a, b', 'a, b, c, …')
    """
    return ", ".join([*names[:NAMED], "…"] if len(names) > NAMED else names)


def _is_table(rule: str) -> bool:
    return rule.lower().endswith(".csv")


def _from_paths(rule: str, image_ids: Sequence[str]) -> dict[str, str]:
    matches = ((image_id, re.search(rule, image_id)) for image_id in image_ids)
    return {image_id: match[1] for image_id, match in matches if match and match[1]}


def _from_table(table: Path) -> dict[str, str]:
    """Read the group of each image; rows of images that are not used do not matter."""
    expected = f"expected a table with the columns {','.join(COLUMNS)}"
    rows = list(numbered_rows(table, expected))
    row, header = rows.pop(0) if rows else (1, [])
    header = [column.strip() for column in header]
    if len(header) == 1 and re.search(r"[;\t|]", header[0]):
        raise DataError(f"{table} row {row}: {header[0]!r}; expected commas between the columns")
    if not {*COLUMNS} <= {*header}:
        raise DataError(f"{table} row {row}: columns {','.join(header) or '(none)'}; {expected}")
    names: dict[str, str] = {}
    problems = []
    for row, values in rows:
        cells = dict(zip(header, map(str.strip, values), strict=False))
        image_id, name = (cells.get(column, "") for column in COLUMNS)
        image_id = plain(image_id.replace("\\", "/"))
        what = None
        if not image_id or not name:
            what = f"image {image_id!r}, group {name!r}; expected a name of each"
        elif names.setdefault(image_id, name) != name:
            what = f"image {image_id!r} is in group {name!r}, and above in {names[image_id]!r}"
        if what:
            problems.append(Problem(f"{table} row {row}", image_id, what))
    if problems:
        raise data_error(problems)
    return names
