"""Encoders: corrections to the library's encoders, and encoders from the user's own package.

Stochastic depth is a regulariser that the paper does not use, so it is disabled. EfficientNet-Lite
was trained on ImageNet in TensorFlow, whose strided convolutions pad even sides at the end and
whose batch normalisation adds 1e-3 to the variance. segmentation-models-pytorch uses PyTorch's
padding and 1e-5, so the same weights would give different features than the original network.
"""

from importlib import import_module

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from torch import Tensor, nn

from tlunet.errors import ConfigError, first_line

TENSORFLOW = "timm-tf_"  # prefix of the library's encoders with weights from TensorFlow
EPS = 1e-3  # epsilon of their batch normalisation


def adapt_encoder(encoder: nn.Module, name: str) -> None:
    """Adapt an encoder of segmentation-models-pytorch in place; names and shapes stay.

    Args:
        encoder: the library's encoder.
        name: its name in the library.

    >>> import segmentation_models_pytorch as smp
    >>> encoder = smp.encoders.get_encoder("timm-tf_efficientnet_lite0", weights=None)
    >>> adapt_encoder(encoder, "timm-tf_efficientnet_lite0")
    >>> type(encoder.conv_stem).__name__, encoder.bn1.eps
    ('Conv2dSame', 0.001)
    """
    for module in encoder.modules():
        if type(module).__name__ == "DropPath":
            module.drop_prob = 0.0  # type: ignore[assignment]
    if hasattr(encoder, "_drop_connect_rate"):  # the library's own EfficientNet
        encoder._drop_connect_rate = 0.0  # type: ignore[assignment]
    if not name.startswith(TENSORFLOW):
        return
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = EPS
        elif type(module) is nn.Conv2d and module.stride != (1, 1):
            module.__class__ = Conv2dSame  # pads depending on its input size
            module.padding = (0, 0)


class _Float32OnCpu:
    """Mixin for depthwise convolutions that leaves bf16 autocast on a CPU.

    Their backward pass in bf16 takes 1.3 to 3 times as long, which makes a whole training step of
    an EfficientNet-Lite0 1.2 to 1.5 times as long. All other layers are faster in bf16.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W)."""
        if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(x)  # type: ignore[misc]
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float())  # type: ignore[misc]


class DepthwiseConv2d(_Float32OnCpu, nn.Conv2d):
    """A depthwise convolution."""


class DepthwiseConv2dSame(_Float32OnCpu, Conv2dSame):
    """A depthwise convolution with TensorFlow's padding."""


_FAST: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: DepthwiseConv2d,
    Conv2dSame: DepthwiseConv2dSame,
}


def speed_up_depthwise(network: nn.Module) -> None:
    """Replace a network's depthwise convolutions by the fast classes, in place; weights stay.

    >>> net = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1))
    >>> speed_up_depthwise(net)
    >>> [type(layer).__name__ for layer in net]
    ['DepthwiseConv2d', 'Conv2d']
    """
    for module in network.modules():
        fast = _FAST.get(type(module))
        if fast and isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            module.__class__ = fast  # type: ignore[assignment]


class EvenConv2d(nn.Conv2d):
    """A convolution with TensorFlow's padding, for sides that its stride divides: a constant."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W)."""
        pads = []  # left, right, top, bottom
        for size, stride, dilation in zip(
            self.kernel_size[::-1], self.stride[::-1], self.dilation[::-1], strict=True
        ):
            total = max((size - 1) * dilation + 1 - stride, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(
            F.pad(x, pads), self.weight, self.bias, self.stride, 0, self.dilation, self.groups
        )


def fix_padding(network: nn.Module) -> None:
    """Replace padding that depends on the size, in place, for sides that are multiples of 32.

    A symbolic size would carry a formula that grows with every layer.

    >>> import torch
    >>> same, x = Conv2dSame(1, 1, 3, stride=2), torch.rand(1, 1, 6, 4)
    >>> before = same(x)
    >>> fix_padding(same)
    >>> type(same).__name__, torch.equal(same(x), before)
    ('EvenConv2d', True)
    """
    for module in network.modules():
        if isinstance(module, Conv2dSame):
            module.__class__ = EvenConv2d  # type: ignore[assignment]


def register_encoder(target: str) -> None:
    """Import an encoder class from the user's own package and register it under its path.

    The class is a ``torch.nn.Module`` with the interface of segmentation-models-pytorch's
    encoders (``EncoderMixin``): it is called with ``depth=5, output_stride=32`` and returns six
    feature maps with strides 1, 2, 4, 8, 16, 32 and the channels in ``out_channels``.

    Importing runs the package's code, so only names from the user are passed here, never those of
    a checkpoint or a run folder.

    Args:
        target: import path of the class, such as ``my_steel.encoders.TinyEncoder``.

    Raises:
        ConfigError: the module or class does not exist, or it is not an encoder.
    """
    module, _, name = target.rpartition(".")
    try:
        encoder = getattr(import_module(module), name)
    except Exception as error:  # an import raises whatever the module does
        raise ConfigError(
            f"encoder={target}: cannot be imported ({first_line(error)}); expected the path of a "
            "class in an installed package or on PYTHONPATH"
        ) from error
    is_class = isinstance(encoder, type) and issubclass(encoder, nn.Module)
    if not is_class or not hasattr(encoder, "set_in_channels"):
        raise ConfigError(
            f"encoder={target}: not an encoder; expected a subclass of torch.nn.Module and "
            "segmentation_models_pytorch.encoders._base.EncoderMixin"
        )
    smp.encoders.encoders[target] = {"encoder": encoder, "pretrained_settings": {}, "params": {}}
