"""Near-duplicates: groups of images that show the same scene, kept on one side of a split.

An exact copy, a re-encoded file, a slight change of brightness, a shift by a pixel or two, or a
flipped or rotated copy (annotation tools export these as augmentation) on both sides of a split is
a leak: the network is tested on training images.

**Descriptor.** A grey thumbnail of 32 x 32 cells, taken from the image as stored and followed by
local contrast normalisation: each cell minus the mean of its 7 x 7 neighbourhood, divided by the
neighbourhood's standard deviation, ignoring dark cells. The thumbnails themselves cannot be
compared: strips that share only a black margin or the fall-off of the lamp correlate at up to 0.97.
Normalisation removes such large shapes and keeps the texture.

**Rule.** Two images are duplicates if, under one of the eight combinations of flips and
quarter turns, their thumbnails are identical, or their descriptors correlate above 0.75 and their
thumbnails, brightness aside, differ by at most 10 grey levels in half of the cells. Groups are the
connected components of this relation. An image with steel in less than about 30% of its cells is
only matched with identical copies: too little is left to tell it from others with the same margin.

The run time grows with the square of the number of images. `tlunet.data.grouping.candidates` keeps
it short: few pairs are compared in full, and no pair that matches the rule is lost. Memory: a
kilobyte or two per image.

**Calibration** on NEU-Seg (4,470 images of 200 x 200) and 46 Severstal strips, checked by eye:

- NEU-Seg contains 1,110 scenes in four orientations each (0, 90, 180 and 270 degrees) and 30 more
  images. The rule finds exactly these: 1,030 groups of four, 40 groups of eight, 30 single images.
  In a group of eight, two scenes show the same steel, in most cases with a second defect blended
  into one: nearly the same mask, so still a leak. 779 groups span the training and the test set:
  810 of the 840 test images have copies among 2,466 of the 3,630 training images.
- The same image flipped or rotated and saved as JPEG of quality 70: at least 0.87; three grey
  levels brighter or darker: at least 0.80. Shifted by 2 pixels both ways: above 0.75 for 98% of
  NEU-Seg's images (2 pixels are 1% of their width), at least 0.92 for every Severstal strip.
- Different Severstal strips: at most 0.45 under any flip or rotation, and at most 0.66 with the
  same black margin over 19, 38, 62 or 75% of the image. Synthetic strips: at most 0.55.
"""

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import minimum_filter, uniform_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tlunet.data.grouping.candidates import pairs, views

CELLS = 32
"""Cells along each axis of a thumbnail."""
SURROUNDINGS = 7
"""Width, in cells, of the neighbourhood that a cell is compared with."""
DARK = 16
"""Grey level up to which a cell is margin, not steel."""
DETAIL = 16.0
"""Length of the descriptor below which it says too little (some 400 cells of plain texture)."""
CORRELATION = 0.75
"""Descriptors of duplicates correlate above this."""
DIFFERENCE = 10.0
"""Duplicates differ by at most this many grey levels in half of the cells."""
BLOCK = 512
"""Images for which descriptors are computed at a time."""


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink an image to what `group` compares.

    Take it from the image as stored, so that groups do not depend on the size it is resized to.

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
    """Group the images that are near-duplicates of each other.

    An image without detail (black, or a single grey level) cannot be matched and stays alone.

    Args:
        thumbnails: uint8 `(N, 32, 32)`, one `thumbnail` per image.

    Returns:
        `(N,)`, the group of each image: the smallest index among its members.

    Raises:
        ValueError: the thumbnails have another shape.

    >>> picture = np.random.default_rng(0).integers(0, 250, (32, 32))
    >>> other = np.random.default_rng(1).integers(0, 250, (32, 32))
    >>> group(np.stack([other, picture, picture + 3, picture[:, ::-1]]).astype(np.uint8))
    array([0, 1, 1, 1])
    """
    if thumbnails.ndim != 3 or thumbnails.shape[1:] != (CELLS, CELLS):
        raise ValueError(
            f"thumbnails of shape {thumbnails.shape}: expected (images, {CELLS}, {CELLS})"
        )
    groups = _identical(thumbnails)
    for first, second in pairs(thumbnails, _describe, CORRELATION):
        new = groups[first] != groups[second]  # a thousand frames of one scene cost little
        first, second = first[new], second[new]
        same = _same(thumbnails, first, second)
        if same.any():
            groups = _merge(groups, first[same], second[same])
    return groups


def _identical(thumbnails: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Group thumbnails with the same cells in any orientation; flat ones stay alone."""
    groups = np.arange(len(thumbnails))
    first: dict[bytes, int] = {}
    for i in range(0, len(thumbnails), BLOCK):
        ways = views(thumbnails[i : i + BLOCK])
        for k in np.flatnonzero(np.ptp(ways[0], axis=(1, 2)) > 2):  # a blank image has some noise
            name = blake2b(min(way[k].tobytes() for way in ways), digest_size=16).digest()
            groups[i + k] = first.setdefault(name, i + int(k))
    return groups


def _describe(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Normalise local contrast: unit length per image, or less if there is little detail."""

    def around(cells: NDArray[np.float32]) -> NDArray[np.float32]:
        return uniform_filter(cells, (0, SURROUNDINGS, SURROUNDINGS), mode="nearest")

    described = np.empty(thumbnails.shape, np.float32)
    for i in range(0, len(thumbnails), BLOCK):
        cells = thumbnails[i : i + BLOCK].astype(np.float32)  # (B, 32, 32)
        # Cells next to the margin are partly margin, so they are dropped as well.
        steel = minimum_filter(thumbnails[i : i + BLOCK] > DARK, (1, 3, 3), mode="nearest")
        cells[~steel] = 0
        share = np.maximum(around(steel.astype(np.float32)), 1e-3)
        cells = np.where(steel, cells - around(cells) / share, 0)
        # A running sum may end just below zero. One grey level is added so that the rounding of a
        # flat area is not mistaken for texture.
        spread = np.sqrt(np.maximum(around(cells * cells), 0) / share) + 1
        cells /= spread
        length = np.sqrt(np.square(cells).sum(axis=(1, 2), keepdims=True))
        described[i : i + BLOCK] = cells / np.maximum(length, DETAIL)
    return described


def _same(
    thumbnails: NDArray[np.uint8], first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Compare pairs of images in full, with every view of the second one."""
    images, place = np.unique(np.concatenate([first, second]), return_inverse=True)
    described = _describe(thumbnails[images])
    one, other = described[place[: len(first)]], described[place[len(first) :]]  # (P, 32, 32)
    same = np.zeros(len(first), bool)
    for view, cells in zip(views(other), views(thumbnails[second]), strict=True):
        near = np.einsum("pyx,pyx->p", one, view) > CORRELATION
        same[near] |= _agree(thumbnails[first[near]], cells[near])
    return same


def _agree(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Compare pairs of thumbnails in grey levels, ignoring a difference in brightness."""
    difference = (first.astype(np.float32) - second).reshape(-1, CELLS * CELLS)  # (P, 1024)
    difference -= np.median(difference, axis=1, keepdims=True)
    return np.median(np.abs(difference), axis=1) <= DIFFERENCE


def _merge(
    groups: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Join the groups of each pair; the smallest index names the group."""
    n = len(groups)
    # Every image is linked to its group, so earlier pairs need not be kept.
    ends = np.concatenate([np.arange(n), first]), np.concatenate([groups, second])
    links = coo_array((np.ones(len(ends[0]), bool), ends), shape=(n, n))
    _, component = connected_components(links, directed=False)
    _, smallest, member = np.unique(component, return_index=True, return_inverse=True)
    return smallest[member]
