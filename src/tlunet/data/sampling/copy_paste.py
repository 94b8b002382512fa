"""Copy-paste: defects cut from training images and pasted into others (Ghiasi et al. 2021)."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tlunet.data.augment import Augment
from tlunet.data.pack.pack import Pack
from tlunet.errors import ConfigError

_PASTE = 7  # key of a random stream, independent of those in augment, sampling, crop and rest
MARGIN = 3  # pixels around a defect that are cut out with it
FEATHER = 1.0  # standard deviation of the blurred edge, in pixels
GAINS = 0.5, 2.0  # bounds of the change in brightness: beyond them grey levels saturate
_TOUCHING = np.ones((3, 3), bool)  # pixels that touch at a corner are one defect


class Defect(NamedTuple):
    """A connected component of a class's mask: where to cut it out again."""

    class_index: int  # 0…M-1
    row: int  # of the pack
    box: tuple[int, int, int, int]  # top, left, bottom, right
    pixel: tuple[int, int]  # one of its pixels


class Piece(NamedTuple):
    """A defect and a margin around it."""

    image: NDArray[np.uint8]  # (h, w[, C])
    bits: NDArray[np.unsignedinteger]  # (h, w), bit field of all classes
    shape: NDArray[np.bool_]  # (h, w), the defect

    def at(self, rows: slice, columns: slice) -> "Piece":
        """Return a part of it, or a flipped one."""
        place = rows, columns
        return Piece(self.image[place], self.bits[place], self.shape[place])


class CopyPaste(Augment):
    """Paste a defect of another training image into some of them, then flip.

    The defect is a connected component of a mask of the training images in use: no other image is
    looked at. Its class is drawn with a probability that falls with the root of the number of
    images that have it, so rare classes are pasted more often; then one of its defects, a flip of
    it and a place. It is made as bright as the place it comes to, and its edge is feathered over
    one to two pixels. Ghiasi et al. paste whole objects with their own brightness and find that
    blending matters little; steel's brightness differs between images, and a seam would give the
    defect away.

    Args:
        horizontal: probability of a left-right flip.
        vertical: probability of an up-down flip.
        paste: probability that an image receives a defect.
        transform: see :class:`~tlunet.data.augment.Augment`; applied afterwards.
        crop: see :class:`~tlunet.data.augment.Augment`; applied before.

    Raises:
        ConfigError: a probability is outside [0, 1].
    """

    def __init__(
        self,
        horizontal: float = 0.5,
        vertical: float = 0.5,
        paste: float = 0.5,
        transform: Any | None = None,
        crop: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(horizontal, vertical, transform, crop)
        if not 0 <= paste <= 1:
            raise ConfigError(f"augment.paste={paste}: expected a probability from 0 to 1")
        self.paste = paste
        self._pack: Pack | None = None
        self._defects: list[list[Defect]] = []  # of each class that has any
        self._chances = np.zeros(0)  # of these classes

    @property
    def is_changing(self) -> bool:  # noqa: D102
        return True

    def learn_from(self, pack: Pack, rows: NDArray[np.int64]) -> None:
        """Find the defects that may be pasted.

        Args:
            pack: the images.
            rows: the training images in use.
        """
        if self._pack is pack:
            return
        by_class = [find_defects(pack, rows, m) for m in range(len(pack.classes))]
        images = [len({defect.row for defect in defects}) for defects in by_class]
        self._pack = pack
        self._defects = [defects for defects in by_class if defects]
        weights = np.array([1 / np.sqrt(n) for n in images if n])
        self._chances = weights / weights.sum() if len(weights) else weights

    def change(
        self,
        seed: int,
        turn: int,
        row: int,
        image: NDArray[np.uint8],
        bits: NDArray[np.unsignedinteger],
    ) -> tuple[NDArray[np.uint8], NDArray[np.unsignedinteger]]:
        """Paste a defect into one image (H, W[, C]) and its bit field (H, W), or do not.

        Raises:
            RuntimeError: :meth:`learn_from` was not called.
        """
        if self._pack is None:
            raise RuntimeError("no defects to paste: learn_from was not called")
        random = np.random.default_rng((_PASTE, seed, turn, row))
        if self._defects and random.random() < self.paste:
            defects = self._defects[random.choice(len(self._defects), p=self._chances)]
            whole = cut_out(self._pack, defects[random.integers(len(defects))])
            size = bits.shape[0], bits.shape[1]
            piece, corner = _place(_flipped(whole, random.random(2) < 0.5), size, random)
            image, bits = paste_at(piece, corner, image, bits)
        return super().change(seed, turn, row, image, bits)


def find_defects(pack: Pack, rows: NDArray[np.int64], m: int) -> list[Defect]:
    """Find the connected components of class m (0…M-1) in some images."""
    defects = []
    for row in rows[pack.mask_labels[rows, m]].tolist():
        parts, _ = ndimage.label(pack.masks[row] >> m & 1, _TOUCHING)
        for number, place in enumerate(ndimage.find_objects(parts), 1):
            top, left = place[0].start, place[1].start
            y, x = np.argwhere(parts[place] == number)[0].tolist()
            box = top, left, place[0].stop, place[1].stop
            defects.append(Defect(m, row, box, (top + y, left + x)))
    return defects


def cut_out(pack: Pack, defect: Defect) -> Piece:
    """Cut a defect and a margin around it out of its image."""
    top, left, bottom, right = defect.box
    height, width = pack.content[defect.row].tolist()
    rows = slice(max(0, top - MARGIN), min(height, bottom + MARGIN))
    columns = slice(max(0, left - MARGIN), min(width, right + MARGIN))
    bits = np.array(pack.masks[defect.row, rows, columns])
    parts, _ = ndimage.label(bits >> defect.class_index & 1, _TOUCHING)
    number = parts[defect.pixel[0] - rows.start, defect.pixel[1] - columns.start]
    image = np.array(pack.images[defect.row, rows, columns])
    return Piece(image, bits, parts == number)


def paste_at(
    piece: Piece,
    corner: tuple[int, int],
    image: NDArray[np.uint8],
    bits: NDArray[np.unsignedinteger],
) -> tuple[NDArray[np.uint8], NDArray[np.unsignedinteger]]:
    """Return an image (H, W[, C]) and its bit field (H, W) with a piece that fits into them.

    Pixels of the defect get the classes that they had; what was below them is hidden.
    """
    (top, left), (height, width) = corner, piece.shape.shape
    window = slice(top, top + height), slice(left, left + width)
    is_free = bits[window] == 0
    around = image[window][is_free] if is_free.any() else image[bits == 0]
    gain = _gain(piece, around if len(around) else image[window])
    image, bits, below = image.copy(), bits.copy(), image[window]
    alpha = np.maximum(
        ndimage.gaussian_filter(piece.shape.astype(np.float32), FEATHER), piece.shape
    )
    alpha = alpha.reshape(*alpha.shape, *[1] * (image.ndim - 2))
    mixed = alpha * (gain * piece.image) + (1 - alpha) * below
    image[window] = np.clip(mixed, 0, 255).round().astype(np.uint8)
    bits[window] = np.where(piece.shape, piece.bits, bits[window])
    return image, bits


def _gain(piece: Piece, around: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How much brighter the pixels around its new place are than those around a defect."""
    own = piece.image[piece.bits == 0]
    if not len(own):
        own = piece.image
    channels = piece.image.shape[2:]
    new, old = (p.reshape(-1, *channels).mean(0, dtype=np.float32) for p in (around, own))
    gain: NDArray[np.float32] = np.clip(new / np.maximum(old, 1), *GAINS)
    return gain


def _flipped(piece: Piece, flips: NDArray[np.bool_]) -> Piece:
    """Flip left-right and up-down, as drawn."""
    rows, columns = (slice(None, None, -1 if flip else 1) for flip in flips[::-1])
    return piece.at(rows, columns)


def _place(
    piece: Piece, size: tuple[int, int], random: np.random.Generator
) -> tuple[Piece, tuple[int, int]]:
    """Draw the corner at which a piece comes into an image; what does not fit is cut off."""
    piece = piece.at(slice(size[0]), slice(size[1]))
    room = np.array(size) - piece.shape.shape + 1
    top, left = np.floor(random.random(2) * room).astype(int).tolist()
    return piece, (top, left)
