"""What the publishers of two data sets say is in them, and whether a copy holds it."""

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
    """A data set as it is published.

    Attributes:
        parts: images of each part.
        size: (height, width) of every image.
        class_images: how many images show each class; empty where it is not published.
        free: how many show none; ``None`` where it is not published.
        licence: what a user may do with it, in a line.
    """

    parts: dict[str, int]
    size: tuple[int, int]
    class_images: tuple[int, ...] = ()
    free: int | None = None
    licence: str = ""


#: Kaggle, Severstal: Steel Defect Detection (2019): train_images and the rows of train.csv, each of
#: which is one class in one image.
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
    licence="licence: its authors state none; ask them before you publish or sell anything of it",
)


def differences(source: Source, published: Published) -> list[str]:
    """What a copy has that the published data set has not, or the other way round, a line each.

    Images are read by their headers, so this takes seconds.
    """
    found = [str(problem) for problem in source.problems]
    parts = Counter(record.part for record in source.records)
    found += [
        f"{parts[part]:,} {part} images; published are {n:,}"
        for part, n in published.parts.items()
        if parts[part] != n
    ]
    found += _other_sizes(source, published.size)
    if published.class_images:
        found += _other_classes(source, published)
    return found


def _other_sizes(source: Source, size: tuple[int, int]) -> list[str]:
    def fault(record: Record) -> str | None:
        try:
            height, width = read_size(record.image)
        except DataError as error:
            return f"{record.image}: {error}"
        if (height, width) != size:
            return f"{record.image}: {height}×{width}; published are {size[0]}×{size[1]}"
        return None

    with ThreadPoolExecutor(cores()) as pool:
        return [line for line in pool.map(fault, source.records) if line]


def _other_classes(source: Source, published: Published) -> list[str]:
    M = len(published.class_images)
    labels = np.zeros((len(source.records), M), bool)
    for row, record in enumerate(source.records):
        labels[row, [class_id - 1 for class_id, *_ in record.runs]] = True
    pairs = zip(labels.sum(0).tolist(), published.class_images, strict=True)
    found = [
        f"class {m}: {here:,} images; published are {there:,}"
        for m, (here, there) in enumerate(pairs, start=1)
        if here != there
    ]
    free = int((~labels.any(1)).sum())
    if published.free is not None and free != published.free:
        found.append(f"no defect: {free:,} images; published are {published.free:,}")
    return found
