"""Published sizes and counts of two data sets, and checks of a copy against them."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tlunet.data.readers.pixels import read_size
from tlunet.data.source import Record, Source
from tlunet.errors import DataError
from tlunet.machine.parallel import cores


@dataclass(frozen=True)
class Published:
    """Properties of a data set as published.

    Attributes:
        parts: number of images in each subset.
        size: (height, width) of every image.
        class_images: number of images with each class; empty if not published.
        free: number of defect-free images; ``None`` if not published.
        licence: one line about the terms of use.
    """

    parts: dict[str, int]
    size: tuple[int, int]
    class_images: tuple[int, ...] = ()
    free: int | None = None
    licence: str = ""


#: Kaggle, Severstal: Steel Defect Detection (2019): train_images and train.csv, which has one row
#: per image and class.
SEVERSTAL = Published(
    parts={"train": 12568},
    size=(256, 1600),
    class_images=(897, 247, 5150, 801),
    free=5902,
    licence="licence: the rules of the Kaggle competition",
)

#: The repository DHW-Master/NEU_Seg; the data set of Dong et al., PGA-Net (IEEE Transactions on
#: Industrial Informatics, 2020).
NEU_SEG = Published(
    parts={"train": 3630, "test": 840},
    size=(200, 200),
    licence="licence: its authors state none; ask them before you publish or sell derived work",
)


def differences(source: Source, published: Published) -> list[str]:
    """List the differences between a copy and the published data set, one line each.

    Only the headers of images are read, so this takes seconds.
    """
    lines = [str(problem) for problem in source.problems]
    parts = Counter(record.part for record in source.records)
    lines += [
        f"{parts[part]:,} {part} images; expected {n:,}"
        for part, n in published.parts.items()
        if parts[part] != n
    ]
    lines += _other_sizes(source, published.size)
    if published.class_images:
        lines += _other_classes(source, published)
    return lines


def _other_sizes(source: Source, size: tuple[int, int]) -> list[str]:
    def problem(record: Record) -> str | None:
        try:
            height, width = read_size(record.image)
        except DataError as error:
            return f"{record.image}: {error}"
        if (height, width) != size:
            return f"{record.image}: {height}×{width}; expected {size[0]}×{size[1]}"
        return None

    with ThreadPoolExecutor(cores()) as pool:
        return [line for line in pool.map(problem, source.records) if line]


def _other_classes(source: Source, published: Published) -> list[str]:
    M = len(published.class_images)
    labels = np.zeros((len(source.records), M), bool)
    for row, record in enumerate(source.records):
        labels[row, [class_id - 1 for class_id, *_ in record.runs]] = True
    pairs = zip(labels.sum(0).tolist(), published.class_images, strict=True)
    lines = [
        f"class {m}: {here:,} images; expected {there:,}"
        for m, (here, there) in enumerate(pairs, start=1)
        if here != there
    ]
    free = int((~labels.any(1)).sum())
    if published.free is not None and free != published.free:
        lines.append(f"defect-free: {free:,} images; expected {published.free:,}")
    return lines
