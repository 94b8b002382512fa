"""COCO instances: one JSON file for many images, outlines as polygons or run-length encoding.

Reference: cocodataset.org/#format-data.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from tlunet.data.convert.labelled import Draw, Item, Labelled, Object, draw_polygons, draw_runs
from tlunet.data.readers.listing import IMAGE_SUFFIXES, list_files, plain
from tlunet.data.source import Problem
from tlunet.errors import DataError

LAYOUT = "expected COCO instances: an object with the lists images, annotations and categories"


def read(source: Path, images: Path | None = None) -> Labelled:
    """List the images and objects of a COCO file.

    Args:
        source: the JSON file, or a folder with one JSON file somewhere in it.
        images: the folder that ``file_name`` is relative to; ``None``: the folder of the JSON
            file, or ``images`` in it or next to it, whichever contains the first image.

    Raises:
        DataError: the file is missing or not a COCO file; one line per problem.
    """
    file = _only_file(source)
    content = _load(file)
    names = _categories(file, content["categories"])
    ids = {category: place for place, category in enumerate(names, start=1)}
    folder = images or _image_folder(file, content["images"])
    listing = list_files(folder, IMAGE_SUFFIXES)
    problems = list(listing.problems)

    objects: dict[Any, list[Object]] = {}
    paths: dict[Any, tuple[str, tuple[int, int] | None]] = {}
    for place, image in enumerate(content["images"]):
        where = f"{file} images[{place}]"
        name, fault = _image_name(image, listing.files, folder)
        if fault:
            problems.append(Problem(where, name, fault))
        elif image["id"] in paths:
            problems.append(Problem(where, name, f"id {image['id']} appears twice"))
        else:
            paths[image["id"]], objects[image["id"]] = (name, _size(image)), []
    for place, annotation in enumerate(content["annotations"]):
        where = f"{file} annotations[{place}]"
        try:
            image_id, category, draw = _annotation(annotation, ids)
        except ValueError as error:
            problems.append(Problem(where, "", str(error)))
            continue
        if image_id not in objects:
            problems.append(Problem(where, "", f"image_id {image_id!r}: no such image"))
        else:
            objects[image_id].append(Object(category, draw, where))
    items = tuple(
        Item(name, listing.files[name], tuple(objects[image_id]), size)
        for image_id, (name, size) in paths.items()
    )
    unused = len(listing.files) - len({item.image_id for item in items})
    return Labelled(tuple(names.values()), items, tuple(problems), unused)


def _only_file(source: Path) -> Path:
    if source.is_file():
        return source
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder; expected a COCO JSON file")
    found = sorted(source.rglob("*.json"))
    if len(found) != 1:
        some = ", ".join(str(path.relative_to(source)) for path in found[:5]) or "none"
        raise DataError(f"{source}: contains {len(found)} JSON files ({some}); pass the one to use")
    return found[0]


def _load(file: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: cannot be read as JSON ({error})") from error
    keys = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in keys):
        raise DataError(f"{file}: {LAYOUT}")
    for key in keys:
        for place, entry in enumerate(content[key]):
            if not isinstance(entry, dict):
                raise DataError(f"{file} {key}[{place}]: {entry!r:.60}; expected an object")
    if not content["images"]:
        raise DataError(f"{file}: contains no images; {LAYOUT}")
    return content


def _categories(file: Path, categories: list[dict[str, Any]]) -> dict[int, str]:
    """Map category ids to names, sorted by id."""
    names: dict[int, str] = {}
    for place, category in enumerate(categories):
        number, name = category.get("id"), category.get("name")
        if not _is_id(number) or not isinstance(name, str) or not name.strip():
            raise DataError(f"{file} categories[{place}]: expected an integer id and a name")
        if number in names or name in names.values():
            raise DataError(f"{file} categories[{place}]: {number} {name!r} appears twice")
        names[number] = name
    if not names:
        raise DataError(f"{file}: contains no categories; {LAYOUT}")
    return dict(sorted(names.items()))


def _image_folder(file: Path, images: list[dict[str, Any]]) -> Path:
    first = images[0].get("file_name")
    folders = (file.parent, file.parent / "images", file.parent.parent / "images")
    for folder in folders:
        if isinstance(first, str) and (folder / first).is_file():
            return folder
    raise DataError(
        f"{file}: image {first!r} is neither next to it nor in images/; pass its folder as --images"
    )


def _image_name(image: dict[str, Any], files: dict[str, Path], folder: Path) -> tuple[str, str]:
    """Return an image's path relative to its folder, and what is wrong with it."""
    name = image.get("file_name")
    if not _is_id(image.get("id")) or not isinstance(name, str):
        return "", "expected an integer id and a file_name"
    name = plain(name.removeprefix("./"))
    return name, "" if name in files else f"file_name {name!r}: no such image in {folder}"


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    height, width = image.get("height"), image.get("width")
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _annotation(annotation: dict[str, Any], ids: dict[int, int]) -> tuple[Any, int, Draw]:
    """Return its image, its class from 1, and the function that draws it."""
    category = annotation.get("category_id")
    if not _is_id(category) or category not in ids:
        raise ValueError(f"category_id {category!r}: no such category")
    image_id = annotation.get("image_id")
    if not _is_id(image_id):
        raise ValueError(f"image_id {image_id!r:.40}: expected an integer")
    outline = annotation.get("segmentation")
    if isinstance(outline, dict):
        counts, size = outline.get("counts"), outline.get("size")
        if not _is_code(counts) or not _is_size(size):
            raise ValueError("segmentation: run-length code needs counts and size [height, width]")
        return image_id, ids[category], _sized(draw_runs(counts), (size[0], size[1]))
    polygons = list(_polygons(outline))
    return image_id, ids[category], draw_polygons(polygons, is_relative=False)


def _sized(draw: Draw, own: tuple[int, int]) -> Draw:
    """Restrict runs to images of their own size; on others they would be sheared."""

    def checked(size: tuple[int, int]) -> Any:
        if size != own:
            raise ValueError(f"run-length code is for {own[0]}×{own[1]}, not for this image's size")
        return draw(size)

    return checked


def _polygons(outline: Any) -> Iterator[np.ndarray]:
    if not isinstance(outline, list) or not outline:
        raise ValueError("segmentation: empty; expected polygons (a box has no outline)")
    for polygon in outline if isinstance(outline[0], list) else [outline]:
        numbers = isinstance(polygon, list) and all(
            isinstance(value, int | float) and not isinstance(value, bool) for value in polygon
        )
        if not numbers or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError("segmentation: expected polygons of at least three points: x, y, …")
        corners = np.array(polygon, float).reshape(-1, 2)
        if not (np.abs(corners) < 1e6).all():
            raise ValueError("segmentation: a point far outside any image")
        yield corners


def _is_id(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_code(value: Any) -> TypeGuard[list[int] | str]:
    return isinstance(value, str) or (isinstance(value, list) and all(map(_is_id, value)))


def _is_size(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_id, value))
