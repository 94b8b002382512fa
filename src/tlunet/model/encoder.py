"""What the library's encoders lack before they can be compared.

Stochastic depth is a regulariser that the paper does not have. And EfficientNet-Lite's ImageNet
weights were trained in TensorFlow, whose strided convolutions pad at the end of an even side and
whose batch normalisation adds 1e-3 to the variance. segmentation-models-pytorch builds it with
PyTorch's padding and 1e-5, so that the same weights give other features than the network that
learned them.
"""

from timm.layers import Conv2dSame
from torch import nn

TENSORFLOW = "timm-tf_"  # the library's names of encoders whose weights come from TensorFlow
EPS = 1e-3  # of their batch normalisation


def adapt_encoder(encoder: nn.Module, name: str) -> None:
    """Correct an encoder of segmentation-models-pytorch in place; names and shapes stay.

    Args:
        encoder: the library's encoder.
        name: its name there.

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
            module.__class__ = Conv2dSame  # pads by the size of its input
            module.padding = (0, 0)
