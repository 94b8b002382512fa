"""The decoder's first convolution of each stage, with less than half of its arithmetic.

A U-Net's stage enlarges its input twofold by nearest neighbour and convolves the result with a
3×3 kernel. Each output pixel then sees at most 2×2 *different* input pixels: which of the nine
weights fall on one pixel depends only on whether the output's row and column are even or odd. So
four 2×2 kernels, sums of the nine weights, on the small map give the same numbers as one 3×3
kernel on the large one: 16 products instead of 36 a small pixel, and the large map is never made.
The weights that are trained and kept are the 3×3 ones.

Reference: Shi et al. (2016), Is the deconvolution layer the same as a convolutional layer?
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Of row and column, in the order of the four kernels.
_PARITIES = ((0, 0), (1, 0), (0, 1), (1, 1))


def upsampled_conv(x: Tensor, weight: Tensor) -> Tensor:
    """``conv2d(interpolate(x, scale_factor=2, mode="nearest"), weight, padding=1)``.

    Args:
        x: (B, C, H, W).
        weight: (O, C, 3, 3).

    Returns:
        (B, O, 2H, 2W).

    >>> x, weight = torch.rand(1, 2, 3, 4), torch.rand(5, 2, 3, 3)
    >>> large = F.interpolate(x, scale_factor=2, mode="nearest")
    >>> torch.allclose(upsampled_conv(x, weight), F.conv2d(large, weight, padding=1), atol=1e-5)
    True
    """
    kernels = _by_parity(_by_parity(weight, 2), 4)  # (column's parity, row's, O, C, 2, 2)
    phases = F.conv2d(x, kernels.flatten(0, 2), padding=1)  # (B, 4·O, H+1, W+1)
    interleaved: Tensor = _Interleave.apply(phases)
    return interleaved


def _by_parity(weight: Tensor, axis: int) -> Tensor:
    """Three weights along an axis as the two that an even and an odd output see there.

    An even one sees the pixel before it once and its own twice, an odd one its own twice and the
    pixel behind it once.
    """
    first, second, third = weight.unbind(axis)
    even, odd = (
        torch.stack([first, second + third], axis),
        torch.stack([first + second, third], axis),
    )
    return torch.stack([even, odd])


class _Interleave(torch.autograd.Function):
    """(B, 4·O, H+1, W+1), a map for each parity of row and column → (B, O, 2H, 2W).

    Written out because the backward passes of four slices each make a whole map of zeros.
    """

    @staticmethod
    def forward(ctx: Any, phases: Tensor) -> Tensor:
        B, channels, H, W = phases.shape
        out = _like(phases, (B, channels // 4, 2 * H - 2, 2 * W - 2))
        for part, (y, x) in zip(phases.chunk(4, 1), _PARITIES, strict=True):
            out[:, :, y::2, x::2] = part[:, :, y : y + H - 1, x : x + W - 1]
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0]
        B, channels, H, W = grad.shape
        phases = _like(grad, (B, 4 * channels, H // 2 + 1, W // 2 + 1)).zero_()
        for part, (y, x) in zip(phases.chunk(4, 1), _PARITIES, strict=True):
            part[:, :, y : y + H // 2, x : x + W // 2] = grad[:, :, y::2, x::2]
        return phases


def _like(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """An empty map of another shape, its channels where those of `x` are."""
    layout = torch.channels_last if is_channels_last(x) else torch.contiguous_format
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of a (B, C, H, W) tensor are next to each other in memory."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


class Stage(nn.Module):
    """One stage of segmentation-models-pytorch's U-Net decoder, with the same weights and names.

    Enlarge twofold, join the skip connection, convolve, normalise, rectify; convolve once more.

    Args:
        block: the library's ``UnetDecoderBlock``, without attention.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.conv1, self.conv2 = block.conv1, block.conv2

    def forward(
        self,
        feature_map: Tensor,
        target_height: int,
        target_width: int,
        skip_connection: Tensor | None = None,
    ) -> Tensor:
        """Bring (B, C, H, W) to (B, O, target_height, target_width).

        The skip connection is (B, S, target_height, target_width).
        """
        convolve, normalise, rectify = self.conv1
        size = target_height, target_width
        if size == (2 * feature_map.shape[2], 2 * feature_map.shape[3]):
            # A convolution of joined maps is the sum of their convolutions: nothing is copied.
            C = feature_map.shape[1]
            x = upsampled_conv(feature_map, convolve.weight[:, :C])
            # Encoders that start at stride 4 send an empty map (B, 0, H/2, W/2) for stride 2.
            if skip_connection is not None and skip_connection.shape[1]:
                x = x + F.conv2d(skip_connection, convolve.weight[:, C:], padding=1)
        else:  # an image whose size is no multiple of 32: the stages do not all double
            x = F.interpolate(feature_map, size=size, mode="nearest")
            if skip_connection is not None:
                x = torch.cat([x, skip_connection], dim=1)
            x = convolve(x)
        out: Tensor = self.conv2(rectify(normalise(x)))
        return out
