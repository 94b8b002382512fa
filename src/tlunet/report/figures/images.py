"""Test images with their ground truth and the predictions of two networks."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from PIL import Image

from tlunet.data.pack.pack import Pack
from tlunet.data.rle import decode, encode
from tlunet.errors import UserError
from tlunet.report.analysis.comparisons import Cell, common_seeds
from tlunet.report.document.document import Browser, Sample
from tlunet.report.figures.style import COLOURS, WIDTH, condition, headers, legend, styled, wrap
from tlunet.runs.data import open_data
from tlunet.runs.masks import read_masks

PERCENTILES = (90, 50, 10)
STRIP = 4  # at least this many times wider than high: an image fills the page width
IN_BROWSER = 400  # at most this many images, so that the file is small enough to send
WIDEST = 800  # pixels, width of an image in the browser
SMALL = 200  # pixels: images up to this width are enlarged in the browser


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
    common: str = "",
) -> Figure:
    """Draw the paper's Figure 7: each image, its ground truth and the networks' predictions.

    Square images are placed side by side, long strips one below the other, all others two per row.

    Args:
        images: (H, W) or (H, W, 3) each.
        masks: per image, (M, H, W) under each heading (ground truth, one network, the other).
        titles: per image the text after each heading: the Dice.
        rows: why each image was chosen.
        classes: M names, for the legend.
        common: what the networks have in common; the title of the figure.
    """
    each = 1 + len(masks[0])
    height, width = images[0].shape[:2]
    across = 1 if width >= STRIP * height else 2 if 2 * width > 3 * height else each
    room = WIDTH / across - 0.1
    down = ceil(each / across)  # rows of one image
    wrapped = [
        [wrap(text, room, 7.5) for text in ("image", *(h + above.get(h, "") for h in found))]
        for found, above in zip(masks, titles, strict=True)
    ]
    lines = 1 + max(text.count("\n") for texts in wrapped for text in texts)
    deep = room * height / width + 0.13 * lines + 0.1
    fig = Figure(figsize=(WIDTH, len(images) * (down * deep + 0.25)), layout="constrained")
    axes = fig.subplots(len(images) * down, across, squeeze=False)
    # Without interpolation the SVG contains the pixels themselves, crisp at any size.
    interpolation = "none" if width < 100 * room else "antialiased"
    for k, (image, found) in enumerate(zip(images, masks, strict=True)):
        panels = axes[k * down : (k + 1) * down].ravel()
        layers = [np.zeros_like(next(iter(found.values()))), *found.values()]
        for axis, mask, text in zip(panels, layers, wrapped[k], strict=False):
            axis.imshow(overlay(image, mask), interpolation=interpolation, aspect="equal")
            axis.set_title(text, fontsize=7.5, loc="left", pad=2)
        headers([panels[0]], [rows[k]], align="left")
    for axis in axes.flat:
        axis.set_axis_off()
    if common:
        fig.suptitle(wrap(common, WIDTH - 0.3, 9.5), fontsize=9.5)
        fig.set_figheight(fig.get_figheight() + 0.25)
    handles = [Patch(color=COLOURS[m % len(COLOURS)], label=c) for m, c in enumerate(classes)]
    legend(fig, handles)
    return fig


@dataclass(frozen=True, eq=False)
class Pictures:
    """Test images of two cells with the same seed, and the predictions of both.

    Attributes:
        a: the cell compared, for example with transfer learning.
        b: the cell it is compared with.
        seed: the seed of both.
        pack: the data.
        masks: predictions of a and b, by image and class id, run-length encoded.
    """

    a: Cell
    b: Cell
    seed: int
    pack: Pack
    masks: tuple[dict[tuple[str, int], str], dict[tuple[str, int], str]]

    @cached_property
    def dice(self) -> pd.DataFrame:
        """Dice: columns ``a, b, difference``, indexed by image id; null without a defect."""
        ids = pd.Index(self.a.block.block.image_ids, name="image_id")
        scores = {
            n: c.images("dice_image", [self.seed])[0] for n, c in (("a", self.a), ("b", self.b))
        }
        return pd.DataFrame(scores, index=ids).assign(difference=scores["a"] - scores["b"])

    @property
    def names(self) -> tuple[str, str]:
        """Names of a and b in figures and in the browser."""
        return condition(*self.a.key), condition(*self.b.key)

    @property
    def headings(self) -> tuple[str, str, str]:
        """Short names that distinguish a and b, and what they have in common."""
        a, b = self.a.key._asdict(), self.b.key._asdict()
        differing = [name for name in a if a[name] != b[name]]
        if len(differing) != 1:
            return *self.names, ""
        own = [condition(**{name: key[name] for name in differing}) for key in (a, b)]
        return own[0], own[1], condition(**{n: v for n, v in a.items() if n not in differing})

    def rows(self) -> dict[str, int]:
        """Map each test image to its row in the pack."""
        return {str(name): k for k, name in enumerate(self.pack.index["image_id"])}

    def truth(self, row: int) -> NDArray[np.bool_]:
        """Return the ground truth of an image, (M, H, W)."""
        bits = np.asarray(self.pack.masks[row][self.pack.region(row)])  # (H, W)
        classes = np.arange(len(self.pack.classes), dtype=bits.dtype)
        return (bits >> classes[:, None, None]) & 1 == 1


def open_pictures(study: Path, a: Cell, b: Cell) -> Pictures | str:
    """Open what is needed to show images; return the reason if that is impossible.

    Args:
        study: the study folder.
        a: the cell compared.
        b: the cell it is compared with.
    """
    seeds = common_seeds(a, b)
    if not seeds:
        return f"{a.key} and {b.key} have no common seed"
    folders = [
        study / str(c.block.block.cells["folder"].iloc[c.block.rows[c.key, seeds[0]]])
        for c in (a, b)
    ]
    masks = [read_masks(folder) for folder in folders]
    if masks[0] is None or masks[1] is None:
        return "the runs have no saved masks (created by an earlier version)"
    config = OmegaConf.to_container(OmegaConf.load(folders[0] / "config.yaml"))
    assert isinstance(config, dict)
    root = Path(config["data"]["root"])
    if not root.exists():
        return f"no images in {root}; write the report on the machine that ran the sweep"
    try:
        data = open_data(folders[0])
    except UserError as error:
        return "; ".join(error.lines)
    return Pictures(a, b, seeds[0], data.pack, (masks[0], masks[1]))


def chosen(dice: pd.DataFrame, found: Mapping[str, int]) -> dict[str, str]:
    """Choose the images of Figure 7 by rule: percentiles of the difference, and the worst miss.

    Args:
        dice: from :attr:`Pictures.dice`.
        found: defect pixels that a missed, per image.

    Returns:
        Image id → why it was chosen: the 90th, 50th and 10th percentile of the difference (ties
        by name), and among the rest the image in which a missed the most defect pixels.
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
    """Draw four test images, their ground truth and both predictions, with Dice in the titles."""
    dice, rows = pictures.dice, pictures.rows()
    counts = pictures.a.block.block.counts[pictures.a.block.rows[pictures.a.key, pictures.seed]]
    missed = (counts.truth - counts.intersection).sum(1).tolist()
    picked = chosen(dice, dict(zip(pictures.a.block.block.image_ids, missed, strict=True)))
    shape = pictures.pack.size
    regions = {name: pictures.pack.region(rows[name]) for name in picked}
    found, titles = [], []
    *headings, common = pictures.headings
    for name in picked:
        cells = {
            heading: np.stack([decode(masks.get((name, m + 1), ""), shape)[regions[name]]
                               for m in range(len(pictures.pack.classes))])
            for heading, masks in zip(headings[::-1], pictures.masks[::-1], strict=True)
        }  # fmt: skip
        found.append({"truth": pictures.truth(rows[name]), **cells})
        of_both = dice.loc[name, ["a", "b"]].to_numpy(float)
        above = zip(headings, of_both, strict=True)
        titles.append({cell: f", Dice {score:.2f}" for cell, score in above})
    images = [np.asarray(pictures.pack.images[rows[name]][regions[name]]) for name in picked]
    chosen_for, classes = list(picked.values()), pictures.pack.classes
    return examples(images, found, titles, chosen_for, classes, common)


def browser(all_pictures: Sequence[Pictures]) -> Browser:
    """Build the image browser for all comparisons.

    Args:
        all_pictures: one per comparison, all from the same block.
    """
    first = all_pictures[0]
    ids = list(first.a.block.block.image_ids)
    shown = _limited(first.dice, ids)
    rows = first.rows()
    samples = tuple(_sample(name, rows[name], all_pictures) for name in shown)
    note = (
        f"Seed {first.seed}. Dice per image, classes pooled; – for images without a defect. "
        + (f"All {len(ids)} test images." if len(shown) == len(ids) else
           f"{len(shown)} of {len(ids)} test images: the largest gains and the largest losses of "
           "the first comparison, and an evenly spaced sample of the rest.")
    )  # fmt: skip
    pairs = tuple((" vs. ".join(p.names), p.names[1], p.names[0]) for p in all_pictures)
    classes = first.pack.classes
    colours = tuple(COLOURS[m % len(COLOURS)] for m in range(len(classes)))
    return Browser("Image browser", pairs, classes, colours, samples, note)


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
            found = (masks.get((name, c), "") for c in classes)
            predictions[cell] = tuple(_cropped(runs, first, row) for runs in found)
            scores[cell] = None if pd.isna(score) else float(score)
    truth = tuple(encode(layer) for layer in first.truth(row))
    image = first.pack.images[row][first.pack.region(row)]
    size = image.shape[0], image.shape[1]
    return Sample(name, _jpeg(image), size, truth, predictions, scores)


def _cropped(runs: str, pictures: Pictures, row: int) -> str:
    """Encode a predicted mask without its padding."""
    pack = pictures.pack
    if not runs or pack.fit == "stretch":
        return runs
    return encode(decode(runs, pack.size)[pack.region(row)])


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    picture = Image.fromarray(np.asarray(image))
    if picture.width > WIDEST:
        picture = picture.resize((WIDEST, round(picture.height * WIDEST / picture.width)))
    file = io.BytesIO()
    if picture.width > SMALL:
        picture.save(file, "JPEG", quality=75)
    else:  # shown enlarged, where JPEG blocks and colour bleeding would be visible
        picture.save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()
