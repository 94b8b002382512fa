"""Find candidate pairs of duplicate images, possibly flipped or rotated.

An orthonormal cosine transform of the descriptors is cut into head `h` and tail `t`. Two
descriptors then have the product `h·h' + t·t'`, and by Cauchy-Schwarz `t·t' <= |t||t'|`. The
product of the heads thus bounds their correlation from above: only pairs whose bound exceeds a
limit need to be compared in full, and no pair above the limit is lost.

A flip changes the signs of the components with an odd frequency along its axis, and exchanging rows
and columns exchanges the two frequencies. The products are therefore computed by parity and summed
with every combination of signs: all eight views of an image take about twice the time of one.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

HEAD = 0.55
"""Fraction of the squared length in the heads: a larger one makes them longer, with fewer pairs."""
ROUNDING = 1e-3
"""Well above the error of a bound in single precision."""
BLOCK = 512
"""Images along one side of a tile of the matrix of all pairs: small enough for the cache."""
PAIRS = 2048
"""Pairs yielded at a time: bounds the memory of the full comparison."""

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]
Part = NDArray[np.float32]
_Cells = TypeVar("_Cells", NDArray[np.uint8], NDArray[np.float32])


def views(pictures: _Cells) -> list[_Cells]:
    """Return the eight combinations of flips and quarter turns, the originals first.

    Args:
        pictures: `(N, H, H)`.

    >>> [view.ravel().tolist() for view in views(np.array([[[1, 2], [3, 4]]], np.uint8))[:5]]
    [[1, 2, 3, 4], [2, 1, 4, 3], [3, 4, 1, 2], [4, 3, 2, 1], [1, 3, 2, 4]]
    """
    return [
        way[:, ::up_down, ::left_right]
        for way in (pictures, pictures.transpose(0, 2, 1))
        for up_down in (1, -1)
        for left_right in (1, -1)
    ]


def pairs(
    pictures: NDArray[np.uint8],
    describe: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    limit: float,
) -> Iterator[Pairs]:
    """Find the pairs whose descriptors may correlate above a limit in some view.

    Args:
        pictures: `(N, H, H)`.
        describe: computes descriptors `(N, H, H)` of at most unit length; it must commute with
            flips and quarter turns.
        limit: limit of the correlation.

    Yields:
        First and second index of each pair, up to `PAIRS` at a time; the first is the smaller.
    """
    heads = _heads(pictures, describe)
    batches, count = list[Pairs](), 0
    room = np.empty((7, BLOCK * BLOCK), np.float32)  # allocating it for each tile would be slow
    for i in range(0, len(pictures), BLOCK):
        for j in range(i, len(pictures), BLOCK):
            near = np.flatnonzero(_bound(heads, i, j, room) > limit - ROUNDING)
            first, second = np.divmod(near, min(BLOCK, len(pictures) - j))
            first, second = first + i, second + j
            once = first < second
            batches.append((first[once], second[once]))
            count += int(once.sum())
            if count >= PAIRS:
                yield from _portions(batches)
                batches, count = [], 0
    yield from _portions(batches)


def _portions(batches: list[Pairs]) -> Iterator[Pairs]:
    if batches:
        first, second = (np.concatenate(side) for side in zip(*batches, strict=True))
        for k in range(0, len(first), PAIRS):
            yield first[k : k + PAIRS], second[k : k + PAIRS]


class _Heads(NamedTuple):
    """Short descriptors of N images whose product is at least that of the full ones.

    Attributes:
        parts: four arrays (N, K), the components by the parity of their vertical and horizontal
            frequency: even-even, even-odd, odd-even, odd-odd. The last column of the first is the
            length of the tail.
        swaps: the order of the columns of the first and the last part when rows and columns of the
            image are exchanged.
    """

    parts: tuple[Part, ...]
    swaps: tuple[NDArray[np.int64], NDArray[np.int64]]

    def block(self, start: int) -> tuple[Part, ...]:
        """Return the parts of one block of images."""
        return tuple(part[start : start + BLOCK] for part in self.parts)

    def turned(self, start: int) -> tuple[Part, ...]:
        """Return the parts of the same images with rows and columns exchanged."""
        both_even, even_odd, odd_even, both_odd = self.block(start)
        return both_even[:, self.swaps[0]], odd_even, even_odd, both_odd[:, self.swaps[1]]


def _heads(
    pictures: NDArray[np.uint8], describe: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
) -> _Heads:
    """Keep the components with most of the squared length of these images' descriptors."""
    n, side = pictures.shape[:2]

    def transform(some: NDArray[np.uint8]) -> Part:
        return dctn(describe(some), axes=(1, 2), norm="ortho").reshape(-1, side * side)

    def exchanged(components: NDArray[np.int64]) -> NDArray[np.int64]:
        return components % side * side + components // side

    every = np.arange(side * side)
    power = np.square(transform(pictures[:: max(1, n // 1024)])).sum(axis=0)
    power = power + power[exchanged(every)]  # so that a component is kept with its counterpart
    falling = np.sort(power)[::-1]
    held = np.cumsum(falling)
    kept = power >= falling[np.searchsorted(held, HEAD * held[-1])]
    parity = every // side % 2 * 2 + every % side % 2
    columns = [every[kept & (parity == p)] for p in range(4)]
    columns[2] = exchanged(columns[1])
    first, last = (np.searchsorted(own, exchanged(own)) for own in (columns[0], columns[3]))
    parts = [np.empty((n, len(own)), np.float32) for own in columns]
    tail = np.empty((n, 1), np.float32)
    for i in range(0, n, BLOCK):
        components = transform(pictures[i : i + BLOCK])
        for part, own in zip(parts, columns, strict=True):
            part[i : i + BLOCK] = components[:, own]
        tail[i : i + BLOCK, 0] = np.linalg.norm(components[:, ~kept], axis=1)
    parts[0] = np.hstack([parts[0], tail])
    return _Heads(tuple(parts), (np.append(first, len(first)), last))


def _bound(heads: _Heads, i: int, j: int, room: Part) -> Part:
    """Compute the largest bound over all views for each pair of two blocks, in `room[0]`."""
    bound = _over_flips(heads.block(i), heads.block(j), room[:6])
    turned = _over_flips(heads.block(i), heads.turned(j), room[1:])
    return np.maximum(bound, turned, out=bound)


def _over_flips(rows: tuple[Part, ...], columns: tuple[Part, ...], room: Part) -> Part:
    """Compute the largest bound over the four flips for each pair, in `room[0]`."""
    shape = len(rows[0]), len(columns[0])
    plus, minus, a, b, c, d = (part[: shape[0] * shape[1]].reshape(shape) for part in room)
    for one, other, product in zip(rows, columns, (a, b, c, d), strict=True):
        np.matmul(one, other.T, out=product)
    # A left-right flip changes the signs of b and d, an upside-down flip those of c and d:
    # max(a+b+c+d, a-b+c-d, a+b-c-d, a-b-c+d) = a + max(|c+d| + b, |c-d| - b)
    np.abs(np.add(c, d, out=plus), out=plus)
    np.abs(np.subtract(c, d, out=minus), out=minus)
    plus += b
    minus -= b
    np.maximum(plus, minus, out=plus)
    plus += a
    return plus
