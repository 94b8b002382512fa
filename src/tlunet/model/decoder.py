"""The first convolution of each decoder stage, with less than half the FLOPs.

A U-Net stage upsamples its input by a factor of 2 (nearest neighbour) and convolves the result with
a 3×3 kernel. Each output pixel then depends on at most 2×2 *different* input pixels: which of the
nine weights apply to the same pixel depends only on whether the output's row and column are even or
odd. So four 2×2 kernels, sums of the nine weights, on the small map give the same result as one 3×3
kernel on the large map: 16 products per small pixel instead of 36, and the large map is never
created. The 3×3 weights are the ones that are trained and stored.

Reference: Shi et al. (2016), Is the deconvolution layer the same as a convolutional layer?
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def upsampled_conv(x: Tensor, weight: Tensor, taps: Tensor | None = None) -> Tensor:
    """Compute ``conv2d(interpolate(x, scale_factor=2, mode="nearest"), weight, padding=1)``.

    Args:
        x: (B, C, H, W).
        weight: (O, C, 3, 3).
        taps: :func:`parity_taps` on the device of `weight`; by default copied there, for which a
            GPU waits.

    Returns:
        (B, O, 2H, 2W).

    >>> x, weight = torch.rand(1, 2, 3, 4), torch.rand(5, 2, 3, 3)
    >>> large = F.interpolate(x, scale_factor=2, mode="nearest")
    >>> torch.allclose(upsampled_conv(x, weight), F.conv2d(large, weight, padding=1), atol=1e-5)
    True
    """
    phases = F.conv2d(x, small_kernels(weight, taps), padding=1)  # (B, 4·O, H+1, W+1)
    interleaved: Tensor = _Interleave.apply(phases)
    return interleaved


def small_kernels(weight: Tensor, taps: Tensor | None = None) -> Tensor:
    """Sum 3×3 weights (O, C, 3, 3) into 2×2 kernels (4·O, C, 2, 2), one set per parity.

    The parities of (column, row) are in the order (0, 0), (0, 1), (1, 0), (1, 1).

    >>> small_kernels(torch.ones(1, 1, 3, 3))[0, 0]  # even row, even column: corners of 1, 2, 2, 4
    tensor([[1., 2.],
            [2., 4.]])
    """
    O, C = weight.shape[:2]  # noqa: E741
    if taps is None:
        taps = parity_taps()
    with _full_precision(weight.device):
        sums = weight.reshape(O * C, 9) @ taps.to(weight)  # (O·C, 16)
    return sums.view(O, C, 4, 2, 2).permute(2, 0, 1, 3, 4).reshape(4 * O, C, 2, 2)


def _full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Turn autocast off; the meta device, for shapes only, has none."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def parity_taps() -> Tensor:
    """Which of the nine weights each of the four small kernels' 2×2 taps adds up: (9, 16) of 0, 1.

    An even output uses the previous pixel once and its own twice, an odd output its own twice and
    the next pixel once.
    """
    even = [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]  # weight × tap: tap 1 adds weights 1 and 2
    odd = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    axis = torch.tensor([even, odd])  # (parity, weight, tap)
    # (row's weight, column's weight, column's parity, row's parity, row's tap, column's tap)
    return torch.einsum("yri,xcj->rcxyij", axis, axis).reshape(9, 16)


class _Interleave(torch.autograd.Function):
    """Interleave (B, 4·O, H+1, W+1), one map per parity of row and column, to (B, O, 2H, 2W).

    Both directions are one strided copy. A custom function, because autograd's backward pass of a
    view would create a full map of zeros.
    """

    @staticmethod
    def forward(ctx: Any, phases: Tensor) -> Tensor:
        B, channels, H, W = phases.shape
        out = _like(phases, (B, channels // 4, 2 * H - 2, 2 * W - 2))
        _by_parity(out).copy_(_shifted(phases))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0]
        B, channels, H, W = grad.shape
        phases = _like(grad, (B, 4 * channels, H // 2 + 1, W // 2 + 1))
        _shifted(phases).copy_(_by_parity(grad))
        # What no output pixel uses: an even phase's last row or column, an odd one's first.
        parts = phases.unflatten(1, (2, 2, channels))  # (B, x, y, O, H+1, W+1)
        parts[:, :, 0, :, -1], parts[:, :, 1, :, 0] = 0, 0
        parts[:, 0, ..., -1], parts[:, 1, ..., 0] = 0, 0
        return phases


def _by_parity(large: Tensor) -> Tensor:
    """View (B, O, 2H, 2W) as (B, O, H, 2, W, 2)."""
    B, channels, H, W = large.shape
    return large.view(B, channels, H // 2, 2, W // 2, 2)


def _shifted(phases: Tensor) -> Tensor:
    """View (B, 4·O, H+1, W+1) as (B, O, H, 2, W, 2): phase (y, x) starts at row y, column x."""
    B, channels, H, W = phases.shape
    channels //= 4
    item, channel, row, column = phases.stride()
    return phases.as_strided(
        (B, channels, H - 1, 2, W - 1, 2),
        (item, channel, row, channels * channel + row, column, 2 * channels * channel + column),
    )


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

    taps: Tensor

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.conv1, self.conv2 = block.conv1, block.conv2
        self.register_buffer("taps", parity_taps(), persistent=False)

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
            x = upsampled_conv(feature_map, convolve.weight[:, :C], self.taps)
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
