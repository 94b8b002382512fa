"""Bit fields: the masks of all classes in one array, bit m-1 of a pixel = class m.

Only needs NumPy; `tlunet.data.batches` does the same with tensors on a device.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Bits = NDArray[np.unsignedinteger[Any]]


def bit_depth(classes: int) -> int:
    """Return the bits per pixel of a bit field, as in a pack: 8, 16 or 32."""
    return next(bits for bits in (8, 16, 32) if classes <= bits)


def class_masks(bits: Bits, classes: int) -> NDArray[np.bool_]:
    """Convert a bit field (H, W) to masks (M, H, W).

    >>> class_masks(np.array([[0, 1, 2, 3]], np.uint8), 2).astype(int).tolist()
    [[[0, 1, 0, 1]], [[0, 0, 1, 1]]]
    """
    return bits >> np.arange(classes, dtype=bits.dtype)[:, None, None] & 1 == 1


def class_areas(bits: Bits, classes: int) -> NDArray[np.int64]:
    """Count the pixels (M,) of each class in a bit field (H, W)."""
    bit = bits.dtype.type
    return np.array([np.count_nonzero(bits & bit(1 << m)) for m in range(classes)])


def bit_field(masks: NDArray[np.bool_]) -> Bits:
    """Convert masks (…, M, H, W) to bit fields (…, H, W).

    >>> bit_field(np.array([[[False, True]], [[True, True]]])).tolist()
    [[2, 3]]
    """
    classes = masks.shape[-3]
    bits = np.zeros(masks.shape[:-3] + masks.shape[-2:], f"uint{bit_depth(classes)}")
    for m in range(classes):
        bits |= masks[..., m, :, :].astype(bits.dtype) << bits.dtype.type(m)
    return bits


def present(bits: NDArray[Any]) -> int:
    """Return the classes that have any pixel in a bit field, as bits.

    >>> present(np.array([[0, 1], [4, 1]]))
    5
    """
    return int(np.bitwise_or.reduce(bits, axis=None))


def unpack_labels(bits: ArrayLike, classes: int) -> NDArray[np.bool_]:
    """Unpack N sets of classes, given as bits, to bool (N, M).

    >>> unpack_labels([5, 2], 3).astype(int).tolist()
    [[1, 0, 1], [0, 1, 0]]
    """
    return np.asarray(bits, np.uint32)[:, None] >> np.arange(classes, dtype=np.uint32) & 1 == 1


def resize_mask(bits: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Resize a bit field (H, W) to (height, width) by nearest neighbour.

    A small defect may vanish. The pixel in the middle of the area is taken: for whole factors an
    enlarged field repeats its pixels.

    >>> resize_mask(np.array([[1, 2]]), (1, 4)).tolist()
    [[1, 1, 2, 2]]
    """
    if bits.shape == size:
        return bits
    rows, columns = (
        ((np.arange(new) + 0.5) * old // new).astype(int)
        for new, old in zip(size, bits.shape, strict=True)
    )
    return bits[rows[:, None], columns]
