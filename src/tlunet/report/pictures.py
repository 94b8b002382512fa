"""Test images beside their truth and what two networks found in them."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from PIL import Image

from tlunet.data.pack import Pack
from tlunet.data.rle import decode, encode
from tlunet.errors import UserError
from tlunet.report.comparisons import Cell, common_seeds
from tlunet.report.document import Browser, Sample
from tlunet.report.style import COLOURS, styled
from tlunet.study.cell import datamodule
from tlunet.study.masks import read_masks

PERCENTILES = (90, 50, 10)
IN_BROWSER = 400  # images at most, so that the file stays small enough to send
WIDEST = 800  # pixels of a picture in the browser


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


@styled
def examples(
    images: Sequence[NDArray[np.uint8]],
    masks: Sequence[Mapping[str, NDArray[np.bool_]]],
    titles: Sequence[Mapping[str, str]],
    rows: Sequence[str],
    classes: Sequence[str],
) -> Figure:
    """The paper's Figure 7: rows of pictures, the same image in one row (a column where square).

    Args:
        images: (H, W) or (H, W, 3) each.
        masks: per image, (M, H, W) under each heading (truth, one network, the other).
        titles: per image what stands above the picture of a heading, its Dice.
        rows: what each image was chosen for.
        classes: M names, for the legend.
    """
    headings = list(masks[0])
    height, width = images[0].shape[:2]
    wide = width > 2 * height  # strips lie one below the other, square images side by side
    down, across = (
        (len(images) * (1 + len(headings)), 1) if wide else (len(images), 1 + len(headings))
    )
    each = 7.2 / across * height / width + 0.28
    fig = Figure(figsize=(7.2, each * down + 0.6), layout="constrained")
    axes = fig.subplots(down, across, squeeze=False).ravel()
    for k, (image, found, above) in enumerate(zip(images, masks, titles, strict=True)):
        empty = np.zeros_like(next(iter(found.values())))
        shown: dict[str, Any] = {"image": empty, **found}
        for axis, (heading, mask) in zip(axes[k * len(shown) :], shown.items(), strict=False):
            axis.imshow(overlay(image, mask), interpolation="nearest", aspect="equal")
            axis.set(xticks=[], yticks=[])
            text = f"{rows[k]}: image" if heading == "image" else heading
            axis.set_title(text + above.get(heading, ""), fontsize=7.5, loc="left", pad=2)
    handles = [Patch(color=COLOURS[m % len(COLOURS)], label=c) for m, c in enumerate(classes)]
    fig.legend(handles=handles, loc="outside lower center", ncols=min(len(classes), 6),
               frameon=False, fontsize=8)  # fmt: skip
    return fig


@dataclass(frozen=True, eq=False)
class Pictures:
    """The test images of two cells with one seed, and what both found.

    Attributes:
        a: the cell compared, say with transfer.
        b: the cell it is compared with.
        seed: of both.
        pack: the data.
        masks: of a and b, by image and class id, in run-length code.
    """

    a: Cell
    b: Cell
    seed: int
    pack: Pack
    masks: tuple[dict[tuple[str, int], str], dict[tuple[str, int], str]]

    @cached_property
    def dice(self) -> pd.DataFrame:
        """Columns ``a, b, difference``, indexed by image id; null without a defect."""
        ids = pd.Index(self.a.block.block.image_ids, name="image_id")
        scores = {
            n: c.images("dice_image", [self.seed])[0] for n, c in (("a", self.a), ("b", self.b))
        }
        return pd.DataFrame(scores, index=ids).assign(difference=scores["a"] - scores["b"])

    @property
    def names(self) -> tuple[str, str]:
        """Of a and b, as the browser calls them."""
        return str(self.a.key), str(self.b.key)

    def rows(self) -> dict[str, int]:
        """Where each test image lies in the pack."""
        return {str(name): k for k, name in enumerate(self.pack.index["image_id"])}

    def truth(self, row: int) -> NDArray[np.bool_]:
        """(M, H, W)."""
        bits = np.asarray(self.pack.masks[row])  # (H, W)
        classes = np.arange(len(self.pack.classes), dtype=bits.dtype)
        return (bits >> classes[:, None, None]) & 1 == 1


def open_pictures(study: Path, a: Cell, b: Cell) -> Pictures | str:
    """What is needed to show pictures, or why they cannot be shown.

    Args:
        study: the folder of the study.
        a: the cell compared.
        b: the cell it is compared with.
    """
    seeds = common_seeds(a, b)
    if not seeds:
        return f"{a.key} and {b.key} have no seed in common"
    cells = a.block.block.cells
    folders = [
        study / str(c.block.block.cells["folder"].iloc[c.block.rows[c.key, seeds[0]]])
        for c in (a, b)
    ]
    masks = [read_masks(folder) for folder in folders]
    if masks[0] is None or masks[1] is None:
        return "the runs kept no masks (they were made by an earlier version)"
    config = OmegaConf.to_container(OmegaConf.load(folders[0] / "config.yaml"))
    assert isinstance(config, dict)
    root = Path(config["data"]["root"])
    if not root.exists():
        return f"the images are not in {root}; run this where the sweep was run"
    try:
        data = datamodule({str(k): v for k, v in config.items()})
        data.prepare_data()
        data.setup()
    except UserError as error:
        return "; ".join(error.lines)
    if data.pack.fingerprint != cells["data_fingerprint"].iloc[0]:
        return f"the images in {root} are not those of the runs"
    return Pictures(a, b, seeds[0], data.pack, (masks[0], masks[1]))


def chosen(dice: pd.DataFrame, found: Mapping[str, int]) -> dict[str, str]:
    """Figure 7's images, by rule: percentiles of the paired difference, and the worst miss.

    Args:
        dice: from :attr:`Pictures.dice`.
        found: true pixels that a missed, per image.

    Returns:
        Image id → what it was chosen for: the 90th, 50th and 10th percentile of the difference
        (ties by name), and of the others the image in which a missed the most defect pixels.
    """
    order = dice.dropna().reset_index().sort_values(["difference", "image_id"], kind="stable")
    names = order["image_id"].tolist()
    picked: dict[str, str] = {}
    for p in PERCENTILES:
        if names:
            name = names[round(p / 100 * (len(names) - 1))]
            picked.setdefault(name, f"{p}th percentile")
    rest = [name for name in sorted(names) if name not in picked]
    if rest:
        picked[max(rest, key=lambda name: found.get(name, 0))] = "most pixels missed"
    return picked


def figure_7(pictures: Pictures) -> Figure:
    """Four test images, their truth, and what both networks found, Dice in the titles."""
    dice, rows = pictures.dice, pictures.rows()
    counts = pictures.a.block.block.counts[pictures.a.block.rows[pictures.a.key, pictures.seed]]
    missed = (counts.truth - counts.intersection).sum(1).tolist()
    picked = chosen(dice, dict(zip(pictures.a.block.block.image_ids, missed, strict=True)))
    shape = pictures.pack.size
    found, titles = [], []
    for name in picked:
        cells = {
            str(cell.key): np.stack([decode(masks.get((name, m + 1), ""), shape)
                                     for m in range(len(pictures.pack.classes))])
            for cell, masks in zip((pictures.b, pictures.a), pictures.masks[::-1], strict=True)
        }  # fmt: skip
        found.append({"truth": pictures.truth(rows[name]), **cells})
        of_both = dice.loc[name, ["a", "b"]].to_numpy(float)
        above = zip(pictures.names, of_both, strict=True)
        titles.append({cell: f", Dice {score:.2f}" for cell, score in above})
    images = [np.asarray(pictures.pack.images[rows[name]]) for name in picked]
    return examples(images, found, titles, list(picked.values()), pictures.pack.classes)


def browser(all_pictures: Sequence[Pictures]) -> Browser:
    """Every comparison's test images, to be paged through.

    Args:
        all_pictures: of one block, the images of the same split.
    """
    first = all_pictures[0]
    ids = list(first.a.block.block.image_ids)
    shown = _limited(first.dice, ids)
    rows = first.rows()
    samples = tuple(_sample(name, rows[name], all_pictures) for name in shown)
    note = (
        f"Seed {first.seed}; Dice of an image with its classes pooled, – where it has no defect. "
        + (f"All {len(ids)} test images." if len(shown) == len(ids) else
           f"{len(shown)} of {len(ids)} test images: the largest gains, the largest losses, and "
           "every so-manieth of the others, in the first comparison.")
    )  # fmt: skip
    pairs = tuple(
        (f"{p.names[0]} against {p.names[1]}", p.names[1], p.names[0]) for p in all_pictures
    )
    classes = first.pack.classes
    colours = tuple(COLOURS[m % len(COLOURS)] for m in range(len(classes)))
    return Browser("Where it helps, image by image", pairs, classes, colours, samples, note)


def _limited(dice: pd.DataFrame, ids: list[str]) -> list[str]:
    if len(ids) <= IN_BROWSER:
        return ids
    third = IN_BROWSER // 3
    order = dice["difference"].fillna(0.0).sort_values(kind="stable").index.tolist()
    middle = order[third:-third]
    spread = [middle[round(k)] for k in np.linspace(0, len(middle) - 1, IN_BROWSER - 2 * third)]
    return order[:third] + list(dict.fromkeys(spread)) + order[-third:]


def _sample(name: str, row: int, all_pictures: Sequence[Pictures]) -> Sample:
    first = all_pictures[0]
    classes = range(1, len(first.pack.classes) + 1)
    predictions: dict[str, tuple[str, ...]] = {}
    scores: dict[str, float | None] = {}
    for pictures in all_pictures:
        dice = pictures.dice.loc[name]
        for cell, masks, score in zip(
            pictures.names, pictures.masks, (dice["a"], dice["b"]), strict=True
        ):
            predictions[cell] = tuple(masks.get((name, c), "") for c in classes)
            scores[cell] = None if pd.isna(score) else float(score)
    truth = tuple(encode(layer) for layer in first.truth(row))
    return Sample(name, _jpeg(first.pack.images[row]), first.pack.size, truth, predictions, scores)


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    picture = Image.fromarray(np.asarray(image))
    if picture.width > WIDEST:
        picture = picture.resize((WIDEST, round(picture.height * WIDEST / picture.width)))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=75 if picture.width > 200 else 92)  # small ones show blocks
    return file.getvalue()
