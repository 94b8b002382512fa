"""The categories of a COCO file, which become the classes from 1.

Some tools add entries that are not classes and have no annotations: Roboflow a root (id 0, named
as the ``supercategory`` of the others), labelme a background. They are left out.
"""

from collections import Counter
from pathlib import Path
from typing import Any, TypeGuard

from tlunet.data.convert.labelled import short
from tlunet.errors import DataError

BACKGROUND = {"background", "ignore"}
NO_ROOT = ("none", "", None)  # the supercategory of a category without one


def read_categories(
    file: Path, categories: list[dict[str, Any]], used: Counter[int]
) -> tuple[dict[int, str], list[str]]:
    """Map category ids to class names, sorted by id.

    Args:
        file: the COCO file, for messages.
        categories: its categories.
        used: category id → number of annotations.

    Returns:
        The names, and one line for each category that was left out.

    Raises:
        DataError: an entry is malformed, or two classes have the same id or name.
    """
    names: dict[int, str] = {}
    places: dict[int, int] = {}
    for place, category in enumerate(categories):
        number, name = category.get("id"), category.get("name")
        if not is_id(number) or not isinstance(name, str) or not name.strip():
            given = f"id {short(number)}, name {short(name)}"
            raise DataError(f"{file} categories[{place}]: {given}; expected an integer and a name")
        if number in names:
            raise DataError(f"{file} categories[{place}]: {short(number)} {name!r} appears twice")
        names[number], places[number] = name.strip(), place
    notes = []
    for number, why in _no_classes(categories, names, used).items():
        notes.append(f"category {short(number)} {names.pop(number)!r} is left out: {why}")
    if not names:
        raise DataError(f"{file}: contains no categories; expected the classes")
    seen: dict[str, int] = {}
    for number, name in names.items():
        if name in seen:
            raise DataError(
                f"{file} categories[{places[number]}]: {short(number)} {name!r} appears twice, "
                f"also as {short(seen[name])}; rename one, or remove it if they are one class"
            )
        seen[name] = number
    return dict(sorted(names.items())), notes


def _no_classes(
    categories: list[dict[str, Any]], names: dict[int, str], used: Counter[int]
) -> dict[int, str]:
    """Return the ids that are no classes, with the reason."""
    parents = {c["id"]: c.get("supercategory") for c in categories}
    times = Counter(names.values())
    annotated = {name for number, name in names.items() if used[number]}
    reasons = {}
    for number, name in names.items():
        others = [parent for other, parent in parents.items() if other != number]
        is_top = number == 0 or parents[number] in NO_ROOT
        if used[number]:
            continue
        if is_top and name in others:
            reasons[number] = "only the supercategory of others, without annotations"
        elif name.strip("_").lower() in BACKGROUND:
            reasons[number] = "the background, without annotations"
        elif times[name] > 1 and name in annotated:
            reasons[number] = "without annotations, and another category has its name"
    return reasons


def is_id(value: Any) -> TypeGuard[int]:
    """Whether a value of the file is an integer."""
    return isinstance(value, int) and not isinstance(value, bool)
