"""Random crops of training images, half of them around a defect."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlunet.data.sampling.draws import uniform

AROUND_DEFECT = 0.5  # fraction of the crops, of images with a defect
_CROP = 5  # key of a random stream, independent of those in tlunet.data.augment and sampling


class Cropped(NamedTuple):
    """A batch cut to one size."""

    images: NDArray[np.uint8]  # (B, h, w[, 3])
    bits: NDArray[np.unsignedinteger]  # (B, h, w)
    content: NDArray[np.int64] | None  # (B, 2), height and width without padding


def crop(
    size: tuple[int, int],
    seed: int,
    turns: NDArray[np.int64],
    rows: NDArray[np.int64],
    images: NDArray[np.uint8],
    bits: NDArray[np.unsignedinteger],
    content: NDArray[np.int64] | None,
) -> Cropped:
    """Cut a window out of each image, drawn by (seed, turn, image).

    Args:
        size: (h, w) of the windows, no larger than the images.
        seed: seed of the run.
        turns: (B,) turn of each image, see :class:`~tlunet.data.sampling.images.Sampled`.
        rows: (B,) rows of the pack.
        images: (B, H, W[, 3]).
        bits: (B, H, W), bit fields of the masks.
        content: (B, 2), height and width of each image without padding; ``None``: all of it.
    """
    chances = np.empty((len(rows), 4))
    for turn in np.unique(turns).tolist():
        chances[turns == turn] = uniform((_CROP, seed, turn), rows[turns == turn], 4)
    extents = np.array([images.shape[1:3]] * len(rows)) if content is None else content
    corners = np.array(
        [_corner(size, *drawn) for drawn in zip(chances, bits, extents, strict=True)]
    )
    windows = [
        (k, slice(top, top + size[0]), slice(left, left + size[1]))
        for k, (top, left) in enumerate(corners.tolist())
    ]
    return Cropped(
        np.stack([images[window] for window in windows]),
        np.stack([bits[window] for window in windows]),
        None if content is None else np.minimum(content - corners, size),
    )


def _corner(
    size: tuple[int, int],
    chances: NDArray[np.float64],
    bits: NDArray[np.unsignedinteger],
    extent: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Top and left of a window that lies within the image, as far as that is large enough."""
    room = np.maximum(extent - size, 0)
    corner = np.floor(chances[2:] * (room + 1)).astype(np.int64)
    if chances[0] < AROUND_DEFECT and len(defects := np.flatnonzero(bits)):
        pixel = defects[int(chances[1] * len(defects))]
        centre = np.array(np.unravel_index(pixel, bits.shape))
        corner = np.clip(centre - np.array(size) // 2, 0, room)
    return corner
