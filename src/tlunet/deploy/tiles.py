"""Cut a large image into overlapping tiles and blend the probabilities found in them."""

from collections.abc import Iterator
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlunet.data.bits import bit_depth

Size = tuple[int, int]  # height, width


class Tile(NamedTuple):
    """A part of an image, as large as the network's training images."""

    top: int
    left: int
    pixels: NDArray[np.uint8]  # (H, W) or (H, W, 3)


def starts(length: int, tile: int, overlap: float) -> list[int]:
    """Return where tiles start along one side, evenly spaced.

    Args:
        length: pixels of the side.
        tile: pixels of a tile, at most ``length``.
        overlap: smallest fraction of a tile that the next one covers too, in [0, 1).

    >>> starts(100, 40, 0.25), starts(40, 40, 0.25)
    ([0, 30, 60], [0])
    """
    steps = ceil((length - tile) / max(1, int(tile * (1 - overlap))))
    return [int(start) for start in np.linspace(0, length - tile, steps + 1).round()]


def is_tiled(size: Size, tile: Size | None) -> bool:
    """Whether an image is larger than a tile on either side."""
    return tile is not None and (size[0] > tile[0] or size[1] > tile[1])


def covered(size: Size, tile: Size) -> Size:
    """Return the size that tiles cover: the image, at least as large as a tile."""
    return max(size[0], tile[0]), max(size[1], tile[1])


def cut(image: NDArray[np.uint8], tile: Size, overlap: float) -> Iterator[Tile]:
    """Cut an image into tiles, at its own scale.

    The tiles come in the order that :class:`Blend` expects: along the shorter side first. A side
    that is shorter than a tile is continued by its mirror image.

    Args:
        image: (H, W) or (H, W, 3).
        tile: size of a tile.
        overlap: smallest fraction of a tile that the next one covers too.
    """
    size = image.shape[0], image.shape[1]
    height, width = covered(size, tile)
    margin = (0, height - size[0]), (0, width - size[1])
    whole = image
    if any(map(any, margin)):
        whole = np.pad(image, (*margin, *[(0, 0)] * (image.ndim - 2)), mode="symmetric")
    tops, lefts = starts(height, tile[0], overlap), starts(width, tile[1], overlap)
    if height >= width:
        places = [(top, left) for top in tops for left in lefts]
    else:
        places = [(top, left) for left in lefts for top in tops]
    for top, left in places:
        yield Tile(top, left, whole[top : top + tile[0], left : left + tile[1]])


class Blend:
    """Blends the probabilities of overlapping tiles and applies the thresholds.

    A pixel's probability is the mean over its tiles, weighted by the distance to the tile's edge,
    where a network sees least: so tiles leave no seams. Only one row of tiles along the shorter
    side is kept as probabilities.

    Args:
        size: height and width of the image.
        tile: height and width of a tile.
        thresholds: of a pixel, one per class.
    """

    def __init__(self, size: Size, tile: Size, thresholds: tuple[float, ...]) -> None:
        self._size = size
        height, width = covered(size, tile)
        self._is_wide = width > height
        # Below, the longer side comes first.
        self._long, self._short = (width, height) if self._is_wide else (height, width)
        self._tile = tile[::-1] if self._is_wide else tile
        M = len(thresholds)
        self._thresholds = np.array(thresholds, np.float32)[:, None, None]
        self._weights = np.outer(*(_ramp(side) for side in self._tile))
        self._sums = np.zeros((M, self._tile[0], self._short), np.float32)
        self._total = np.zeros((self._tile[0], self._short), np.float32)
        self._bits = np.zeros((self._long, self._short), f"uint{bit_depth(M)}")
        self._start = 0  # of the rows in the sums

    def add(self, tile: Tile, masks: NDArray[np.float32]) -> None:
        """Add the probabilities (M, H, W) of the next tile."""
        first, second = (tile.left, tile.top) if self._is_wide else (tile.top, tile.left)
        self._advance(first)
        part = slice(second, second + self._tile[1])
        turned = masks.swapaxes(1, 2) if self._is_wide else masks
        self._sums[:, :, part] += turned * self._weights
        self._total[:, part] += self._weights

    def _advance(self, start: int) -> None:
        """Finish the rows before ``start``: no other tile covers them."""
        done = start - self._start
        if not done:
            return
        means = self._sums[:, :done] / self._total[:done]
        for m, above in enumerate(means > self._thresholds):
            kind = self._bits.dtype.type
            self._bits[self._start : start] |= above.astype(kind) << kind(m)
        for field in (self._sums, self._total):
            rows = field.swapaxes(0, -2)
            rows[:-done] = rows[done:].copy()
            rows[-done:] = 0
        self._start = start

    def finish(self) -> NDArray[np.unsignedinteger]:
        """Return the bit field (H, W): bit m-1 is set where class m is above its threshold."""
        self._advance(self._long)
        bits = self._bits.T if self._is_wide else self._bits
        return np.ascontiguousarray(bits[: self._size[0], : self._size[1]])


def _ramp(side: int) -> NDArray[np.float32]:
    """Return weights that fall linearly from the middle of a tile to its edges."""
    middle = np.arange(side) + 0.5
    return np.minimum(middle, side - middle).astype(np.float32)
