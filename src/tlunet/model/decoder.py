"""The first convolution of each decoder stage, with less than half the FLOPs.

A U-Net stage upsamples its input by a factor of 2 (nearest neighbour) and convolves the result with
a 3×3 kernel. Each output pixel then depends on at most 2×2 *different* input pixels: which of the
nine weights apply to the same pixel depends only on whether the output's row and column are even or
odd. So four 2×2 kernels, sums of the nine weights, on the small map give the same result as one 3×3
kernel on the large map: 16 products per small pixel instead of 36, and the large map is never
created. The 3×3 weights are the ones that are trained and stored.

Reference: Shi et al. (2016), Is the deconvolution layer the same as a convolutional layer?
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Parities of row and column, in the order of the four kernels.
_PARITIES = ((0, 0), (1, 0), (0, 1), (1, 1))


def upsampled_conv(x: Tensor, weight: Tensor) -> Tensor:
    """Compute ``conv2d(interpolate(x, scale_factor=2, mode="nearest"), weight, padding=1)``.

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
    """Combine three weights along an axis into the two that even and odd outputs use.

    An even output uses the previous pixel once and its own twice, an odd output its own twice and
    the next pixel once.
    """
    first, second, third = weight.unbind(axis)
    even, odd = (
        torch.stack([first, second + third], axis),
        torch.stack([first + second, third], axis),
    )
    return torch.stack([even, odd])


class _Interleave(torch.autograd.Function):
    """Interleave (B, 4·O, H+1, W+1), one map per parity of row and column, to (B, O, 2H, 2W).

    A custom function, because the backward pass of each of the four slices would create a full map
    of zeros.
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
    """Create an empty map of another shape, with the memory format of `x`."""
    layout = torch.channels_last if is_channels_last(x) else torch.contiguous_format
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)


def is_channels_last(x: Tensor) -> bool:
    """Whether a (B, C, H, W) tensor is in channels-last memory format."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


class FastDecoderBlock(nn.Module):
    """One stage of segmentation-models-pytorch's U-Net decoder, with the same weights and names.

    Upsample by 2, concatenate the skip connection, then twice convolution, batch norm and ReLU.

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
        """Map (B, C, H, W) to (B, O, target_height, target_width).

        The skip connection is (B, S, target_height, target_width).
        """
        convolve, normalise, rectify = self.conv1
        size = target_height, target_width
        if size == (2 * feature_map.shape[2], 2 * feature_map.shape[3]):
            # The convolution of concatenated maps is the sum of their convolutions: no copy.
            C = feature_map.shape[1]
            x = upsampled_conv(feature_map, convolve.weight[:, :C])
            # Encoders that start at stride 4 return an empty map (B, 0, H/2, W/2) for stride 2.
            if skip_connection is not None and skip_connection.shape[1]:
                x = x + F.conv2d(skip_connection, convolve.weight[:, C:], padding=1)
        else:  # image size is not a multiple of 32: not every stage doubles the size
            x = F.interpolate(feature_map, size=size, mode="nearest")
            if skip_connection is not None:
                x = torch.cat([x, skip_connection], dim=1)
            x = convolve(x)
        out: Tensor = self.conv2(rectify(normalise(x)))
        return out
