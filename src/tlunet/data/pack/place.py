"""What is done to an image by itself, once: decoded, brought to form, written to its place.

Runs in worker threads or processes, so nothing here knows of the others.
"""

import hashlib
import io
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from tlunet.data import duplicates, rle
from tlunet.data.pack.journal import Part, line
from tlunet.data.readers.pixels import read_image, read_mask
from tlunet.data.source import Problem, Record
from tlunet.errors import DataError

THUMBNAILS = "thumbnails.u8"  # beside the pack, until they are grouped


class Form(NamedTuple):
    """What every image is brought to: grey levels in 1 channel, or colours in 3."""

    height: int
    width: int
    channels: int
    classes: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    @property
    def arrays(self) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
        """The pack's arrays, with type and shape of one image's share."""
        depth = next(b for b in (8, 16, 32) if self.classes <= b)
        colours = (3,) if self.channels == 3 else ()
        return {
            "images.npy": (np.dtype(np.uint8), (*self.size, *colours)),
            "masks.npy": (np.dtype(f"uint{depth}"), self.size),
        }

    @property
    def places(self) -> dict[str, tuple[int, int]]:
        """The files: bytes before the first image's share, and of each."""
        return {
            f"pack/{name}": (len(header(kind, (0, *shape))), kind.itemsize * math.prod(shape))
            for name, (kind, shape) in self.arrays.items()
        } | {THUMBNAILS: (0, duplicates.CELLS**2)}


class HasColourError(Exception):
    """An image has colour and the pack under construction has one channel."""


def decode(
    record: Record, classes: int, size: tuple[int, int] | None = None
) -> tuple[np.ndarray, np.ndarray] | list[Problem]:
    """Image and mask as they lie on disk, the mask uint32 (H, W); or all that is wrong.

    Args:
        record: where they lie.
        classes: M.
        size: (H, W) that the image must have; ``None``: any.
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
            f"data.size=[{size[0]},{size[1]}] brings all to one size"
        )
        return [Problem(str(record.image), record.image_id, what), *_bad_runs(record)]
    try:
        return image, read_mask(record, shape, classes)
    except DataError as error:
        parted = (fault.partition(": ") for fault in error.lines)
        return [Problem(where, record.image_id, what) for where, _, what in parted]


def _bad_runs(record: Record) -> list[Problem]:
    """What is wrong with an image's runs whatever its size."""
    problems = []
    for _, runs, where in record.runs:
        try:
            rle.parse(runs)
        except ValueError as error:
            problems.append(Problem(where, record.image_id, str(error)))
    return problems


def place(
    start: int, records: Sequence[Record], *, part: Part, form: Form, strict: bool
) -> tuple[bytes, int]:
    """Put some images into the files of a pack under construction.

    Args:
        start: how many images stand before these.
        records: where they lie.
        part: the pack under construction.
        form: what they are brought to.
        strict: whether an image of another size is a fault; else it is resized.

    Returns:
        Their line of the journal, and their number.

    Raises:
        HasColourError: an image has colour and the form one channel.
    """
    images, masks, thumbnails = [], [], []
    entries: list[dict[str, Any]] = []
    kind, _ = form.arrays["masks.npy"]
    for record in records:
        outcome = decode(record, form.classes, form.size if strict else None)
        if isinstance(outcome, list):
            entries.append({"faults": [problem._asdict() for problem in outcome]})
            continue
        image, bits = outcome
        if image.ndim == 3 and form.channels == 1:
            raise HasColourError
        row: dict[str, Any] = {"image_id": record.image_id, "part": record.part}
        row["height"], row["width"] = bits.shape
        digest = hashlib.sha256(record.image.read_bytes())
        digest.update(np.ascontiguousarray(bits).data)
        row["digest"] = digest.hexdigest()
        row["labels"] = present(bits)
        thumbnails.append(duplicates.thumbnail(image).data)
        if bits.shape != form.size:
            image, bits = resize(image, bits, form.size)
        row["mask_labels"] = present(bits)
        row["sum"], row["squares"] = _sums(image, form.channels)
        entries.append({"row": row})
        if image.ndim == 2 and form.channels == 3:
            image = np.repeat(image[..., None], 3, axis=-1)
        images.append(np.ascontiguousarray(image).data)
        masks.append(bits.astype(kind, order="C").data)
    # With a fault among them the places are wrong, but then this attempt only looks for faults.
    for (name, (before, share)), shares in zip(
        form.places.items(), (images, masks, thumbnails), strict=True
    ):
        part.fill(name, before + start * share, shares)
    return line(entries), len(entries)


def present(bits: np.ndarray) -> int:
    """The classes that have any pixel in a bit field, as bits.

    >>> present(np.array([[0, 1], [4, 1]]))
    5
    """
    return int(np.bitwise_or.reduce(bits, axis=None))


def unpack_labels(bits: ArrayLike, classes: int) -> np.ndarray:
    """Bool (N, M) of N sets of classes as bits.

    >>> unpack_labels([5, 2], 3).astype(int).tolist()
    [[1, 0, 1], [0, 1, 0]]
    """
    return np.asarray(bits, np.uint32)[:, None] >> np.arange(classes, dtype=np.uint32) & 1 == 1


def resize(
    image: np.ndarray, bits: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Image (bilinear) and mask (nearest neighbour) resized to (height, width)."""
    height, width = size
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized), resize_mask(bits, size)


def resize_mask(bits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask resized to (height, width) by nearest neighbour; a small defect may vanish."""
    height, width = size
    rows = (np.arange(height) + 0.5) * bits.shape[0] // height
    columns = (np.arange(width) + 0.5) * bits.shape[1] // width
    return bits[rows.astype(int)[:, None], columns.astype(int)]


def _sums(image: np.ndarray, channels: int) -> tuple[list[float], list[float]]:
    """Each channel's sum of levels, and of their squares."""
    levels = np.arange(256)
    counts = np.array(Image.fromarray(image).histogram()).reshape(-1, 256)  # (1 or 3, 256)
    counts = np.broadcast_to(counts, (channels, 256))
    return (counts @ levels).astype(float).tolist(), (counts @ levels**2).astype(float).tolist()


def header(kind: np.dtype, shape: tuple[int, ...]) -> bytes:
    """What stands before an array in its file: as many bytes for any number of images."""
    file = io.BytesIO()
    about = {"descr": kind.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, about)
    return file.getvalue()
