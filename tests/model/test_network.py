import pytest
import torch

from tlunet.errors import ConfigError
from tlunet.model.network import TLUNet, check_batch_of_one, check_encoder


@pytest.mark.parametrize(("encoder", "millions"), [("resnet18", 11.18), ("densenet121", 6.95)])
def test_the_papers_encoders(encoder: str, millions: float) -> None:
    network = TLUNet(encoder).eval()
    parameters = sum(p.numel() for p in network.encoder.parameters())
    assert parameters / 1e6 == pytest.approx(millions, abs=0.01)  # paper II-B: 11 M and 6 M
    convolutions = [m for m in network.decoder.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [c.out_channels for c in convolutions[::2]] == [256, 128, 64, 32, 16]
    head = list(network.classification_head.children())
    kinds = [type(m).__name__ for m in head if not isinstance(m, torch.nn.Identity)]
    assert [k for k in kinds if k != "Activation"] == ["AdaptiveAvgPool2d", "Flatten", "Linear"]


@pytest.mark.parametrize("size", [(64, 96), (50, 70)])  # a multiple of 32, and not
def test_shapes(size: tuple[int, int]) -> None:
    network = TLUNet("resnet18", classes=3).eval()
    masks, labels = network(torch.zeros(2, 1, *size, dtype=torch.uint8))
    assert masks.shape == (2, 3, *size)
    assert labels.shape == (2, 3)


def test_normalisation_is_inside_and_grey_is_repeated() -> None:
    torch.manual_seed(0)
    network = TLUNet("resnet18", mean=[80.0], std=[40.0]).eval()
    image = torch.randint(0, 256, (1, 1, 32, 64), dtype=torch.uint8)
    seen: list[torch.Tensor] = []
    network.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    masks, _ = network(image)
    expected = ((image.float() - 80) / 40).expand(-1, 3, -1, -1)
    assert torch.equal(seen[0], expected)
    assert torch.equal(network(image.expand(-1, 3, -1, -1))[0], masks)
    assert torch.equal(network(image.float())[0], masks)


def test_spec_rebuilds_the_network() -> None:
    first = TLUNet("resnet18", classes=2, mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0])
    second = TLUNet(**first.spec)
    second.load_state_dict(first.state_dict())
    image = torch.rand(1, 3, 32, 32) * 255
    assert torch.equal(first.eval()(image)[0], second.eval()(image)[0])


def test_channels_last_gives_the_same() -> None:
    network = TLUNet("resnet18").eval()
    image = torch.rand(2, 1, 64, 64) * 255
    plain = network(image)
    fast = network.to(memory_format=torch.channels_last)(image)
    torch.testing.assert_close(fast.masks, plain.masks, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fast.labels, plain.labels, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("encoder", ["mit_b0", "efficientnet-b0", "tu-convnext_tiny"])
def test_modern_encoders_work(encoder: str) -> None:
    check_encoder(encoder, 4, (32, 160))


@pytest.mark.parametrize("arch", ["fpn", "unetplusplus"])
@pytest.mark.parametrize("encoder", ["resnet18", "densenet121", "efficientnet-b0"])
def test_other_decoders(arch: str, encoder: str) -> None:
    check_encoder(encoder, 4, (32, 160), arch)
    network = TLUNet("resnet18", classes=2, arch=arch).eval()
    masks, labels = network(torch.zeros(1, 1, 64, 96))
    assert (masks.shape, labels.shape) == ((1, 2, 64, 96), (1, 2))
    assert network.spec["arch"] == arch


@pytest.mark.parametrize(
    ("encoder", "says"),
    [
        ("resnt18", "no such encoder; similar: resnet18"),
        ("tu-resnet_18", "timm has no model 'resnet_18'"),
        ("tu-vit_tiny_patch16_224", "does not work with arch=unet"),
        ("tu-swin_tiny_patch4_window7_224", "fails on images of 32×160"),
    ],
)
def test_encoders_that_cannot_work_say_why(encoder: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        check_encoder(encoder, 4, (32, 160))
    assert len(caught.value.lines) == 1
    assert "\n" not in caught.value.lines[0]


@pytest.mark.parametrize(
    ("encoder", "arch", "says"),
    [
        ("resnet18", "unet3", "arch.name=unet3: expected unet, fpn, unetplusplus"),
        ("mit_b0", "unetplusplus", "encoder.name=mit_b0: does not work with arch=unetplusplus"),
        ("resnet18", "unetplusplus", "arch=unetplusplus: fails on images of 50×70"),
        ("resnet18", "fpn", r"arch=fpn: .* images of \(?50"),
    ],
)
def test_decoders_that_cannot_work_say_why(encoder: str, arch: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_encoder(encoder, 4, (50, 70), arch)


@pytest.mark.parametrize(
    ("encoder", "size", "arch", "says"),
    [
        ("resnet18", (200, 200), "fpn", "data.size=[192,192] (multiples of 32) or another encoder"),
        ("mit_b0", (200, 210), "fpn", "data.size=[192,224] (multiples of 32) or another encoder"),
        ("resnet18", (200, 200), "unetplusplus", "data.size=[192,192] (multiples of 32)"),
        ("tu-swin_tiny_patch4_window7_224", (256, 1600), "unet", "data.size=[224,224] or another"),
        ("tu-maxvit_tiny_tf_224", (256, 1600), "unet", "data.size=[224,1568] or another encoder"),
    ],
)
def test_a_size_it_takes_is_named(
    encoder: str, size: tuple[int, int], arch: str, says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_encoder(encoder, 4, size, arch)
    [line] = caught.value.lines
    assert f"fails on images of {size[0]}×{size[1]}; use {says}" in line
    assert "init.size=[" in _refused(encoder, size, arch)


def _refused(encoder: str, size: tuple[int, int], arch: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check_encoder(encoder, 4, size, arch, key="init.size")
    return caught.value.lines[0]


def test_batch_normalisation_needs_two_values() -> None:
    check_batch_of_one("resnet18", 4, (32, 64))
    check_batch_of_one("tu-convnext_tiny", 4, (32, 32))  # layer normalisation
    with pytest.raises(ConfigError, match=r"two or more images .* or data\.size=\[64,64\]"):
        check_batch_of_one("resnet18", 4, (32, 32))
