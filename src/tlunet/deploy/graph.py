"""Network for export: plain operations, with normalisation and sigmoid included."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlunet.model.decoder import FastDecoderBlock
from tlunet.model.network import TLUNet


class Graph(nn.Module):
    """Map images to probabilities in one module.

    Args:
        network: its modules are reused and modified; do not use it afterwards.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: TLUNet) -> None:
        super().__init__()
        self.register_buffer("mean", network.mean)
        self.register_buffer("std", network.std)
        self.encoder, self.decoder = network.encoder, network.decoder
        self.segmentation_head = network.segmentation_head
        self.classification_head = network.classification_head
        for name, module in list(self.decoder.named_modules()):
            if isinstance(module, FastDecoderBlock):
                self.decoder.set_submodule(name, PlainStage(module))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Compute probabilities of masks (B, M, H, W) and labels (B, M).

        Args:
            image: float32 (B, 1 or 3, H, W), grey levels 0…255.
        """
        # Repeat grey three times, keep colour: (0, 0, 0) or (0, 1, 2), without a branch.
        channels = torch.arange(3, device=image.device) * (image.shape[1] - 1) // 2
        x = (image.index_select(1, channels) - self.mean) / self.std
        features = self.encoder(x)
        masks = self.segmentation_head(self.decoder(features))
        labels = self.classification_head(features[-1])
        return masks.sigmoid(), labels.sigmoid()


class PlainStage(nn.Module):
    """Decoder stage as in the original library: same weights, no optimised computation.

    Args:
        stage: source of the weights.
    """

    def __init__(self, stage: FastDecoderBlock) -> None:
        super().__init__()
        self.conv1, self.conv2 = stage.conv1, stage.conv2

    def forward(
        self,
        feature_map: Tensor,
        target_height: int,
        target_width: int,
        skip_connection: Tensor | None = None,
    ) -> Tensor:
        """See :meth:`tlunet.model.decoder.FastDecoderBlock.forward`."""
        x = F.interpolate(feature_map, size=(target_height, target_width), mode="nearest")
        # Encoders that start at stride 4 return an empty map (B, 0, H/2, W/2) for stride 2.
        if skip_connection is not None and skip_connection.shape[1]:
            x = torch.cat([x, skip_connection], dim=1)
        out: Tensor = self.conv2(self.conv1(x))
        return out
