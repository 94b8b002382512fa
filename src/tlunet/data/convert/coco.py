"""COCO instances: one JSON file for many images, outlines as polygons or run-length encoding.

Reference: cocodataset.org/#format-data.
"""

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeGuard

from tlunet.data.convert.categories import is_id, read_categories
from tlunet.data.convert.labelled import Item, Labelled, Object, grouped, short
from tlunet.data.convert.segmentation import EXPECTED, read_segmentation
from tlunet.data.readers.alike import LINK, Alike, contents
from tlunet.data.readers.listing import IMAGE_SUFFIXES, Listing, is_folder_link, list_files, plain
from tlunet.data.source import Problem, require_folder
from tlunet.errors import DataError, first_line
from tlunet.machine.counted import counted

LAYOUT = "expected COCO instances: an object with the lists images, annotations and categories"
KEYS = ("images", "annotations", "categories")
Entries = list[dict[str, Any]]


def read(source: Path, images: Path | None = None) -> Labelled:
    """List the images and objects of a COCO file.

    Args:
        source: the JSON file, or a folder with one JSON file somewhere in it.
        images: the folder that ``file_name`` is relative to; ``None``: the folder of the JSON
            file, or one in it or next to it, whichever contains most of the images.

    Raises:
        DataError: the file is missing or not a COCO file; one line per problem.
    """
    file = _only_file(source)
    content = _load(file)
    used = Counter(a["category_id"] for a in content["annotations"] if is_id(a.get("category_id")))
    names, notes = read_categories(file, content["categories"], used)
    if images:
        require_folder(images, "expected the folder that the file names are relative to")
    folder = images or _image_folder(file, content["images"])
    listing = list_files(folder, IMAGE_SUFFIXES)
    if not listing.files and not listing.problems:
        first = short(content["images"][0].get("file_name"), 120)
        raise DataError(
            f"{file} images[0]: file_name {first}: no such image in {folder}; {contents(folder)}"
        )
    moved = _moved(content["images"], listing) if images else {}
    if moved:
        given, found = next(iter(moved.items()))
        notes.append(
            f"{counted(len(moved), 'image')} found in {folder} by the last part of the name, such "
            f"as {found} for {short(given, 120)}"
        )
    entries = _images(file, content["images"], listing, folder, moved)
    annotations = _objects(file, content["annotations"], list(names), entries)

    items = tuple(
        Item(name, listing.files[name], tuple(annotations.objects.get(number, ())), size)
        for number, (name, size) in entries.items.items()
    )
    problems = [*listing.problems, *entries.problems, *annotations.problems]
    what = "; ".join(("no objects: every image would count as defect-free", *annotations.notes))
    if unused := len(listing.files) - len({item.image_id for item in items}):
        notes.append(f"{unused} images have no annotation entry and are skipped")
    return Labelled(
        tuple(names.values()),
        items,
        tuple(problems),
        notes=(*notes, *annotations.notes),
        empty=Problem(str(file), "", what),
    )


def _only_file(source: Path) -> Path:
    if not source.exists():
        raise DataError(f"{source}: no such file or folder; expected a COCO JSON file")
    if not source.is_dir():
        return source
    files = sorted(source.rglob("*.json"))
    if len(files) != 1:
        some = ", ".join(str(path.relative_to(source)) for path in files[:5]) or "none"
        there = "" if files else f"; {contents(source)}"
        raise DataError(
            f"{source}: contains {len(files)} JSON files ({some}); pass the one to use{there}"
        )
    return files[0]


def _load(file: Path) -> dict[str, Entries]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = first_line(error).partition("; use sys.")[0]  # for programmers
        raise DataError(f"{file}: cannot be read as JSON ({reason})") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in KEYS):
        raise DataError(f"{file}: {LAYOUT}")
    for key in KEYS:
        for place, entry in enumerate(content[key]):
            if not isinstance(entry, dict):
                raise DataError(f"{file} {key}[{place}]: {short(entry)}; expected an object")
    if not content["images"]:
        raise DataError(f"{file}: contains no images; {LAYOUT}")
    return content


# --- images ----------------------------------------------------------------------------------


class _Images(NamedTuple):
    """The entries of ``images``: id → file name and (height, width), and what is wrong."""

    items: dict[Hashable, tuple[str, tuple[int, int] | None]]
    problems: list[Problem]
    faulty: set[Hashable]  # ids of those with a problem: their annotations have none of their own


def _image_folder(file: Path, images: Entries) -> Path:
    """Find the folder of the images where annotation tools put it."""
    names = [name for image in images if (name := _name(image))]
    here, above = file.parent, file.parent.parent
    subset = file.stem.partition("_")[2]  # CVAT: annotations/instances_train.json, images/train
    folders = [here, here / "images", above / "images", above / "images" / subset]
    folders += [above / subset, here / "images" / subset, above]
    best = max(folders, key=lambda folder: sum(_is_file(folder / name) for name in names))
    if any(_is_file(best / name) for name in names):
        return best
    if not names:
        given = short(images[0].get("file_name", ""))
        raise DataError(f"{file} images[0]: file_name: {given}; expected the path of an image")
    there = [name for folder in (here, above / "images") for name in _listed(folder)]
    hint = Alike(there).hint(names[0]) or f"; {contents(here)}"
    raise DataError(
        f"{file}: image {short(names[0], 120)} is neither next to it nor in images/; pass its "
        f"folder as --images{hint}"
    )


def _listed(folder: Path) -> Iterable[str]:
    return list_files(folder, IMAGE_SUFFIXES).files if folder.is_dir() else ()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long
        return False


def _name(image: dict[str, Any]) -> str:
    """Return an image's path relative to its folder, "" if it has none."""
    name = image.get("file_name")
    if not isinstance(name, str):
        return ""
    return plain(name.replace("\\", "/").removeprefix("./"))  # Windows writes images\a.png


def _moved(images: Entries, listing: Listing) -> dict[str, str]:
    """Map names whose folders are those of another machine to the files in this folder.

    Empty if two images have the same name in different folders: it would be a guess.
    """
    names = [name for image in images if (name := _name(image))]
    last = {name: PurePosixPath(name).name for name in names}
    if len(set(last.values())) < len(last):
        return {}
    return {name: last[name] for name in names
            if name not in listing.files and last[name] in listing.files}  # fmt: skip


def _images(
    file: Path, images: Entries, listing: Listing, folder: Path, moved: dict[str, str]
) -> _Images:
    entries = _Images({}, [], set())
    told = {problem.image_id for problem in listing.problems}
    alike = Alike(listing.files)
    links = {p.name: f"; {p} is {LINK}" for p in listing.ignored if is_folder_link(p)}
    places: dict[str, int] = {}
    for place, image in enumerate(images):
        name, number = _name(image), image.get("id")
        name = moved.get(name, name)
        if not _is_key(number) or not name:
            what = "expected an integer id and a file_name"
        elif number in entries.items:
            what = f"id {short(number)} appears twice"
        elif name in told:
            what = ""
        elif name not in listing.files:
            hint = links.get(name.split("/")[0]) or alike.hint(name)
            what = f"file_name {short(name, 120)}: no such image in {folder}{hint}"
        elif name in places:
            what = f"file_name {short(name, 120)} is that of images[{places[name]}]; merge the two"
        else:
            places[name] = place
            entries.items[number] = (name, _size(image))
            continue
        if _is_key(number):
            entries.faulty.add(number)
        if what:
            entries.problems.append(Problem(f"{file} images[{place}]", name, what))
    return entries


def _is_key(number: Any) -> TypeGuard[int | str]:
    """Whether an image can be referred to by this id; some scripts write text."""
    return is_id(number) or isinstance(number, str)


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    height, width = image.get("height"), image.get("width")
    return (height, width) if is_id(height) and is_id(width) and height and width else None


# --- annotations -----------------------------------------------------------------------------


class _Objects(NamedTuple):
    objects: dict[Hashable, list[Object]]  # by image id
    problems: list[Problem]
    notes: list[str]


def _objects(file: Path, annotations: Entries, ids: list[int], images: _Images) -> _Objects:
    classes = {category: place for place, category in enumerate(ids, start=1)}
    objects: dict[Hashable, list[Object]] = {}
    problems, slivers, lost = [], 0, 0
    for place, annotation in enumerate(annotations):
        where, number = f"{file} annotations[{place}]", annotation.get("image_id")
        try:
            if not _is_key(number):
                raise ValueError(f"image_id {short(number)}: expected an integer")
            if number in images.faulty:
                continue
            class_id = _class(annotation, classes)
            if number not in images.items:
                raise ValueError(f"image_id {short(number)}: no such image")
            shape = read_segmentation(annotation.get("segmentation"))
        except ValueError as error:
            problems.append(Problem(where, "", str(error)))
            continue
        slivers += shape.slivers
        if shape.draw:
            objects.setdefault(number, []).append(Object(class_id, shape.draw, where))
        else:
            lost += 1
    return _Objects(objects, grouped(problems), list(_sliver_note(slivers, lost)))


def _class(annotation: dict[str, Any], classes: dict[int, int]) -> int:
    category = annotation.get("category_id")
    if not is_id(category) or category not in classes:
        raise ValueError(f"category_id {short(category)}: no such category")
    return classes[category]


def _sliver_note(slivers: int, lost: int) -> Iterator[str]:
    if slivers:
        objects = f"; {lost} objects have no other part and are lost" if lost else ""
        yield f"{slivers} outlines of fewer than three points are passed over ({EXPECTED}){objects}"
