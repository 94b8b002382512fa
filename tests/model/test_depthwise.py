"""Depthwise convolutions stay in float32 under bf16 autocast on a CPU."""

import pytest
import segmentation_models_pytorch as smp
import torch
from timm.layers import Conv2dSame
from torch import nn

from tlunet.model.encoder import speed_up_depthwise
from tlunet.model.network import TLUNet


@pytest.mark.parametrize("conv", [nn.Conv2d, Conv2dSame])
def test_float32_under_autocast_and_the_same_without(conv: type[nn.Conv2d]) -> None:
    torch.manual_seed(0)
    layer = conv(8, 8, 3, stride=2, groups=8)
    x = torch.randn(2, 8, 11, 13)
    expected = layer(x)
    fast = nn.Sequential(layer)
    speed_up_depthwise(fast)
    assert torch.equal(fast(x), expected)
    with torch.autocast("cpu", torch.bfloat16):
        y = fast(x.bfloat16())
    assert y.dtype == torch.float32
    assert torch.equal(y, conv.forward(layer, x.bfloat16().float()))


def test_only_depthwise_layers_change() -> None:
    layers = nn.Sequential(
        nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(1, 1, 3), nn.Conv2d(8, 8, 1)
    )
    speed_up_depthwise(layers)
    assert all(type(layer) is nn.Conv2d for layer in layers)


def test_an_encoder_keeps_names_and_values() -> None:
    name = "efficientnet-b0"
    network = TLUNet(name).eval()
    library = smp.encoders.get_encoder(name, weights=None).eval()
    library.load_state_dict(network.encoder.state_dict())
    x = torch.randn(1, 3, 64, 64)
    for ours, theirs in zip(network.encoder(x), library(x), strict=True):
        assert torch.equal(ours, theirs)
