import copy

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F

from tlunet.model.decoder import FastDecoderBlock, _Interleave, small_kernels, upsampled_conv
from tlunet.model.network import TLUNet, library_network


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_is_the_convolution_of_the_enlarged_map(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 3, 4, 5, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    weight = torch.rand(6, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    upstream = torch.rand(2, 6, 8, 10, dtype=torch.float64)
    results = []
    for out in (
        upsampled_conv(x, weight),
        F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, padding=1),
    ):
        results.append((out, *torch.autograd.grad(out, (x, weight), upstream)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    # The memory format is kept: no hidden copy between stages.
    assert results[0][0].is_contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_phases_are_interleaved_pixel_by_pixel(layout: torch.memory_format) -> None:
    phases = torch.rand(2, 4 * 3, 5, 6).to(memory_format=layout).requires_grad_()
    upstream = torch.rand(2, 3, 8, 10)
    out = _Interleave.apply(phases)
    (grad,) = torch.autograd.grad(out, phases, upstream)
    expected = torch.zeros_like(grad)
    parts, grads = phases.chunk(4, 1), expected.chunk(4, 1)
    for part, into, (y, x) in zip(parts, grads, [(0, 0), (1, 0), (0, 1), (1, 1)], strict=True):
        assert torch.equal(out[:, :, y::2, x::2], part[:, :, y : y + 4, x : x + 5])
        into[:, :, y : y + 4, x : x + 5] = upstream[:, :, y::2, x::2]
    assert torch.equal(grad, expected)  # also zero where no output pixel comes from
    assert out.is_contiguous(memory_format=layout)


def test_the_sums_of_weights_ignore_autocast() -> None:
    weight = torch.rand(4, 3, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        sums = small_kernels(weight)
    assert sums.dtype == torch.float32
    assert torch.equal(sums, small_kernels(weight))
    even, odd = sums[:4], sums[-4:]
    torch.testing.assert_close(even[:, :, 0, 0], weight[:, :, 0, 0])
    torch.testing.assert_close(even[:, :, 1, 1], weight[:, :, 1:, 1:].sum((2, 3)))
    torch.testing.assert_close(odd[:, :, 0, 0], weight[:, :, :2, :2].sum((2, 3)))
    torch.testing.assert_close(odd[:, :, 1, 0], weight[:, :, 2, :2].sum(2))


def test_its_gradient_is_the_numerical_one() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(upsampled_conv, (x, weight))


def test_16_products_instead_of_36() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    x, weight = torch.rand(1, 8, 16, 16), torch.rand(4, 8, 3, 3)
    with FlopCounterMode(display=False) as ours:
        upsampled_conv(x, weight)
    with FlopCounterMode(display=False) as plain:
        F.conv2d(F.interpolate(x, scale_factor=2), weight, padding=1)
    small_pixels = 17 / 16 * 17 / 16  # one row and column more than the small map
    sums = 2 * (4 * 8) * 9 * 16  # of the weights, independent of the map
    saved = (ours.get_total_flops() - sums) / plain.get_total_flops()
    assert saved == pytest.approx(16 / 36 * small_pixels)


@pytest.mark.parametrize("encoder", ["resnet18", "densenet121", "tu-convnext_tiny"])
@pytest.mark.parametrize("size", [(64, 96), (50, 70)])  # a multiple of 32, and not
def test_the_network_is_the_librarys(encoder: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    ours = TLUNet(encoder, mean=[0.0], std=[1.0]).double().eval()
    library = library_network(encoder, 4).double().eval()
    missing = library.load_state_dict(ours.state_dict(), strict=False)
    assert missing.missing_keys == []
    assert sorted(missing.unexpected_keys) == ["mean", "std"]
    image = torch.rand(2, 1, *size, dtype=torch.float64)
    masks, labels = library(image.expand(-1, 3, -1, -1))
    torch.testing.assert_close(ours(image).masks, masks)
    torch.testing.assert_close(ours(image).labels, labels)


def test_a_stage_trains_as_the_librarys_block_does() -> None:
    torch.manual_seed(0)
    block = smp.Unet("resnet18", encoder_weights=None).decoder.blocks[3].double()
    stage = FastDecoderBlock(copy.deepcopy(block))
    x = torch.rand(2, 64, 8, 6, dtype=torch.float64)
    skip = torch.rand(2, 64, 16, 12, dtype=torch.float64)
    for module in (block, stage):
        module.train()(x, 16, 12, skip).square().sum().backward()
    theirs = dict(block.named_parameters())
    assert dict(stage.named_parameters()).keys() == theirs.keys()
    for name, parameter in stage.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name].grad)
