"""Survey a data set: read every image once and keep a few numbers of each."""

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tlunet.data.bits import present, resize_mask, unpack_labels
from tlunet.data.checks.examine import look_at_each
from tlunet.data.fit import content_size
from tlunet.data.grouping import duplicates
from tlunet.data.readers.decode import decode
from tlunet.data.source import Problem, Record, Source, data_error
from tlunet.machine.console import Progress

_TOUCHING = np.ones((3, 3), bool)  # pixels that touch at a corner belong to one region


class Survey(NamedTuple):
    """Statistics of a data set, without its pixels.

    Attributes:
        source: the data set.
        problems: all problems: those of the listing, then those of images and masks.
        records: the N valid images.
        sizes: (height, width) of each image on disk, (N, 2).
        coloured: bool (N,), whether an image has colour.
        labels: bool (N, M), whether the class has any pixel in the native mask.
        pixels: pixels of each class in each image, (N, M), at the requested size.
        regions: M arrays with the pixels of each region of a class, over all images. A region is
            a set of connected pixels of one class; touching at a corner is enough.
        thumbnails: uint8 (N, 32, 32), to find near-duplicates.
        counted_at: (height, width) to which every mask was resized; ``None``: its own.
        fit: how it was resized, ``stretch`` or ``pad``.
    """

    source: Source
    problems: list[Problem]
    records: list[Record]
    sizes: NDArray[np.int64]
    coloured: NDArray[np.bool_]
    labels: NDArray[np.bool_]
    pixels: NDArray[np.int64]
    regions: tuple[NDArray[np.int64], ...]
    thumbnails: NDArray[np.uint8]
    counted_at: tuple[int, int] | None
    fit: str = "stretch"

    @property
    def mask_labels(self) -> NDArray[np.bool_]:
        """Bool (N, M): whether the class still has a pixel at the requested size."""
        return self.pixels > 0


class _Look(NamedTuple):
    """What is kept from one image."""

    size: tuple[int, int]
    is_coloured: bool
    labels: int
    regions: dict[int, NDArray[np.int64]]  # by class, from 0
    thumbnail: NDArray[np.uint8]


def survey(
    source: Source,
    size: tuple[int, int] | None = None,
    progress: Progress | None = None,
    fit: str = "stretch",
) -> Survey:
    """Decode every image and its annotation once; pixels are not kept.

    Images may have different sizes; this is not a problem here.

    Args:
        source: the data set as a reader listed it.
        size: (height, width) to which every mask is resized before pixels are counted, as with
            ``data.size``; without it, each keeps its own size.
        progress: called with the progress.
        fit: how masks are resized, as with ``data.fit``.

    Raises:
        DataError: no image is valid.
    """
    classes = len(source.classes)
    look_at = partial(_look, classes=classes, size=size, fit=fit)
    problems, sound = look_at_each(source, look_at, progress)
    if not sound:
        raise data_error(problems)
    pixels = np.zeros((len(sound), classes), np.int64)
    regions: list[list[NDArray[np.int64]]] = [[] for _ in range(classes)]
    for row, (_, look) in enumerate(sound):
        for m, areas in look.regions.items():
            pixels[row, m] = areas.sum()
            regions[m].append(areas)
    return Survey(
        source,
        problems,
        records=[record for record, _ in sound],
        sizes=np.array([look.size for _, look in sound], np.int64),
        coloured=np.array([look.is_coloured for _, look in sound]),
        labels=unpack_labels([look.labels for _, look in sound], classes),
        pixels=pixels,
        regions=tuple(
            np.concatenate([np.empty(0, np.int64), *class_areas]) for class_areas in regions
        ),
        thumbnails=np.array([look.thumbnail for _, look in sound], np.uint8),
        counted_at=size,
        fit=fit,
    )


def region_areas(layer: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count the pixels of each region of a non-empty mask (H, W).

    >>> region_areas(np.array([[1, 0, 0, 1], [0, 1, 0, 1]], bool))
    array([2, 2])
    """
    rows, columns = np.flatnonzero(layer.any(1)), np.flatnonzero(layer.any(0))
    box = layer[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]  # most of a strip is steel
    numbered, _ = ndimage.label(box, _TOUCHING)
    return np.bincount(numbered.ravel())[1:]


def _look(
    record: Record, classes: int, size: tuple[int, int] | None, fit: str
) -> _Look | list[Problem]:
    outcome = decode(record, classes)
    if isinstance(outcome, list):
        return outcome
    image, bits = outcome
    labels = present(bits)
    if size:
        bits = resize_mask(bits, content_size((image.shape[0], image.shape[1]), size, fit))
    remaining = [m for m in range(classes) if present(bits) >> m & 1]
    return _Look(
        size=(image.shape[0], image.shape[1]),
        is_coloured=image.ndim == 3,
        labels=labels,
        regions={m: region_areas(bits & np.uint32(1 << m) != 0) for m in remaining},
        thumbnail=duplicates.thumbnail(image),
    )
