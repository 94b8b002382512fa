"""Depthwise convolutions in float32 where autocast would have a CPU compute them in bf16.

Their backward pass in bf16 takes 1.3 to 3 times as long, which makes a whole training step of an
EfficientNet-Lite0 1.2 to 1.5 times as long. All other layers are faster in bf16.
"""

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn


class _Float32OnCpu:
    """Mixed into a convolution: leaves autocast on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W)."""
        if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(x)  # type: ignore[misc]
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float())  # type: ignore[misc]


class DepthwiseConv2d(_Float32OnCpu, nn.Conv2d):
    """A convolution of each channel by itself."""


class DepthwiseConv2dSame(_Float32OnCpu, Conv2dSame):
    """Likewise, with TensorFlow's padding."""


_FAST: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: DepthwiseConv2d,
    Conv2dSame: DepthwiseConv2dSame,
}


def speed_up_depthwise(network: nn.Module) -> None:
    """Give a network's depthwise convolutions their fast form, in place; names and weights stay.

    >>> net = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1))
    >>> speed_up_depthwise(net)
    >>> [type(layer).__name__ for layer in net]
    ['DepthwiseConv2d', 'Conv2d']
    """
    for module in network.modules():
        fast = _FAST.get(type(module))
        if fast and isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            module.__class__ = fast  # type: ignore[assignment]
