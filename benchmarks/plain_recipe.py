"""The plain recipe that tlunet is compared with: typical code for the Severstal images.

It uses segmentation-models-pytorch for the network, albumentations for flips and normalisation, and
Lightning for the loop. Worker processes decode JPEGs and run-length codes, batches are pinned, and
the network runs in float32, channels first (or in Lightning's bf16-mixed precision: the AMP form).
Network, loss, optimiser, batch and flips are the same as tlunet's. It is written to be fast: OpenCV
decodes, the table is read once, workers persist between epochs, zero_grad sets gradients to None.

Tuned (`--tuned`), it has what an experienced user turns on: masks stay uint8 until they are on the
device, Adam runs in one fused kernel, feature maps are channels last, the network is compiled.

    python benchmarks/plain_recipe.py data/severstal [--epochs 1] [--precision bf16-mixed] [--tuned]
"""

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np
import pandas as pd
import pytorch_lightning as pl
import segmentation_models_pytorch as smp
import torch
from albumentations.pytorch import ToTensorV2
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

CLASSES = 4
cv2.setNumThreads(0)  # one thread per worker; OpenCV's threads would compete for the cores


def decode_runs(runs: str, height: int, width: int) -> np.ndarray:
    """Decode pairs of start and length (1-based, column-major) to a mask (H, W) of 0 and 1."""
    numbers = np.array(runs.split(), dtype=np.int64)
    mask = np.zeros(height * width, np.uint8)
    for start, length in zip(numbers[::2] - 1, numbers[1::2], strict=True):
        mask[start : start + length] = 1
    return mask.reshape(width, height).T


class Strips(Dataset[dict[str, Any]]):
    """Images and masks of ``train_images/*.jpg`` and ``train.csv``, decoded on access.

    Args:
        root: folder of the data; its table has one row per defect.
        names: file names of the images.
        mean, std: grey levels 0…255, for normalisation.
        train: whether images are flipped at random.
        as_float: whether masks are float32, as the loss needs them, or uint8.
    """

    def __init__(
        self,
        root: Path,
        names: list[str],
        mean: float,
        std: float,
        train: bool,
        as_float: bool = True,
    ) -> None:
        self.folder, self.names = root / "train_images", names
        table = pd.read_csv(root / "train.csv").dropna()
        self.runs = dict(iter(table.groupby("ImageId")))
        self.as_float = as_float
        flips = [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)] if train else []
        normalise = A.Normalize(mean=(mean,) * 3, std=(std,) * 3, max_pixel_value=1.0)
        self.transform = A.Compose([*flips, normalise, ToTensorV2(transpose_mask=True)])

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> dict[str, Any]:
        name = self.names[i]
        image = cv2.cvtColor(cv2.imread(str(self.folder / name)), cv2.COLOR_BGR2RGB)
        height, width = image.shape[:2]
        mask = np.zeros((height, width, CLASSES), np.uint8)
        if name in self.runs:
            rows = self.runs[name]
            for class_id, runs in zip(rows["ClassId"], rows["EncodedPixels"], strict=True):
                mask[..., class_id - 1] = decode_runs(runs, height, width)
        out = self.transform(image=image, mask=mask)
        masks = out["mask"].float() if self.as_float else out["mask"]
        labels = masks.amax((1, 2)).float()
        return {"image": out["image"], "mask": masks, "label": labels, "id": name}


def loader(strips: Strips, batch_size: int, shuffle: bool, workers: int) -> DataLoader[Any]:
    """Make a loader with worker processes; batches are pinned if there is a GPU."""
    return DataLoader(
        strips,
        batch_size,
        shuffle=shuffle,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        drop_last=shuffle,
    )


class PlainRecipe(pl.LightningModule):
    """U-Net with a classifier, the summed loss of eq. (1), and Adam as in the paper.

    Args:
        encoder: name of the encoder.
        fused: whether Adam updates all weights in one kernel.
        compiled: whether to compile the network.
    """

    def __init__(self, encoder: str, fused: bool = False, compiled: bool = False) -> None:
        super().__init__()
        self.network = smp.Unet(
            encoder,
            encoder_weights=None,
            classes=CLASSES,
            aux_params={"classes": CLASSES, "pooling": "avg", "dropout": None},
        )
        if compiled:
            self.network.compile()
        self.fused = fused
        self.loss = nn.BCEWithLogitsLoss(reduction="sum")

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Compute the loss of one batch."""
        return self._step(batch, "train")

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Compute the loss and the Dice of each image."""
        self._step(batch, "val")

    def _step(self, batch: dict[str, Any], stage: str) -> Tensor:
        masks, labels = self.network(batch["image"])
        loss = self.loss(masks, batch["mask"].float()) + self.loss(labels, batch["label"])
        loss = loss / len(masks)
        self.log(f"{stage}_loss", loss, on_step=False, on_epoch=True, batch_size=len(masks))
        if stage == "val":
            found, truth = masks > 0, batch["mask"].bool()
            both = (found & truth).sum((1, 2, 3))
            either = found.sum((1, 2, 3)) + truth.sum((1, 2, 3))
            dice = (2 * both / either.clamp(min=1)).mean()
            self.log("val_dice", dice, on_step=False, on_epoch=True, batch_size=len(masks))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, 5e-4, β = (0.99, 0.99) (paper III-B)."""
        return torch.optim.Adam(self.parameters(), lr=5e-4, betas=(0.99, 0.99), fused=self.fused)


def main() -> None:
    """Train on all images of a folder, to check that the recipe works on its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed"])
    parser.add_argument("--tuned", action="store_true")
    args = parser.parse_args()
    names = sorted(path.name for path in (args.root / "train_images").glob("*.jpg"))
    strips = Strips(args.root, names, 87.0, 46.0, train=True, as_float=not args.tuned)
    module = PlainRecipe(args.encoder, fused=args.tuned, compiled=args.tuned)
    if args.tuned:
        module.to(memory_format=torch.channels_last)
    trainer = pl.Trainer(max_epochs=args.epochs, precision=args.precision, logger=False)
    trainer.fit(module, loader(strips, args.batch_size, True, args.workers))


if __name__ == "__main__":
    main()
