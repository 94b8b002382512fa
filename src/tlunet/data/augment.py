"""Random flips and an optional albumentations pipeline.

Every draw is a function of (seed, epoch, image), so it does not depend on the data path, the number
of workers, or a resume. Where images are drawn several times in an epoch, ``epoch`` is the
turn of the draw (:mod:`tlunet.data.sampling.images`).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tlunet.data.sampling.draws import uniform
from tlunet.errors import ConfigError

if TYPE_CHECKING:
    from tlunet.data.pack.pack import Pack

_FLIPS, _TRANSFORM, _REST_FLIPS = 1, 2, 8  # keys of independent random streams


CROP = "[height,width], multiples of 32"


def is_crop(value: Sequence[int]) -> bool:
    """Whether a value is a height and a width that every encoder takes."""
    return len(value) == 2 and all(isinstance(v, int) and v > 0 and v % 32 == 0 for v in value)


class Augment:
    """Augment training images (paper III-A: random horizontal and vertical flips).

    Args:
        horizontal: probability of a left-right flip.
        vertical: probability of an up-down flip.
        transform: an ``albumentations.Compose`` for image and mask, applied on the CPU before the
            flips; it must keep the size.
        crop: (height, width), multiples of 32, of a random window of each training image, cut on
            the CPU before everything else; half of the windows of an image with a defect are
            around one. ``None``: whole images.

    Raises:
        ConfigError: a probability is outside [0, 1], or ``crop`` is not a pair of multiples of 32.

    Example:
        >>> Augment().draw(seed=0, epoch=3, rows=np.array([7, 1])).shape
        (2, 2)
    """

    def __init__(
        self,
        horizontal: float = 0.5,
        vertical: float = 0.5,
        transform: Any | None = None,
        crop: Sequence[int] | None = None,
    ) -> None:
        for key, value in {"horizontal": horizontal, "vertical": vertical}.items():
            if not 0 <= value <= 1:
                raise ConfigError(f"augment.{key}={value}: expected a probability from 0 to 1")
        self.chances = np.array([horizontal, vertical])
        self.transform = transform
        if crop is not None and not is_crop(crop):
            raise ConfigError(f"augment.crop={list(crop)}: expected {CROP}")
        self.crop = None if crop is None else (int(crop[0]), int(crop[1]))

    @property
    def is_on_cpu(self) -> bool:
        """Whether images are changed on the CPU, before they are copied to a GPU."""
        return self.is_changing or self.crop is not None

    @property
    def is_changing(self) -> bool:
        """Whether :meth:`change` may change an image."""
        return self.transform is not None

    def learn_from(self, pack: "Pack", rows: np.ndarray) -> None:
        """Look at the training images before the first batch; here: nothing to learn.

        Args:
            pack: the images.
            rows: the training images in use.
        """

    def draw(self, seed: int, epoch: int, rows: np.ndarray) -> np.ndarray:
        """Draw the flips of each image: bool (B, 2), left-right and up-down."""
        # One generator per image, so that draws do not depend on the rest of the batch.
        return uniform((_FLIPS, seed, epoch), rows, 2) < self.chances

    def draw_rest(self, seed: int, turns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Draw the flips of images that are left out, each in its own turn, as :meth:`draw`."""
        flips = np.empty((len(rows), 2), bool)
        for turn in np.unique(turns).tolist():
            own = turns == turn
            flips[own] = uniform((_REST_FLIPS, seed, turn), rows[own], 2) < self.chances
        return flips

    def change(
        self, seed: int, turn: int, row: int, image: np.ndarray, bits: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Change one image (H, W[, 3]) and its bit field (H, W) on the CPU, before the flips."""
        if self.transform is None:
            return image, bits
        return self.apply_transform(seed, turn, row, image, bits)

    def apply_transform(
        self, seed: int, epoch: int, row: int, image: np.ndarray, bits: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Apply the albumentations pipeline to one image (H, W[, 3]) and its bit field (H, W).

        Raises:
            ConfigError: the pipeline changes the size, or the masks have more than 8 bits.
        """
        assert self.transform is not None
        if bits.dtype != np.uint8:
            raise ConfigError("augment.transform: supports at most 8 classes")
        words = np.random.SeedSequence((_TRANSFORM, seed, epoch, row)).generate_state(1)
        self.transform.set_random_seed(int(words[0]))
        out = self.transform(image=np.ascontiguousarray(image), mask=np.ascontiguousarray(bits))
        if out["image"].shape != image.shape or out["mask"].shape != bits.shape:
            raise ConfigError(
                f"augment.transform: changes the shape {image.shape} to {out['image'].shape}; "
                "expected transforms that keep the size"
            )
        return out["image"], out["mask"]


def flip(x: Tensor, flips: Tensor) -> Tensor:
    """Flip each item of a batch as drawn.

    Args:
        x: (B, …, H, W).
        flips: bool (B, 2), left-right and up-down.
    """
    left_right, up_down = (f.view(-1, *[1] * (x.ndim - 1)) for f in flips.unbind(1))  # (B, 1, …)
    x = torch.where(left_right, x.flip(-1), x)
    return torch.where(up_down, x.flip(-2), x)
