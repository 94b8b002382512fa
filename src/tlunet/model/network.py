"""The joint network of the paper's Figure 2: one encoder, one decoder, two heads."""

import difflib
import functools
import os
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from tlunet.errors import ConfigError, first_line
from tlunet.model.decoder import FastDecoderBlock, is_channels_last
from tlunet.model.encoder import adapt_encoder, register_encoder, speed_up_depthwise
from tlunet.model.memory import recompute

#: Library name → what folders, tables and figures call the encoder: its name in conf/encoder/.
#: Any other encoder keeps its library name.
CONFIG_NAMES = {
    "resnet18": "resnet",
    "densenet121": "densenet",
    "timm-tf_efficientnet_lite0": "efficientnet_lite0",
    "timm-tf_efficientnet_lite1": "efficientnet_lite1",
    "timm-tf_efficientnet_lite2": "efficientnet_lite2",
    "efficientnet-b0": "efficientnet_b0",
    "tu-convnext_tiny": "convnext_tiny",
    "mit_b0": "mit_b0",
}
#: Environment variable: the encoder class of the user's own package that checkpoints may name.
TRUSTED = "TLUNET_ENCODER"
#: Decoders by the names of conf/arch/; the paper's is the first.
ARCHITECTURES = {
    "unet": smp.Unet,
    "fpn": smp.FPN,
    "unetplusplus": smp.UnetPlusPlus,
}


def encoder_label(encoder: str) -> str:
    """What folders, tables and figures call an encoder.

    >>> encoder_label("resnet18"), encoder_label("my_steel.TinyEncoder"), encoder_label("vgg11")
    ('resnet', 'TinyEncoder', 'vgg11')
    """
    if "." in encoder and not encoder.startswith("tu-"):  # a class of the user's own package
        return encoder.rpartition(".")[2]
    return CONFIG_NAMES.get(encoder, encoder).replace("/", "-")


class Logits(NamedTuple):
    """The network's outputs before the sigmoid."""

    masks: Tensor  # (B, M, H, W), one score per pixel and class
    labels: Tensor  # (B, M), one score per image and class


class TLUNet(nn.Module):
    """U-Net with a classifier on the encoder's output (paper II-A, II-C, Figure 2).

    The encoder halves the resolution five times; the decoder restores it over skip connections
    (channels 256, 128, 64, 32, 16); a 3×3 convolution gives one mask per class. The classifier is
    a spatial average of the encoder's output and one linear layer. ``arch`` selects another
    decoder of segmentation-models-pytorch, with its defaults.

    Normalisation is part of the network, so the weights are all you need to predict.

    Args:
        encoder: a segmentation-models-pytorch encoder (``resnet18``), or a timm one (``tu-…``).
        classes: M, the number of defect classes.
        mean: of the training images' pixels, in grey levels 0…255; one value, or one per channel.
        std: standard deviation, likewise; positive.
        arch: ``unet`` (the paper's), ``fpn`` (Kirillov et al. 2019) or ``unetplusplus`` (Zhou et
            al. 2018).

    Raises:
        ConfigError: no such encoder or decoder, or they do not fit together.

    Example:
        >>> net = TLUNet("resnet18", classes=4, mean=[80.0], std=[40.0]).eval()
        >>> masks, labels = net(torch.zeros(2, 1, 64, 96, dtype=torch.uint8))
        >>> masks.shape, labels.shape
        (torch.Size([2, 4, 64, 96]), torch.Size([2, 4]))
    """

    mean: Tensor
    std: Tensor
    encoder: nn.Module
    decoder: nn.Module
    segmentation_head: nn.Module
    classification_head: nn.Module

    def __init__(
        self,
        encoder: str = "resnet18",
        classes: int = 4,
        mean: list[float] | tuple[float, ...] = (0.0,),
        std: list[float] | tuple[float, ...] = (255.0,),
        arch: str = "unet",
    ) -> None:
        super().__init__()
        self.spec: dict[str, Any] = {
            "encoder": encoder,
            "classes": classes,
            "mean": [float(m) for m in mean],
            "std": [float(s) for s in std],
            "arch": arch,
        }
        self.register_buffer("mean", torch.tensor(self.spec["mean"]).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(self.spec["std"]).view(-1, 1, 1))
        self.recompute_encoder = False  # less memory, more time, same results
        library = library_network(encoder, classes, arch)
        self.encoder, self.decoder = library.encoder, library.decoder
        speed_up_depthwise(self.encoder)
        if arch == "unet":
            self.decoder.blocks = nn.ModuleList(map(FastDecoderBlock, library.decoder.blocks))
        self.segmentation_head = library.segmentation_head
        self.classification_head = library.classification_head

    def forward(self, image: Tensor) -> Logits:
        """Score every pixel and every image.

        Args:
            image: (B, 1 or 3, H, W), uint8 or float, grey levels 0…255; H, W ≥ 32.
        """
        x = (image.to(self.mean.dtype) - self.mean) / self.std
        if x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)  # ImageNet weights expect three channels
        # Channels last is faster in every forward pass; in float32 on a CPU it slows the backward
        # pass (benchmarks/README.md).
        if self._is_channels_last or not torch.is_grad_enabled():
            x = x.contiguous(memory_format=torch.channels_last)
        frugal = self.recompute_encoder and self.training
        # six maps, strides 1, 2, 4, 8, 16, 32
        features = recompute(self.encoder, x) if frugal else self.encoder(x)
        masks = self.segmentation_head(self.decoder(features))  # (B, M, H, W)
        labels = self.classification_head(features[-1])  # (B, M)
        return Logits(masks, labels)

    @property
    def _is_channels_last(self) -> bool:
        return is_channels_last(self.segmentation_head[0].weight)  # type: ignore[index]


def library_network(encoder: str, classes: int, arch: str = "unet") -> Any:
    """Build the same network with the library's decoder: images (B, 3, H, W), normalised.

    Its encoder is corrected by :func:`tlunet.model.encoder.adapt_encoder`. A U-Net's ``decoder``
    is the library's, not :mod:`tlunet.model.decoder`.

    Raises:
        ConfigError: no such encoder or decoder, or they do not fit together.
    """
    check_name(encoder)
    if arch not in ARCHITECTURES:
        raise ConfigError(f"arch.name={arch}: expected {', '.join(ARCHITECTURES)}")
    try:
        network = ARCHITECTURES[arch](
            encoder,
            encoder_weights=None,  # loaded later: tlunet.model.init
            in_channels=3,
            classes=classes,
            # Paper II-C: average, then linear. The library's default adds dropout of 0.2.
            aux_params={"classes": classes, "pooling": "avg", "dropout": None},
        )
    except Exception as error:
        raise ConfigError(
            f"encoder.name={encoder}: does not work with arch={arch} ({first_line(error)}); "
            "expected an encoder of five stages with feature maps of stride 2 or 4 to 32"
        ) from error
    adapt_encoder(network.encoder, encoder)
    return network


def check_name(encoder: str) -> None:
    """Raise ConfigError unless an encoder of this name is known."""
    if encoder == os.environ.get(TRUSTED):
        register_encoder(encoder)
    if encoder.startswith("tu-"):
        if timm.is_model(encoder[3:]):
            return
        close = timm.list_models(f"*{encoder[3:].split('.')[0].split('_')[0]}*")[:5]
        near = ", ".join(f"tu-{c}" for c in close)
        raise ConfigError(
            f"encoder.name={encoder}: timm has no model {encoder[3:]!r}; "
            + (f"similar: {near}" if close else "see timm.list_models()")
        )
    known = smp.encoders.get_encoder_names()
    if "." in encoder and encoder not in known:
        raise ConfigError(
            f"encoder {encoder}: a class that is not part of tlunet or its libraries; if you trust "
            f"it, set {TRUSTED}={encoder}"
        )
    if encoder not in known:
        close = difflib.get_close_matches(encoder, known, n=3)
        raise ConfigError(
            f"encoder.name={encoder}: no such encoder; "
            f"{'similar: ' + ', '.join(close) + '; ' if close else ''}"
            "allowed: segmentation-models-pytorch's names (resnet18, densenet121, mit_b0, …) "
            "and timm's with the prefix tu- (tu-convnext_tiny, …)"
        )


@functools.cache  # the cells of a sweep repeat the question
def check_encoder(
    encoder: str,
    classes: int,
    size: tuple[int, int],
    arch: str = "unet",
    key: str = "data.size",
) -> None:
    """Check that a network can be built and takes images of a size, without computing anything.

    Runs on torch's meta device, which knows only shapes.

    Args:
        encoder: its name.
        classes: M.
        size: (height, width) of the images.
        arch: of the decoder.
        key: the configuration key that sets the size.

    Raises:
        ConfigError: the encoder does not exist, or does not take images of this size.
    """
    network = TLUNet(encoder, classes, arch=arch).eval().to("meta")
    if not (reason := _refusal(network, size)):
        return
    name = f"encoder.name={encoder}" + (f" arch={arch}" if arch != "unet" else "")
    if other := _size_it_takes(network, encoder, size):
        unit = " (multiples of 32)" if other == _multiples(size, (32, 32)) else ""
        reason = f"use {key}=[{other[0]},{other[1]}]{unit} or another encoder"
    raise ConfigError(f"{name}: fails on images of {size[0]}×{size[1]}; {reason}")


def _refusal(network: TLUNet, size: tuple[int, int]) -> str:
    """Return why a network on the meta device does not take images of a size, or nothing."""
    try:
        masks, _ = network(torch.empty(1, 1, *size, device="meta"))
    except Exception as error:
        return first_line(error)
    return "" if masks.shape[-2:] == size else f"its masks have {tuple(masks.shape[-2:])} pixels"


def _size_it_takes(network: TLUNet, encoder: str, size: tuple[int, int]) -> tuple[int, int] | None:
    """Return a size near one that a network does not take: multiples of 32, or of timm's size."""
    own = timm.get_pretrained_cfg(encoder[3:]) if encoder.startswith("tu-") else None
    fixed = (own.input_size[1], own.input_size[2]) if own else (32, 32)
    near = (_multiples(size, (32, 32)), _multiples(size, fixed), fixed)
    return next((other for other in near if not _refusal(network, other)), None)


def _multiples(size: tuple[int, int], unit: tuple[int, int]) -> tuple[int, int]:
    """Round each side to a multiple, at least one."""
    return max(1, round(size[0] / unit[0])) * unit[0], max(1, round(size[1] / unit[1])) * unit[1]


@functools.cache
def check_batch_of_one(
    encoder: str, classes: int, size: tuple[int, int], arch: str = "unet"
) -> None:
    """Check that a network can be trained on a batch of one image.

    Args:
        encoder: its name.
        classes: M.
        size: (height, width) of the images.
        arch: of the decoder.

    Raises:
        ConfigError: one image leaves batch normalisation a single value per channel.
    """
    network = TLUNet(encoder, classes, arch=arch).train().to("meta")
    try:
        network(torch.empty(1, 1, *size, device="meta"))
    except ValueError as error:
        larger = ",".join(str(max(n, 64)) for n in size)
        raise ConfigError(
            f"encoder.name={encoder}: cannot be trained on batches of one image of "
            f"{size[0]}×{size[1]}, as batch normalisation needs several values per channel; use "
            f"two or more images per process (batch_size, trainer.devices) or data.size=[{larger}]"
        ) from error
