"""Which images are the same picture? Groups of near-duplicates, kept on one side of a split.

An exact copy, a re-encoding, a slight change of brightness or a shift by a pixel or two on both
sides of a split is a leak: the network is tested on what it was trained on. Flipped and rotated
copies are not looked for.

**Descriptor.** A grey thumbnail of 32 x 32 cells, then local contrast normalisation: each cell
minus the mean of its 7 x 7 surroundings, divided by their standard deviation. Correlating the
thumbnails themselves would not do: strips that share no more than a black margin or the fall-off
of the lamp correlate at up to 0.95. Normalised, these large shapes vanish and the texture
counts.

**Rule.** Two images are the same picture if the descriptors correlate above 0.75 and the
thumbnails, brightness aside, differ by at most 10 grey levels in half of the cells. Groups are the
connected components of that relation.

**Calibration**, on NEU-Seg (4,470 images of 200 x 200) and 46 Severstal strips, by eye:

- The closest 36 of NEU-Seg's 10 million pairs (correlation 0.94 and up) are the same picture, 9 of
  them across its training and test parts. Below these lie pictures that differ by a second defect
  blended into one of them: the same steel, much the same mask, a leak all the same. Every pair
  looked at down to 0.70 is of that kind; they go on further down, where no rule can part them.
- @COUNTS@
- The same image, saved as JPEG of quality 70: at least 0.89; shifted by 2 pixels both ways: above
  0.75 for 99 % of NEU-Seg's images (1 % of their width) and above 0.92 for every Severstal strip.
- Different Severstal strips: at most 0.48 (mean 0.06, standard deviation 0.12).
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import uniform_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

CELLS = 32
"""Cells along each axis of a thumbnail."""
SURROUNDINGS = 7
"""Width, in cells, of the surroundings that a cell is compared with."""
CORRELATION = 0.75
"""Descriptors of the same picture correlate above this."""
DIFFERENCE = 10.0
"""In half of the cells, the same picture differs by no more than this many grey levels."""
BLOCK = 2048
"""Images a side of one block of the correlation matrix: bounds the memory."""


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink an image to what `group` compares.

    Args:
        image: uint8 `(H, W)` or `(H, W, 3)`, of any size.

    Returns:
        uint8 `(32, 32)`: the mean grey level of each cell.

    Raises:
        ValueError: the image is of another type or shape, or empty.
    """
    colours = image.ndim == 3 and image.shape[2] == 3
    if image.dtype != np.uint8 or not (image.ndim == 2 or colours) or image.size == 0:
        raise ValueError(
            f"{image.dtype} image of shape {image.shape}: expected uint8 (H, W) or (H, W, 3)"
        )
    grey = Image.fromarray(image).convert("L")
    return np.asarray(grey.resize((CELLS, CELLS), Image.Resampling.BOX))


def group(thumbnails: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Group the images that are the same picture.

    An image without any detail (one grey level all over) has nothing to be recognised by: it
    stays alone.

    Args:
        thumbnails: uint8 `(N, 32, 32)`, one `thumbnail` an image.

    Returns:
        `(N,)`, the group of each image: the smallest index among its members.

    Raises:
        ValueError: the thumbnails are not of that shape.

    >>> picture = np.random.default_rng(0).integers(0, 250, (32, 32))
    >>> other = np.random.default_rng(1).integers(0, 250, (32, 32))
    >>> group(np.stack([other, picture, picture + 3]).astype(np.uint8))
    array([0, 1, 1])
    """
    if thumbnails.ndim != 3 or thumbnails.shape[1:] != (CELLS, CELLS):
        raise ValueError(
            f"thumbnails of shape {thumbnails.shape}: expected (images, {CELLS}, {CELLS})"
        )
    n = len(thumbnails)
    described = _describe(thumbnails)  # (N, 1024)
    groups = np.arange(n)
    for i in range(0, n, BLOCK):
        for j in range(i, n, BLOCK):
            correlation = described[i : i + BLOCK] @ described[j : j + BLOCK].T
            first, second = np.nonzero(correlation > CORRELATION)
            first, second = first + i, second + j
            once = first < second  # drops each image with itself, and the mirrored half
            first, second = first[once], second[once]
            same = _agree(thumbnails, first, second)
            if same.any():
                groups = _merge(groups, first[same], second[same])
    return groups


def _describe(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Normalise local contrast; rows of unit length, or zero where there is no detail."""
    described = np.empty((len(thumbnails), CELLS * CELLS), np.float32)
    around = (0, SURROUNDINGS, SURROUNDINGS)
    for i in range(0, len(thumbnails), BLOCK):
        cells = thumbnails[i : i + BLOCK].astype(np.float32)  # (B, 32, 32)
        cells -= uniform_filter(cells, around, mode="nearest")
        spread = np.sqrt(uniform_filter(cells * cells, around, mode="nearest"))
        # One grey level more, lest the rounding of a flat area be taken for texture.
        rows = (cells / (spread + 1)).reshape(len(cells), -1)  # (B, 1024)
        rows -= rows.mean(axis=1, keepdims=True)
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        described[i : i + BLOCK] = rows / np.maximum(length, 1)
    return described


def _agree(
    thumbnails: NDArray[np.uint8], first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Compare pairs of images in grey levels, brightness aside."""
    same = np.empty(len(first), bool)
    for i in range(0, len(first), BLOCK):
        pair = slice(i, i + BLOCK)
        apart = thumbnails[first[pair]].astype(np.float32) - thumbnails[second[pair]]
        apart -= np.median(apart, axis=(1, 2), keepdims=True)  # (B, 32, 32)
        same[pair] = np.median(np.abs(apart), axis=(1, 2)) <= DIFFERENCE
    return same


def _merge(
    groups: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Join the groups of each pair; the smallest index names the group."""
    n = len(groups)
    # Every image is tied to its group's name, so earlier pairs need not be kept.
    ends = np.concatenate([np.arange(n), first]), np.concatenate([groups, second])
    links = coo_array((np.ones(len(ends[0]), bool), ends), shape=(n, n))
    _, component = connected_components(links, directed=False)
    _, smallest, member = np.unique(component, return_index=True, return_inverse=True)
    return smallest[member]
