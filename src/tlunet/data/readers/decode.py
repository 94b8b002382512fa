"""Decode one image and its mask as stored on disk."""

import numpy as np
from PIL import Image

from tlunet.data import rle
from tlunet.data.bits import resize_mask
from tlunet.data.readers.pixels import read_image, read_mask
from tlunet.data.source import Problem, Record
from tlunet.errors import DataError


def decode(
    record: Record, classes: int, size: tuple[int, int] | None = None
) -> tuple[np.ndarray, np.ndarray] | list[Problem]:
    """Decode an image and its mask, uint32 (H, W), or return all problems.

    Args:
        record: the image and its annotation.
        classes: M.
        size: the required (H, W); ``None``: any.
    """
    try:
        image = read_image(record.image)
    except DataError as error:
        problems = [Problem(str(record.image), record.image_id, what) for what in error.lines]
        return problems + _bad_runs(record)
    shape = image.shape[0], image.shape[1]
    if size not in (None, shape):
        what = (
            f"image of {shape[0]}×{shape[1]} (height × width), most are {size[0]}×{size[1]}; "
            f"data.size=[{size[0]},{size[1]}] resizes all"
        )
        return [Problem(str(record.image), record.image_id, what), *_bad_runs(record)]
    try:
        return image, read_mask(record, shape, classes)
    except DataError as error:
        parted = (line.partition(": ") for line in error.lines)
        return [Problem(where, record.image_id, what) for where, _, what in parted]


def _bad_runs(record: Record) -> list[Problem]:
    """Find problems of an image's runs that do not depend on its size."""
    problems = []
    for _, runs, where in record.runs:
        try:
            rle.parse(runs)
        except ValueError as error:
            problems.append(Problem(where, record.image_id, str(error)))
    return problems


def resize(
    image: np.ndarray, bits: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Resize image (bilinear) and mask (nearest neighbour) to (height, width)."""
    height, width = size
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized), resize_mask(bits, size)
