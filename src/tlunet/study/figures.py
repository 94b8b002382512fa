"""Pictures of what a run found: pure functions from arrays and tables to matplotlib figures."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from omegaconf import OmegaConf

from tlunet.data.batches import unpack_bits
from tlunet.data.datamodule import DefectDataModule
from tlunet.model.scores import dice
from tlunet.model.task import load_network
from tlunet.study.cell import datamodule

#: Okabe and Ito's colours, told apart by colour-blind readers; one a class, in turn.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#0072B2")
PERCENTILES = (95, 75, 50, 25)


def overlay(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Colour the pixels of each class.

    Args:
        image: (H, W) or (H, W, 3).
        mask: (M, H, W).

    Returns:
        (H, W, 3) in [0, 1].
    """
    grey = np.repeat(image[..., None], 3, -1) if image.ndim == 2 else image
    out = grey / 255.0
    for m, layer in enumerate(mask):
        colour = np.array(mpl.colors.to_rgb(COLOURS[m % len(COLOURS)]))
        out[layer] = 0.35 * out[layer] + 0.65 * colour
    return out


def strips(
    images: Sequence[NDArray[np.uint8]],
    truths: Sequence[NDArray[np.bool_]],
    predictions: Sequence[NDArray[np.bool_]],
    titles: Sequence[str],
    classes: Sequence[str],
) -> Figure:
    """Images, their truth and a prediction, one image a row (as the paper's Figure 7).

    Args:
        images: (H, W) or (H, W, 3) each.
        truths: (M, H, W) each.
        predictions: (M, H, W) each.
        titles: above each prediction.
        classes: M names, for the legend.
    """
    height, width = images[0].shape[:2]
    row = 12 / 3 * height / width + 0.35
    fig, axes = plt.subplots(
        len(images), 3, figsize=(12, row * len(images) + 0.5), squeeze=False, layout="constrained"
    )
    for k, (image, truth, prediction) in enumerate(zip(images, truths, predictions, strict=True)):
        empty = np.zeros_like(truth)
        for axis, mask in zip(axes[k], (empty, truth, prediction), strict=True):
            axis.imshow(overlay(image, mask), interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
        axes[k, 2].set_title(titles[k], fontsize=9)
    for axis, name in zip(axes[0], ("image", "truth", "prediction"), strict=True):
        own = axis.get_title()
        axis.set_title(f"{name}: {own}" if own else name, fontsize=9)
    handles = [Patch(color=COLOURS[m % len(COLOURS)], label=c) for m, c in enumerate(classes)]
    fig.legend(handles=handles, loc="outside lower center", ncols=len(classes), frameon=False)
    return fig


def strips_of_run(folder: Path) -> Figure:
    """Test images of a finished run at fixed percentiles of Dice: chosen by rule, not by hand."""
    config = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    assert isinstance(config, dict)
    data: DefectDataModule = datamodule({str(k): v for k, v in config.items()})
    data.prepare_data()
    data.setup()
    table = pd.read_parquet(folder / "test_images.parquet")
    sums = table.groupby("image_id")[["intersection", "truth_pixels", "predicted_pixels"]].sum()
    sums = sums[sums["truth_pixels"] > 0]
    both, truth, predicted = sums.to_numpy().T
    scores = pd.Series(dice(both, truth, predicted), sums.index).sort_values(kind="stable")
    ranks = [round(p / 100 * (len(scores) - 1)) for p in PERCENTILES]
    chosen = scores.iloc[ranks]
    rows = [data.pack.index["image_id"].tolist().index(i) for i in chosen.index]
    network = load_network(folder)
    images = torch.from_numpy(data.pack.images[rows])
    images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
    with torch.inference_mode():
        probabilities = network(images).masks.sigmoid()
    bits = torch.from_numpy(data.pack.masks[rows].astype(np.int64))
    return strips(
        list(data.pack.images[rows]),
        list(unpack_bits(bits, len(data.pack.classes)).numpy()),
        list((probabilities > config["threshold"]).numpy()),
        [f"Dice {s:.2f}" for s in chosen],
        data.pack.classes,
    )


def main() -> None:
    """``python -m tlunet.study.figures RUN FILE.png``: the picture of one run."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("file", type=Path)
    args = parser.parse_args()
    mpl.use("Agg")
    strips_of_run(args.run).savefig(args.file, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
