"""Run-length encoding of the Kaggle Severstal masks: text to mask and back.

A mask is a list of pairs "start length". Pixels are counted from 1, down the columns first (column
major): pixel 1 is the top left one, pixel 2 the one below it, pixel H + 1 the top of the second
column. A run may continue from the bottom of one column to the top of the next.

Canonical form: runs ascending and merged, with at least one pixel between any two of them.
`encode` writes it; `decode` also reads adjacent runs. All 1,286 masks of a 900-image sample of
the published `train.csv` are canonical.

Reference: kaggle.com/competitions/severstal-steel-defect-detection, page "Evaluation".
"""

import re

import numpy as np
from numpy.typing import NDArray

# Sixteen digits are enough for any pixel, and the sum of two such numbers fits in 64 bits.
_INTEGER = re.compile(r"[+-]?[0-9]{1,16}")


def encode(mask: NDArray[np.generic]) -> str:
    """Encode a mask as runs, in canonical form.

    Args:
        mask: `(H, W)`, non-zero = in the mask.

    Returns:
        "start length start length …", 1-based and column-major; "" for an empty mask.

    Raises:
        ValueError: the mask is not two-dimensional.

    >>> encode(np.array([[0, 1, 1], [0, 1, 0]]))
    '3 3'
    """
    if mask.ndim != 2:
        raise ValueError(f"mask of shape {mask.shape}: expected two axes, (height, width)")
    pixels = mask.astype(bool).ravel(order="F")  # (W * H,), column after column
    # Padded with False, so that runs at either end have edges as well.
    edges = np.flatnonzero(np.diff(pixels, prepend=False, append=False))  # start, end, start, …
    starts, ends = edges[::2], edges[1::2]
    return " ".join(map(str, np.column_stack([starts + 1, ends - starts]).ravel().tolist()))


def decode(runs: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Decode a mask from its runs; the exact inverse of `encode`.

    Args:
        runs: "start length start length …", 1-based and column-major; "" is the empty mask.
        shape: `(H, W)` of the image.

    Returns:
        bool `(H, W)`, True = in the mask.

    Raises:
        ValueError: an odd number of values, a value that is not an integer, a start or a length
            below 1, a run past the end of the image, runs that overlap or are out of order.

    >>> decode("3 3", (2, 3)).astype(int)
    array([[0, 1, 1],
           [0, 1, 0]])
    """
    H, W = shape
    starts, lengths = parse(runs, shape)  # (R,), (R,)

    # Alternating spans: outside, inside, outside, … (adjacent runs: zero pixels between).
    bounds = np.column_stack([starts - 1, starts - 1 + lengths]).ravel()
    spans = np.diff(bounds, prepend=0, append=H * W)  # (2R + 1,)
    pixels = np.repeat(np.arange(len(spans)) % 2 == 1, spans)  # (W * H,)
    return np.ascontiguousarray(pixels.reshape(W, H).T)  # (H, W)


def parse(
    runs: str, shape: tuple[int, int] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Parse and check the numbers without decoding the mask.

    Args:
        runs: as for `decode`.
        shape: `(H, W)` of the image; `None` if unknown: the ends of runs are not checked.

    Returns:
        Starts, 1-based, and lengths, both `(R,)`.

    Raises:
        ValueError: as `decode`.

    >>> parse("3 3 9 1")
    (array([3, 9]), array([3, 1]))
    """
    values = runs.split()
    for position, value in enumerate(values, 1):
        if not _INTEGER.fullmatch(value):
            raise ValueError(
                f"value {position} is {value[:20]!r}: expected an integer of at most 16 digits"
            )
    if len(values) % 2:
        raise ValueError(
            f"{len(values)} values, an odd number (the last is {values[-1]}): "
            "expected pairs of start and length"
        )
    starts, lengths = np.array(values, dtype=np.int64).reshape(-1, 2).T
    _check(starts, lengths, shape)
    return starts, lengths


def _check(
    starts: NDArray[np.int64], lengths: NDArray[np.int64], shape: tuple[int, int] | None
) -> None:
    """Raise ValueError for the first invalid run, if there is one."""
    height, width = shape or (0, 0)
    pixels = height * width if shape else np.iinfo(np.int64).max
    last = starts + lengths - 1  # a run's last pixel, 1-based
    follows_badly = np.zeros(len(starts), bool)
    follows_badly[1:] = starts[1:] <= last[:-1]
    faulty = (starts < 1) | (lengths < 1) | (last > pixels) | follows_badly
    if not faulty.any():
        return
    i = int(np.argmax(faulty))
    run = f"run {i + 1} (start {starts[i]}, length {lengths[i]})"
    if starts[i] < 1:
        raise ValueError(f"{run} starts before the image: pixels are counted from 1")
    if lengths[i] < 1:
        raise ValueError(f"{run} is empty: expected a length of at least 1")
    if last[i] > pixels:
        raise ValueError(
            f"{run} ends at pixel {last[i]}: the image of {height} x {width} has {pixels} pixels"
        )
    before = f"run {i} (start {starts[i - 1]}, length {lengths[i - 1]})"
    if starts[i] < starts[i - 1]:
        raise ValueError(f"{run} comes after {before}: runs must be in ascending order")
    raise ValueError(f"{run} overlaps {before}, which ends at pixel {last[i - 1]}")
