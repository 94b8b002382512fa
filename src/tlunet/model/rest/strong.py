"""Strong changes of a batch on its device: intensity, and CutMix.

All numbers are drawn from torch's default generator of the device, which a trainer seeds for each
step (`tlunet.study.training.callbacks.reseed`): a resumed run draws the same ones.
"""

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

CHANCE = 0.8  # of each change of intensity but blur and noise
SOFT_CHANCE = 0.5  # of blur, and of noise
MIXED_CHANCE = 0.5  # of an image to receive a piece of another one
AREAS = 0.02, 0.4  # smallest and largest piece as a fraction of the image (UniMatch's)
SHAPES = 0.3, 1 / 0.3  # its height / width, relative to that of the image


def change_intensity(image: Tensor) -> Tensor:
    """Change brightness, contrast, gamma and sharpness of each image, and add noise.

    The kinds and chances are those of UniMatch (Yang et al. 2023), without its changes of colour
    and with gamma and noise, as steel is mostly photographed in grey.

    Args:
        image: (B, C, H, W), uint8 or float, grey levels 0…255.

    Returns:
        float32 (B, C, H, W), grey levels 0…255.
    """
    with torch.autocast(image.device.type, enabled=False):
        x = image.float() / 255
        x = x * _drawn(x, 0.5, 1.5, neutral=1.0)  # brightness
        mean = x.mean((1, 2, 3), keepdim=True)
        x = mean + (x - mean) * _drawn(x, 0.5, 1.5, neutral=1.0)  # contrast
        x = x.clamp(0, 1) ** _drawn(x, 0.7, 1.4, neutral=1.0)  # gamma
        blurred = gaussian_blur(x, [5, 5], [1.5, 1.5])
        x = torch.lerp(x, blurred, _drawn(x, 0.0, 1.0, neutral=0.0, chance=SOFT_CHANCE))
        noise = _drawn(x, 0.0, 0.05, neutral=0.0, chance=SOFT_CHANCE)
        return (x + noise * torch.randn_like(x)).clamp(0, 1) * 255


def _drawn(x: Tensor, low: float, high: float, neutral: float, chance: float = CHANCE) -> Tensor:
    """Draw one number per image, (B, 1, 1, 1): uniform, or the neutral one."""
    value, is_used = torch.rand(2, len(x), 1, 1, 1, device=x.device)
    return torch.where(is_used < chance, low + (high - low) * value, neutral)


class CutMix:
    """Replace a piece of some images by that of others (Yun et al. 2019); drawn when created.

    Args:
        images: B.
        size: (H, W).
        device: the device of the images.

    Attributes:
        piece: bool (B, 1, H, W), a rectangle in about half of the images, empty in the others.
        other: (B,), the image that each piece comes from.

    Example:
        >>> mix = CutMix(2, (32, 64), torch.device("cpu"))
        >>> mix(torch.rand(2, 3, 32, 64)).shape
        torch.Size([2, 3, 32, 64])
    """

    def __init__(self, images: int, size: tuple[int, int], device: torch.device) -> None:
        self.piece = draw_pieces(images, size, device)
        self.other = torch.randperm(images, device=device)

    def __call__(self, x: Tensor) -> Tensor:
        """Mix images or masks (B, C, H, W)."""
        return torch.where(self.piece, x[self.other], x)

    def labels(self, is_there: Tensor, is_absent: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Return which classes are in the mixed images, and which are not, bool (B, M).

        A class of either image may be in the part that is gone. It is in the mixed one if the masks
        say so, and not if it is in neither; otherwise it is not known.

        Args:
            is_there: bool (B, M), classes of the images.
            is_absent: bool (B, M), classes that they do not have.
            masks: bool (B, M, H, W), of the mixed images.
        """
        is_mixed = self.piece.flatten(1).any(1, keepdim=True)  # (B, 1)
        is_seen = (is_there | is_there[self.other]) & masks.flatten(2).any(2)
        is_in_none = is_absent & is_absent[self.other]
        return (
            torch.where(is_mixed, is_seen, is_there),
            torch.where(is_mixed, is_in_none, is_absent),
        )


def draw_pieces(images: int, size: tuple[int, int], device: torch.device) -> Tensor:
    """Draw the piece of each image that is replaced, as :attr:`CutMix.piece`."""
    area, shape, top, left, is_used = torch.rand(5, images, device=device)
    side = (AREAS[0] + (AREAS[1] - AREAS[0]) * area).sqrt()
    ratio = (SHAPES[0] * (SHAPES[1] / SHAPES[0]) ** shape).sqrt()
    sides = torch.stack([side * ratio, side / ratio], 1).clamp(max=1)  # (B, 2), relative
    whole = torch.tensor(size, device=device)
    pixels = (sides * whole).round().clamp(min=1)
    start = (torch.stack([top, left], 1) * (whole - pixels + 1)).floor()
    return _is_inside(start, start + pixels, size) & (is_used < MIXED_CHANCE).view(-1, 1, 1, 1)


def _is_inside(start: Tensor, end: Tensor, size: tuple[int, int]) -> Tensor:
    """Mark the pixels from ``start`` (B, 2) to before ``end``, bool (B, 1, H, W)."""
    rows, columns = (
        (place >= start[:, k, None]) & (place < end[:, k, None])
        for k, place in enumerate(torch.arange(side, device=start.device) for side in size)
    )
    return (rows[:, :, None] & columns[:, None, :]).unsqueeze(1)
