"""Paint outlined objects into the masks of a `folder` data set.

A mask has one class id per pixel, so where objects of different classes overlap, only one is kept.
**Rule:** the smaller object wins; of two objects with the same size, the later one in the file
wins. The pixels that each class loses are counted.
"""

import shutil
import tempfile
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from tlunet.data.convert.labelled import Item, Labelled, Patch, grouped, short
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
        sizes: (height, width) → number of images.
    """

    images: int
    free: int
    objects: int
    empty: int
    pixels: np.ndarray
    lost: np.ndarray
    sizes: Counter[tuple[int, int]]


class _Counts(NamedTuple):
    """Counts of one image, as in `Converted`."""

    size: tuple[int, int]
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
    problems = [*labelled.problems, *_same_stems(labelled)]
    counts: list[_Counts] = []
    try:
        if out.exists():
            raise DataError(f"{out}: already exists; remove it or choose another folder")
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name[:40]}-", dir=out.parent) as scratch:
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
            if not problems and labelled.empty and not any(i.objects for i in labelled.items):
                problems.append(labelled.empty)
            if problems:
                raise data_error(problems)
            _check_pixels(labelled, counts, out)
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
        sizes=Counter(counted.size for counted in counts),
    )


def _check_pixels(labelled: Labelled, counts: list[_Counts], out: Path) -> None:
    """Raise DataError if there are objects, but all of them are outside of their images."""
    empty = sum(counted.empty for counted in counts)
    if empty and empty == sum(len(item.objects) for item in labelled.items):
        first = next(instance.where for item in labelled.items for instance in item.objects)
        raise DataError(
            f"{out}: not written: none of the {empty} objects covers a pixel of its image "
            f"(the first is {first}); expected coordinates in pixels of these images"
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
        return [Problem(str(item.path), item.image_id, _wrong_size(size, item.size))]
    canvas = _Canvas(size)
    problems = []
    for instance in item.objects:
        try:
            canvas.paint(instance.class_id, instance.draw(size))
        except ValueError as error:
            problems.append(Problem(instance.where, item.image_id, str(error)))
    return grouped(problems) or (canvas.ids, canvas.counts(classes))


def _wrong_size(size: tuple[int, int], said: tuple[int, int]) -> str:
    numbers = "×".join(short(number, 12) for number in said)
    turned = " (height × width; turned by its EXIF orientation?)" if said == size[::-1] else ""
    return f"is {size[0]}×{size[1]}; its annotation says {numbers}{turned}"


class _Canvas:
    """The mask of one image while its objects are painted in any order."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.ids = np.zeros(size, np.uint8)  # (H, W), the class that won
        self._classes = np.zeros(size, np.uint32)  # (H, W), bit m-1: class m was painted
        self._area = np.full(size, np.iinfo(np.int32).max, np.int32)  # (H, W), of the winner
        self._empty = 0

    def paint(self, class_id: int, patch: Patch) -> None:
        """Add an object, which wins where no smaller one is."""
        area = int(np.count_nonzero(patch.mask))
        if not area:
            self._empty += 1
            return
        height, width = patch.mask.shape
        place = np.s_[patch.top : patch.top + height, patch.left : patch.left + width]
        classes = self._classes[place]
        np.bitwise_or(classes, np.uint32(1 << (class_id - 1)), out=classes, where=patch.mask)
        wins = patch.mask & (self._area[place] >= area)
        self.ids[place][wins] = class_id
        self._area[place][wins] = area

    def counts(self, classes: int) -> _Counts:
        pixels = np.array(
            [np.count_nonzero(self._classes & np.uint32(1 << bit)) for bit in range(classes)]
        )
        left = np.bincount(self.ids.ravel(), minlength=classes + 1)[1:]
        return _Counts(self.ids.shape, not self.ids.any(), self._empty, pixels, pixels - left)


def _write(folder: Path, item: Item, ids: np.ndarray) -> None:
    image = folder / "images" / item.image_id
    mask = folder / "masks" / f"{_stem(item.image_id)}.png"
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(item.path, image)
    Image.fromarray(ids).save(mask)
