"""Every file of a data set looked at once, before anything is built: all faults in one pass."""

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np

from tlunet.data import duplicates
from tlunet.data.pack.place import decode, present, resize_mask, unpack_labels
from tlunet.data.readers.pixels import read_size
from tlunet.data.source import Problem, Record, Source
from tlunet.errors import DataError
from tlunet.machine.parallel import cores

Progress = Callable[[str, int, int], None]  # what is being done, done so far, of how many
_Kept = TypeVar("_Kept")


class Findings(NamedTuple):
    """What a look at every file has shown.

    Attributes:
        problems: all faults: the listing's, then the images' and masks'.
        records: the images without a fault, N of them.
        labels: bool (N, M), whether the class has any pixel in the native mask.
        mask_labels: bool (N, M), whether it still has one at the size that was asked for.
        size: (height, width) that was asked for; ``None``: each image's own.
        sizes: how many have which (height, width), the commonest first.
        coloured: how many have colour.
        thumbnails: uint8 (N, 32, 32), to find near-duplicates by.
    """

    problems: list[Problem]
    records: list[Record]
    labels: np.ndarray
    mask_labels: np.ndarray
    size: tuple[int, int] | None
    sizes: list[tuple[tuple[int, int], int]]
    coloured: int
    thumbnails: np.ndarray


class _Look(NamedTuple):
    """What is kept of one image."""

    size: tuple[int, int]
    coloured: bool
    labels: int
    mask_labels: int
    thumbnail: np.ndarray


def examine(
    source: Source, size: tuple[int, int] | None = None, progress: Progress | None = None
) -> Findings:
    """Decode every image and its annotation once; nothing is kept of the pixels.

    Args:
        source: what a reader listed.
        size: (height, width) that every image would be resized to; without it all must have one.
        progress: told how far it is.
    """
    one_size = usual_size(source.records) if size is None else None
    M = len(source.classes)
    look = partial(_look, classes=M, required=one_size, size=size)
    problems, sound = look_at_each(source, look, progress)
    return Findings(
        problems,
        records=[record for record, _ in sound],
        labels=unpack_labels([look.labels for _, look in sound], M),
        mask_labels=unpack_labels([look.mask_labels for _, look in sound], M),
        size=size,
        sizes=Counter(look.size for _, look in sound).most_common(),
        coloured=sum(look.coloured for _, look in sound),
        thumbnails=np.array([look.thumbnail for _, look in sound], np.uint8),
    )


def look_at_each(
    source: Source,
    look: Callable[[Record], _Kept | list[Problem]],
    progress: Progress | None = None,
) -> tuple[list[Problem], list[tuple[Record, _Kept]]]:
    """Look at every image, in threads; only what the look returns is kept of it.

    Args:
        source: what a reader listed.
        look: what is kept of an image, or all that is wrong with it.
        progress: told how far it is.

    Returns:
        All faults, the listing's first, and what is kept of the images without one.
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
        pool.shutdown(cancel_futures=True)  # after Ctrl-C, nothing more is decoded
    bad = {problem.image_id for problem in problems}
    return problems, [(record, look) for record, look in kept if record.image_id not in bad]


def usual_size(records: Iterable[Record]) -> tuple[int, int] | None:
    """(height, width) that most images have, by their headers; ``None``: none can be read."""
    sizes: Counter[tuple[int, int]] = Counter()
    for record in records:
        with suppress(DataError):  # named when it is decoded
            sizes[read_size(record.image)] += 1
    return sizes.most_common(1)[0][0] if sizes else None


def _look(
    record: Record, classes: int, required: tuple[int, int] | None, size: tuple[int, int] | None
) -> _Look | list[Problem]:
    outcome = decode(record, classes, required)
    if isinstance(outcome, list):
        return outcome
    image, bits = outcome
    return _Look(
        size=(image.shape[0], image.shape[1]),
        coloured=image.ndim == 3,
        labels=present(bits),
        mask_labels=present(resize_mask(bits, size) if size else bits),
        thumbnail=duplicates.thumbnail(image),
    )
