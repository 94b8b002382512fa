"""Per-image work: decode an image, convert it to the form of the pack, write it to its place.

This runs in worker threads or processes, so nothing here depends on other images.
"""

import hashlib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tlunet.data.bits import bit_depth, present
from tlunet.data.fit import content_size, framed
from tlunet.data.grouping import duplicates
from tlunet.data.readers.decode import decode, resize
from tlunet.data.source import Problem, Record

THUMBNAILS = "thumbnails.u8"  # next to the pack, until they are grouped


class Form(NamedTuple):
    """The common form of all images: grey levels in 1 channel, or colours in 3.

    ``fit`` is how an image of other proportions gets into it, ``stretch`` or ``pad``.
    """

    height: int
    width: int
    channels: int
    classes: int
    fit: str = "stretch"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    @property
    def arrays(self) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
        """The pack's arrays, with the type and shape of one image's part."""
        colours = (3,) if self.channels == 3 else ()
        return {
            "images.npy": (np.dtype(np.uint8), (*self.size, *colours)),
            "masks.npy": (np.dtype(f"uint{bit_depth(self.classes)}"), self.size),
        }

    @property
    def places(self) -> dict[str, tuple[int, int]]:
        """The files, with the bytes before the first image and the bytes per image."""
        return {
            f"pack/{name}": (len(header(kind, (0, *shape))), kind.itemsize * math.prod(shape))
            for name, (kind, shape) in self.arrays.items()
        } | {THUMBNAILS: (0, duplicates.CELLS**2)}


class HasColourError(Exception):
    """An image has colour, but the pack under construction has one channel."""


class Placed(NamedTuple):
    """What the index keeps of an image in the arrays.

    ``labels`` and ``mask_labels`` are the classes with any pixel, as bits: in the native mask, and
    at the pack's size. ``sum`` and ``squares`` are over the pixels, one value per channel.
    """

    image_id: str
    part: str
    height: int
    width: int
    labels: int
    mask_labels: int
    sum: list[float]
    squares: list[float]
    digest: str  # SHA-256 of the file and its mask


def place(
    start: int, records: Sequence[Record], *, folder: Path, form: Form, strict: bool
) -> list[Placed | list[Problem]]:
    """Write some images to the files of a pack under construction.

    Args:
        start: number of images before these.
        records: the images.
        folder: the pack under construction; its files have their final length.
        form: the form to convert them to.
        strict: whether an image of another size is a problem; otherwise it is resized.

    Returns:
        What the index needs of each image, or its problems.

    Raises:
        HasColourError: an image has colour and the form one channel.
        OSError: the disk is full or cannot be written.
    """
    images, masks, thumbnails = [], [], []
    placed: list[Placed | list[Problem]] = []
    kind, _ = form.arrays["masks.npy"]
    for record in records:
        outcome = decode(record, form.classes, form.size if strict else None)
        if isinstance(outcome, list):
            placed.append(outcome)
            continue
        image, bits = outcome
        if image.ndim == 3 and form.channels == 1:
            raise HasColourError
        height, width = bits.shape
        digest = hashlib.sha256(record.image.read_bytes())
        digest.update(np.ascontiguousarray(bits).data)
        labels = present(bits)
        thumbnails.append(duplicates.thumbnail(image).data)
        content = content_size((height, width), form.size, form.fit)
        if bits.shape != content:
            image, bits = resize(image, bits, content)
        sums = _sums(image, form.channels)  # without padding
        known = record.image_id, record.part, height, width, labels, present(bits)
        placed.append(Placed(*known, *sums, digest.hexdigest()))
        image, bits = framed(image, form.size), framed(bits, form.size)
        if image.ndim == 2 and form.channels == 3:
            image = np.repeat(image[..., None], 3, axis=-1)
        images.append(np.ascontiguousarray(image).data)
        masks.append(bits.astype(kind, order="C").data)
    # After a problem, places are wrong, but then this attempt only looks for further problems.
    for (name, (before, share)), shares in zip(
        form.places.items(), (images, masks, thumbnails), strict=True
    ):
        with (folder / name).open("r+b") as file:
            file.seek(before + start * share)
            file.writelines(shares)
    return placed


def _sums(image: np.ndarray, channels: int) -> tuple[list[float], list[float]]:
    """Compute each channel's sum of levels and sum of squares."""
    levels = np.arange(256)
    counts = np.array(Image.fromarray(image).histogram()).reshape(-1, 256)  # (1 or 3, 256)
    counts = np.broadcast_to(counts, (channels, 256))
    return (counts @ levels).astype(float).tolist(), (counts @ levels**2).astype(float).tolist()


def header(kind: np.dtype, shape: tuple[int, ...]) -> bytes:
    """Return the header of a .npy file; its length does not depend on the number of images."""
    file = io.BytesIO()
    about = {"descr": kind.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, about)
    return file.getvalue()
