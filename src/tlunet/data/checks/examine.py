"""Read every file of a data set once, before anything is built, and find all problems."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tlunet.data.bits import present, resize_mask, unpack_labels
from tlunet.data.fit import content_size
from tlunet.data.grouping import duplicates
from tlunet.data.readers.decode import decode
from tlunet.data.sizes import are_mixed, count_sizes, mixed_sizes, usual_size
from tlunet.data.source import Problem, Record, Source
from tlunet.machine.console import Progress
from tlunet.machine.parallel import cores

_Kept = TypeVar("_Kept")


class Findings(NamedTuple):
    """Results of reading every file.

    Attributes:
        source: the data set.
        problems: all problems: those of the listing, then those of images and masks.
        records: the N valid images.
        sizes: (height, width) of each image on disk, (N, 2).
        coloured: bool (N,), whether an image has colour.
        labels: bool (N, M), whether the class has any pixel in the native mask.
        mask_labels: bool (N, M), whether it still has one at the requested size.
        thumbnails: uint8 (N, 32, 32), to find near-duplicates.
        counted_at: the requested (height, width); ``None``: each image's own.
    """

    source: Source
    problems: list[Problem]
    records: list[Record]
    sizes: NDArray[np.int64]
    coloured: NDArray[np.bool_]
    labels: NDArray[np.bool_]
    mask_labels: NDArray[np.bool_]
    thumbnails: NDArray[np.uint8]
    counted_at: tuple[int, int] | None


class _Look(NamedTuple):
    """What is kept from one image."""

    size: tuple[int, int]
    coloured: bool
    labels: int
    mask_labels: int
    thumbnail: np.ndarray


def examine(
    source: Source,
    size: tuple[int, int] | None = None,
    progress: Progress | None = None,
    fit: str = "stretch",
) -> Findings:
    """Decode every image and its annotation once; pixels are not kept.

    Args:
        source: the data set as a reader listed it.
        size: (height, width) to which images are resized; without it, all must have one size.
        progress: called with the progress.
        fit: how they are resized, ``stretch`` or ``pad``.
    """
    required = None
    if size is None:
        sizes = count_sizes(source.records)
        required = usual_size(sizes)
        if are_mixed(sizes):  # a single problem, and not of the images
            required = None
            source = replace(source, problems=(mixed_sizes(source, sizes), *source.problems))
    M = len(source.classes)
    look = partial(_look, classes=M, required=required, size=size, fit=fit)
    problems, sound = look_at_each(source, look, progress)
    return Findings(
        source,
        problems,
        records=[record for record, _ in sound],
        sizes=np.array([look.size for _, look in sound], np.int64).reshape(-1, 2),
        coloured=np.array([look.coloured for _, look in sound], bool),
        labels=unpack_labels([look.labels for _, look in sound], M),
        mask_labels=unpack_labels([look.mask_labels for _, look in sound], M),
        thumbnails=np.array([look.thumbnail for _, look in sound], np.uint8),
        counted_at=size,
    )


def look_at_each(
    source: Source,
    look: Callable[[Record], _Kept | list[Problem]],
    progress: Progress | None = None,
) -> tuple[list[Problem], list[tuple[Record, _Kept]]]:
    """Apply a function to every image, in threads, and keep only its results.

    Args:
        source: the data set as a reader listed it.
        look: returns what to keep from an image, or all of its problems.
        progress: called with the progress.

    Returns:
        All problems, those of the listing first, and the results for the valid images.
    """
    problems, kept = list(source.problems), []
    pool = ThreadPoolExecutor(cores())
    try:
        outcomes = zip(source.records, pool.map(look, source.records), strict=True)
        for done, (record, outcome) in enumerate(outcomes, start=1):
            if isinstance(outcome, list):
                problems += outcome
            else:
                kept.append((record, outcome))
            if progress:
                progress("checking images", done, len(source.records))
    finally:
        pool.shutdown(cancel_futures=True)  # stop decoding after Ctrl-C
    bad = {problem.image_id for problem in problems}
    return problems, [(record, look) for record, look in kept if record.image_id not in bad]


def _look(
    record: Record,
    classes: int,
    required: tuple[int, int] | None,
    size: tuple[int, int] | None,
    fit: str,
) -> _Look | list[Problem]:
    outcome = decode(record, classes, required)
    if isinstance(outcome, list):
        return outcome
    image, bits = outcome
    own = image.shape[0], image.shape[1]
    return _Look(
        size=own,
        coloured=image.ndim == 3,
        labels=present(bits),
        mask_labels=present(resize_mask(bits, content_size(own, size, fit)) if size else bits),
        thumbnail=duplicates.thumbnail(image),
    )
