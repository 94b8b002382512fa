"""Figure 7: test images, their ground truth and what two networks predicted."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from tlunet.data.bits import resize_mask
from tlunet.data.colours import OUTCOME_COLOURS, OUTCOMES
from tlunet.data.drawing import draw, draw_outcomes, enlarged, enlarged_image, zoom
from tlunet.report.figures.fonts import drawable
from tlunet.report.figures.images.pictures import Pictures
from tlunet.report.figures.style import COLOURS, WIDTH, headers, legend, row_header, styled
from tlunet.report.figures.text import wrap

STRIP = 4  # at least this many times wider than high: an image fills the page width
SMALL = 7.5  # points
CRISP = 700  # pixels: narrower images are embedded unchanged
Masks = NDArray[np.bool_]
Image = NDArray[np.uint8]


@styled
def examples(
    images: Sequence[Image],
    masks: Sequence[Mapping[str, Masks]],
    titles: Sequence[Mapping[str, str]],
    rows: Sequence[str],
    classes: Sequence[str],
    common: str = "",
) -> Figure:
    """Draw the paper's Figure 7: each image, its ground truth and the networks' predictions.

    Square images have a row each, with headers; the panels of long strips are below one another,
    those of all others two per row.

    Args:
        images: (H, W) or (H, W, 3) each.
        masks: per image, (M, h, w) under each heading (ground truth, one network, the other).
        titles: per image the text after each heading: the Dice.
        rows: why each image was chosen.
        classes: M names, for the legend.
        common: what the networks have in common; the title of the figure.
    """
    panels = [
        [("image", "", _enlarged(image)),
         *((name, above.get(name, ""), _drawn(image, mask)) for name, mask in by_heading.items())]
        for image, by_heading, above in zip(images, masks, titles, strict=True)
    ]  # fmt: skip
    fig = _grid(panels, rows, common)
    names = enumerate(drawable(classes))
    legend(fig, [Patch(color=COLOURS[m % len(COLOURS)], label=name) for m, name in names])
    return fig


@styled
def found_and_missed(
    images: Sequence[Image],
    masks: Sequence[Mapping[str, Masks]],
    titles: Sequence[Mapping[str, str]],
    rows: Sequence[str],
    common: str = "",
) -> Figure:
    """Draw where two networks found a defect, missed it, or saw one that is not there.

    Args:
        images: (H, W) or (H, W, 3) each.
        masks: per image, (M, h, w): the ground truth first, then both networks.
        titles: per image the text after each heading: the Dice.
        rows: why each image was chosen.
        common: what the networks have in common; the title of the figure.
    """
    panels: list[list[tuple[str, str, Image]]] = []
    for image, by_heading, above in zip(images, masks, titles, strict=True):
        truth, *predicted = by_heading.items()
        panels.append(
            [(name, above.get(name, ""), _drawn(image, truth[1], mask)) for name, mask in predicted]
        )
    if _across(panels[0][0][2], len(images)) == len(images):  # an image a column: room for four
        names = [name for name, *_ in panels[0]]
        turned = [
            [(why, row[k][1], row[k][2]) for why, row in zip(rows, panels, strict=True)]
            for k in range(len(names))
        ]
        fig = _grid(turned, names, common)
    else:
        fig = _grid(panels, rows, common)
    pairs = zip(OUTCOMES, OUTCOME_COLOURS, strict=True)
    legend(fig, [Patch(facecolor=c, edgecolor="black", lw=0.5, label=name) for name, c in pairs])
    return fig


def figure_7(pictures: Pictures) -> Figure:
    """Draw four test images, their ground truth and both predictions, with Dice in the titles."""
    parts, common = _parts(pictures)
    return examples(*parts, pictures.pack.classes, common)


def outcomes_7(pictures: Pictures) -> Figure:
    """Draw what both networks found and missed in the images of Figure 7."""
    parts, common = _parts(pictures)
    return found_and_missed(*parts, common)


def _parts(pictures: Pictures) -> tuple[tuple[Any, Any, Any, Any], str]:
    """Collect images, masks, titles and reasons of Figure 7, and what the networks share."""
    *headings, common = pictures.headings
    picked = pictures.chosen
    masks, titles = [], []
    for name in picked:
        a, b = pictures.predicted(name)
        masks.append({"truth": pictures.truth(name), headings[1]: b, headings[0]: a})
        scores = pictures.dice.loc[name, ["a", "b"]].to_numpy(float)
        both = zip(headings, scores, strict=True)
        titles.append({heading: f"Dice {score:.2f}" for heading, score in both})
    images = [pictures.image(name) for name in picked]
    return (images, masks, titles, list(picked.values())), common


def _enlarged(image: Image) -> Image:
    three = image if image.ndim == 3 else np.repeat(image[..., None], 3, -1)
    return enlarged_image(three, zoom(max(image.shape[:2])))


def _drawn(image: Image, mask: Masks, predicted: Masks | None = None) -> Image:
    """Draw masks of any size over an image, or the outcomes if a prediction is given."""
    times = zoom(max(image.shape[:2]))
    size = image.shape[0], image.shape[1]
    steel = enlarged_image(image, times)
    layers = [
        enlarged(np.stack([resize_mask(layer, size) for layer in masks]), times)
        for masks in (mask, predicted)
        if masks is not None
    ]
    return draw(steel, layers[0]) if predicted is None else draw_outcomes(steel, *layers)


def _across(image: Image, each: int) -> int:
    height, width = image.shape[:2]
    return 1 if width >= STRIP * height else 2 if 2 * width > 3 * height else each


def _grid(
    panels: Sequence[Sequence[tuple[str, str, Image]]], rows: Sequence[str], common: str
) -> Figure:
    """Draw rows of panels (heading, Dice, pixels), each with a header."""
    each = len(panels[0])
    height, width = panels[0][0][2].shape[:2]
    across = _across(panels[0][0][2], each)
    is_table = across == each and across > 2  # headings once, above and to the left
    room = WIDTH / across - (0.2 if is_table else 0.1)
    down = ceil(each / across)  # rows of panels of one image
    texts = [
        [wrap(score if is_table else ", ".join(filter(None, (name, score))), room, SMALL)
         for name, score, _ in row]
        for row in panels
    ]  # fmt: skip
    lines = max(text.count("\n") for row in texts for text in row)
    deep = room * height / width + 0.13 * (1 + lines) + 0.1
    extra = 0.0 if is_table else 0.25
    fig = Figure(figsize=(WIDTH, len(panels) * (down * deep + extra) + 0.3), layout="constrained")
    axes = fig.subplots(len(panels) * down, across, squeeze=False)
    for k, row in enumerate(panels):
        block = axes[k * down : (k + 1) * down].ravel()
        for ax, (_, _, pixels), text in zip(block, row, texts[k], strict=False):
            _picture(ax, pixels)
            ax.set_title(text, fontsize=SMALL, loc="left", pad=2)
        for ax in block[len(row) :]:
            ax.set_axis_off()
        if is_table:
            row_header(block[0], rows[k], deep - 0.1)
        else:
            headers([block[0]], [rows[k]], align="left")
    if is_table:
        headers(axes[0], [name for name, *_ in panels[0]], room, align="left")
    if common:
        fig.suptitle(wrap(common, WIDTH - 0.3, 9.5), fontsize=9.5)
        fig.set_figheight(fig.get_figheight() + 0.25)
    return fig


def _picture(ax: Axes, pixels: Image) -> None:
    """Show an image without axes; the label of the y axis stays, it is the row's header."""
    # Without interpolation the SVG contains the pixels themselves, crisp at any size.
    interpolation = "none" if pixels.shape[1] < CRISP else "antialiased"
    ax.imshow(pixels, interpolation=interpolation, aspect="equal")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)
