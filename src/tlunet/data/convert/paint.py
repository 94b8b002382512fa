"""Paint outlined objects into the masks of a `folder` data set.

A mask has one class id per pixel, so where objects of different classes overlap, only one is kept.
**Rule:** larger objects are painted first, so the smaller one wins; of two objects with the same
size, the later one in the file wins. The pixels that each class loses are counted.
"""

import shutil
import tempfile
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from tlunet.data.convert.labelled import Item, Labelled
from tlunet.data.readers.pixels import read_size
from tlunet.data.source import MAX_CLASSES, Problem, data_error
from tlunet.errors import ConfigError, DataError, reason_of
from tlunet.machine.console import Progress


class Converted(NamedTuple):
    """Counts of what was written.

    Attributes:
        images: number of images.
        free: images without objects.
        objects: objects of all classes.
        empty: objects that cover no pixels.
        pixels: pixels of each class before overlaps are resolved, (M,).
        lost: pixels of each class that another class has taken, (M,).
    """

    images: int
    free: int
    objects: int
    empty: int
    pixels: np.ndarray
    lost: np.ndarray


class _Counts(NamedTuple):
    """Counts of one image, as in `Converted`."""

    is_free: bool
    empty: int
    pixels: np.ndarray
    lost: np.ndarray


def convert(labelled: Labelled, out: Path, progress: Progress | None = None) -> Converted:
    """Write ``images/`` (copies) and ``masks/`` (PNG of class ids) atomically.

    Args:
        labelled: the images and objects to convert.
        out: the folder to create.
        progress: called with the progress.

    Raises:
        ConfigError: there are more classes than a data set may have.
        DataError: all problems of the annotations and images; or ``out`` already exists or cannot
            be written.
    """
    if len(labelled.classes) > MAX_CLASSES:
        raise ConfigError(f"{len(labelled.classes)} classes; at most {MAX_CLASSES} are supported")
    if out.exists():
        raise DataError(f"{out}: already exists; remove it or choose another folder")
    problems = [*labelled.problems, *_same_stems(labelled)]
    counts: list[_Counts] = []
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
            new = Path(scratch) / "new"  # the scratch folder itself is readable only by its owner
            for done, item in enumerate(labelled.items, start=1):
                outcome = _paint(item, len(labelled.classes))
                if isinstance(outcome, list):
                    problems += outcome
                elif not problems:
                    ids, counted = outcome
                    _write(new, item, ids)
                    counts.append(counted)
                if progress:
                    progress("painting masks", done, len(labelled.items))
            if problems:
                raise data_error(problems)
            new.rename(out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({reason_of(error)})") from error
    none = np.zeros(len(labelled.classes), np.int64)
    return Converted(
        images=len(counts),
        free=sum(counted.is_free for counted in counts),
        objects=sum(len(item.objects) for item in labelled.items),
        empty=sum(counted.empty for counted in counts),
        pixels=sum((counted.pixels for counted in counts), none),
        lost=sum((counted.lost for counted in counts), none),
    )


def _same_stems(labelled: Labelled) -> list[Problem]:
    """Find images that would share a mask."""
    stems = Counter(_stem(item.image_id) for item in labelled.items)
    return [
        Problem(str(item.path), item.image_id, "another image has the same stem; rename one")
        for item in labelled.items
        if stems[_stem(item.image_id)] > 1
    ]


def _stem(image_id: str) -> str:
    return str(PurePosixPath(image_id).with_suffix(""))


def _paint(item: Item, classes: int) -> tuple[np.ndarray, _Counts] | list[Problem]:
    """Return an image's class ids, (H, W), and its counts, or all of its problems."""
    try:
        size = read_size(item.path)
    except DataError as error:
        return [Problem(str(item.path), item.image_id, what) for what in error.lines]
    if item.size not in (None, size):
        what = f"is {size[0]}×{size[1]}; its annotation says {item.size[0]}×{item.size[1]}"
        return [Problem(str(item.path), item.image_id, what)]
    layers, problems = [], []
    for found in item.objects:
        try:
            layers.append((found.class_id, found.draw(size)))
        except ValueError as error:
            problems.append(Problem(found.where, item.image_id, str(error)))
    if problems:
        return problems
    ids = np.zeros(size, np.uint8)
    whole = np.zeros((classes, *size), bool)
    for class_id, layer in sorted(layers, key=lambda pair: -int(pair[1].sum())):
        ids[layer] = class_id
        whole[class_id - 1] |= layer
    pixels = whole.sum((1, 2))
    left = np.bincount(ids.ravel(), minlength=classes + 1)[1:]
    empty = sum(not layer.any() for _, layer in layers)
    return ids, _Counts(not ids.any(), empty, pixels, pixels - left)


def _write(folder: Path, item: Item, ids: np.ndarray) -> None:
    image = folder / "images" / item.image_id
    mask = folder / "masks" / f"{_stem(item.image_id)}.png"
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(item.path, image)
    Image.fromarray(ids).save(mask)
