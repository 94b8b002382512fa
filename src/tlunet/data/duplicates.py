"""Which images are the same picture? Groups of near-duplicates, kept on one side of a split.

An exact copy, a re-encoding, a slight change of brightness or a shift by a pixel or two on both
sides of a split is a leak: the network is tested on what it was trained on. Flipped and rotated
copies are not looked for.

**Descriptor.** A grey thumbnail of 32 x 32 cells, then local contrast normalisation: each cell
minus the mean of its 7 x 7 surroundings, divided by their standard deviation, dark cells left out
throughout. Correlating the thumbnails themselves would not do: strips that share no more than a
black margin or the fall-off of the lamp correlate at up to 0.97. Normalised, these large shapes
vanish and the texture counts.

**Rule.** Two images are the same picture if their thumbnails are identical, or if the descriptors
correlate above 0.75 and the thumbnails, brightness aside, differ by at most 10 grey levels in half
of the cells. Groups are the connected components of that relation. A picture that shows steel in
less than about 30 % of its cells is recognised in an identical copy only: too little is left to
tell it from others with the same margin.

**Calibration**, on NEU-Seg (4,470 images of 200 x 200) and 46 Severstal strips, by eye:

- The closest 32 of NEU-Seg's 10 million pairs (correlation 0.94 and up) are plainly one picture;
  9 of them join its training and test parts. Below these lie pictures that differ by a second
  defect blended into one of them: the same steel, much the same mask, a leak all the same. Every
  pair looked at down to 0.70 is of that kind; they thin out towards 0.5, and where to cut is a
  matter of choice.
- NEU-Seg at the chosen limits: 157 pairs in 157 groups of two, no larger one; 103 within the
  training part, 15 within the test part, 39 across (39 training and 39 test images).
- The same image saved as JPEG of quality 70: at least 0.89; three grey levels brighter or darker:
  at least 0.80. Shifted by 2 pixels both ways: above 0.75 for 98 % of NEU-Seg's images (2 pixels
  are 1 % of their width), at least 0.92 for every Severstal strip.
- Different Severstal strips: at most 0.45, and with the same black margin over 19, 38, 62 or 75 %
  of all of them at most 0.58. Procedurally drawn strips of one generator: at most 0.47.

**Cost.** The work grows with the square of the number of images. To make that square small, pairs
are first judged by the few components of a cosine transform that hold most of the descriptors:
turned by an orthonormal transform and cut into head `h` and tail `t`, two descriptors have the
product `h·h' + t·t'`, and by Cauchy and Schwarz `t·t' <= |t||t'|`. With `|t|` as one more component
of the head, one short product bounds the correlation from above; only pairs whose bound exceeds the
limit are compared in full, and no pair that the rule joins is lost. `benchmarks/pack_scale.py`
measures what it takes. Memory: a kilobyte or two an image.
"""

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from scipy.ndimage import minimum_filter, uniform_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

CELLS = 32
"""Cells along each axis of a thumbnail."""
SURROUNDINGS = 7
"""Width, in cells, of the surroundings that a cell is compared with."""
DARK = 16
"""Grey level up to which a cell is margin, not steel."""
DETAIL = 16.0
"""Length of the descriptor below which it says too little (some 400 cells of plain texture)."""
CORRELATION = 0.75
"""Descriptors of the same picture correlate above this."""
DIFFERENCE = 10.0
"""In half of the cells, the same picture differs by no more than this many grey levels."""
HEAD = 0.55
"""Share of the descriptors' squared length that the heads hold: 0.45 of tails leave few pairs."""
ROUNDING = 1e-3
"""Far more than single precision can be wrong about a bound."""
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

    An image without any detail (black, or one grey level all over) has nothing to be recognised
    by: it stays alone.

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
    groups = _identical(thumbnails)
    heads = _heads(thumbnails)  # (N, K)
    room = np.empty((BLOCK, BLOCK), np.float32)  # fresh pages for every block would cost as much
    for i in range(0, n, BLOCK):
        for j in range(i, n, BLOCK):
            rows, columns = heads[i : i + BLOCK], heads[j : j + BLOCK]
            bound = np.matmul(rows, columns.T, out=room[: len(rows), : len(columns)])
            near = np.flatnonzero(bound > CORRELATION - ROUNDING)
            first, second = np.divmod(near, len(columns))
            for k in range(0, len(near), BLOCK):
                one, other = first[k : k + BLOCK] + i, second[k : k + BLOCK] + j
                new = groups[one] != groups[other]  # a thousand frames of one scene cost little
                one, other = one[new], other[new]
                same = _correlate(thumbnails, one, other)
                one, other = one[same], other[same]
                same = _agree(thumbnails, one, other)
                if same.any():
                    groups = _merge(groups, one[same], other[same])
    return groups


def _identical(thumbnails: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Group identical thumbnails, but leave flat ones alone."""
    groups = np.arange(len(thumbnails))
    first: dict[bytes, int] = {}
    for i in range(0, len(thumbnails), BLOCK):
        cells = np.ascontiguousarray(thumbnails[i : i + BLOCK]).reshape(-1, CELLS * CELLS)
        for k in np.flatnonzero(np.ptp(cells, axis=1) > 2):  # a blank image still has some noise
            name = blake2b(cells[k].data, digest_size=16).digest()
            groups[i + k] = first.setdefault(name, i + int(k))
    return groups


def _heads(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Short descriptors whose product is at least that of the long ones.

    Returns:
        `(N, K + 1)`: the K components of a cosine transform that hold most of the squared length
        of these images' descriptors, then the length of all the others.
    """

    def transform(part: NDArray[np.uint8]) -> NDArray[np.float32]:
        cells = _describe(part).reshape(-1, CELLS, CELLS)
        return dctn(cells, axes=(1, 2), norm="ortho").reshape(len(part), CELLS * CELLS)

    n = len(thumbnails)
    power = np.square(transform(thumbnails[:: max(1, n // 1024)])).sum(axis=0)  # (1024,)
    order = np.argsort(-power, kind="stable")
    held = np.cumsum(power[order])
    k = 1 + int(np.searchsorted(held, HEAD * held[-1]))
    heads = np.empty((n, k + 1), np.float32)
    for i in range(0, n, BLOCK):
        components = transform(thumbnails[i : i + BLOCK])[:, order]
        heads[i : i + BLOCK, :k] = components[:, :k]
        heads[i : i + BLOCK, k] = np.linalg.norm(components[:, k:], axis=1)
    return heads


def _describe(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Normalise local contrast; rows of unit length, shorter where there is little detail."""

    def around(cells: NDArray[np.float32]) -> NDArray[np.float32]:
        return uniform_filter(cells, (0, SURROUNDINGS, SURROUNDINGS), mode="nearest")

    described = np.empty((len(thumbnails), CELLS * CELLS), np.float32)
    for i in range(0, len(thumbnails), BLOCK):
        cells = thumbnails[i : i + BLOCK].astype(np.float32)  # (B, 32, 32)
        # Cells beside the margin are partly margin: they go too.
        steel = minimum_filter(thumbnails[i : i + BLOCK] > DARK, (1, 3, 3), mode="nearest")
        cells[~steel] = 0
        share = np.maximum(around(steel.astype(np.float32)), 1e-3)
        cells = np.where(steel, cells - around(cells) / share, 0)
        # A running sum may end just below zero; and one grey level more, lest the rounding of a
        # flat area be taken for texture.
        spread = np.sqrt(np.maximum(around(cells * cells), 0) / share) + 1
        rows = (cells / spread).reshape(len(cells), -1)  # (B, 1024)
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        described[i : i + BLOCK] = rows / np.maximum(length, DETAIL)
    return described


def _correlate(
    thumbnails: NDArray[np.uint8], first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Compare pairs of images by their descriptors."""
    images, place = np.unique(np.concatenate([first, second]), return_inverse=True)
    described = _describe(thumbnails[images])
    one, other = described[place[: len(first)]], described[place[len(first) :]]  # (P, 1024)
    return np.einsum("pc,pc->p", one, other) > CORRELATION


def _agree(
    thumbnails: NDArray[np.uint8], first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Compare pairs of images in grey levels, brightness aside."""
    apart = thumbnails[first].astype(np.float32) - thumbnails[second]
    apart = apart.reshape(-1, CELLS * CELLS)  # (P, 1024)
    apart -= np.median(apart, axis=1, keepdims=True)
    return np.median(np.abs(apart), axis=1) <= DIFFERENCE


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
