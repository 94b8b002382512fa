"""Draw, caption and save the figures of a report."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tlunet.report.analysis.asked import Claim
from tlunet.report.analysis.blocks import Block
from tlunet.report.analysis.comparisons import PRIMARY, pairs
from tlunet.report.analysis.resampled import Resampled
from tlunet.report.document.document import Part, Picture, Text
from tlunet.report.figures import (
    cost,
    courses,
    curves,
    differences,
    efficiency,
    reliability,
    scores,
)
from tlunet.report.figures.fonts import drawable
from tlunet.report.figures.forest import forest
from tlunet.report.figures.heatmap import gain_by_class
from tlunet.report.figures.images.browser import browser
from tlunet.report.figures.images.examples import figure_7, outcomes_7
from tlunet.report.figures.images.pictures import Pictures, open_pictures
from tlunet.report.figures.style import save
from tlunet.report.values import SCORES
from tlunet.runs.names import init_name

FACTORS = ["encoder", "init", "frac", "seed"]


class Drawing:
    """Save figures, record their names and turn them into parts of the report."""

    def __init__(self, folder: Path, prefix: str, drawn: set[str]) -> None:
        self.folder, self.prefix, self.drawn = folder / "figures", prefix, drawn

    def __call__(self, name: str, title: str, caption: str, figure: Figure) -> Picture:
        """Save a figure; the title says what it shows, the caption how to read it."""
        name = self.prefix + name
        self.drawn.add(name)
        return Picture(name, title, caption, save(figure, self.folder / name))


def forest_plot(
    comparisons: pd.DataFrame, claims: Sequence[Claim], draw: Drawing, place: str = ""
) -> list[Part]:
    """Draw the gain from pre-training of every encoder and fraction; nothing without one.

    Args:
        comparisons: of one block.
        claims: where the claimed numbers come from.
        draw: saves the figure.
        place: the block in words, for the title.
    """
    gains = gain_table(comparisons, claims)
    if gains.empty:
        return []
    caption = (
        "Each row: mean difference with its 95% interval; dots: seeds. Right of the line: "
        "pre-training is better."
    )
    title = " · ".join(filter(None, ("Gain from pre-training", place)))
    return [draw("forest", title, caption, forest(gains))]


def gain_table(comparisons: pd.DataFrame, claims: Sequence[Claim] = ()) -> pd.DataFrame:
    """Tabulate the gains from pre-training in Dice and MLA, as :func:`forest` draws them.

    A relative claim is shown as the difference that it means for the measured baseline.
    """
    rows = comparisons[(comparisons["factor"] == "init") & comparisons["metric"].isin(PRIMARY)]
    table = rows[["encoder", "init", "frac", "metric", "low", "high", "n_seeds"]].copy()
    table["value"] = rows["difference"]
    table["seeds"] = [[float(d) for d in str(text).split()] for text in rows["by_seed"]]
    table["claimed"] = [_claimed(row, claims) for _, row in rows.iterrows()]
    return table[table["value"].notna()]


def _claimed(row: "pd.Series[Any]", claims: Sequence[Claim]) -> float:
    """Find the number that is claimed for a gain; NaN without one."""
    for claim in claims:
        a, kind = claim.get("a", {}), claim["kind"]
        cell = {key: value if isinstance(value, list) else [value] for key, value in a.items()}
        if (
            kind in ("difference", "relative")
            and claim.get("metric") == row["metric"]
            and claim.get("b") == {"init": "random"}
            and "number" in claim
            and all(row[key] in values for key, values in cell.items() if key in row)
        ):
            return float(claim["number"]) * (row["mean_b"] if kind == "relative" else 1.0)
    return np.nan


def figures(
    block: Resampled, table: pd.DataFrame, draw: Drawing, worth: pd.DataFrame | None = None
) -> list[Part]:
    """Draw the paper's figures 4, 5, 6, 8 and 9, and the additional ones.

    Args:
        block: the cells.
        table: their scores.
        draw: saves a figure.
        worth: their label-worth, marked on the label efficiency.
    """
    images, labels = image_table(block), label_table(block.data)
    history = block.data.history
    parts: list[Part] = [
        draw("figure_4", "Figure 4: Dice and IoU of the test images",
             "Images with a defect, classes pooled within the image, all seeds. Box: quartiles "
             '(the paper calls its box a "75% confidence interval"); whiskers: 2.5th to 97.5th '
             "percentile; red line: median; black dot: mean.", scores.boxes(images)),
        draw("figure_5", "Figure 5: multi-label accuracy (MLA)",
             "|true ∩ predicted| / |true ∪ predicted| labels of an image, both empty = 1; mean "
             "over images and seeds with its 95% interval.", scores.label_bars(table)),
        draw("figure_6", "Figure 6: ROC curve of each class",
             "One class vs. the rest; with several seeds, the mean of their curves. Below each "
             "panel the AUC of each class in the order of the legend, above it the mean over the "
             "classes for which it is defined.", curves.roc(labels)),
    ]  # fmt: skip
    for by, unit in (("epoch", "epoch"), ("seconds", "wall-clock time")):
        suffix = "" if by == "epoch" else "_seconds"
        parts.append(
            draw(f"figure_8{suffix}", f"Figure 8: validation by {unit}",
                 "Mean over seeds, band from the lowest to the highest seed; up to the last epoch "
                 "that all seeds have.", courses.convergence(history, by=by))  # type: ignore[arg-type]
        )  # fmt: skip
    inits = [i for i in dict.fromkeys(k.init for k in block.data.keys) if i != "random"]
    if any(factor == "init" for factor, *_ in pairs(block)):
        for init in inits:
            suffix = "" if len(inits) == 1 else f"_{slug(init)}"
            parts.append(
                draw(f"figure_9{suffix}",
                     f"Figure 9: change in Dice per image, {init_name(init)} vs. random",
                     "Dice with pre-training minus Dice without: same image, same seed, images "
                     "with a defect. n: pairs of image and seed.",
                     differences.differences(images, init))
            )  # fmt: skip
    if block.data.cells["frac"].nunique() > 1:
        for metric in ("dice_image", "mla"):
            name = SCORES[metric][0]
            parts.append(
                draw(f"label_efficiency_{metric}", f"Label efficiency: {name}",
                     f"{name} by fraction of the training images, with 95% intervals. Dashed: how "
                     "many times the labels random weights need for the same score.",
                     efficiency.label_efficiency(table, metric, worth))
            )  # fmt: skip
    parts += [
        draw("precision_recall", "Precision and recall of each class",
             "One class vs. the rest. Below each panel the average precision (AP) of each "
             "class in the order of the legend, above it their mean. Dotted: precision of random "
             "guessing, equal to the class frequency in the test set.",
             curves.precision_recall(labels)),
        draw("reliability", "Calibration of the label probabilities",
             "Predicted probability vs. observed frequency of the class, in ten bins, seeds "
             "pooled; on the diagonal they agree. ECE: expected calibration error.",
             reliability.reliability(labels)),
        draw("cost", "Dice vs. cost",
             "Dice vs. parameters, FLOPs per image, training time and peak memory; mean over "
             "seeds.", cost.cost(block.data.cells.assign(
                 dice_image=[float(pd.Series(i["dice_image"]).mean()) for i in block.images]))),
    ]  # fmt: skip
    return parts


def class_gains(block: Resampled, comparisons: pd.DataFrame, draw: Drawing) -> list[Part]:
    """Draw the gain in Dice of each class under each condition; nothing without a gain."""
    classes = list(block.data.classes)
    names = [f"dice_class_{m}" for m in range(1, len(classes) + 1)]
    rows = comparisons[(comparisons["factor"] == "init") & comparisons["metric"].isin(names)]
    if rows.empty:
        return []
    caption = (
        "Mean difference in Dice over the images that show the class, pre-trained − random. Bold: "
        "the 95% interval excludes zero."
    )
    return [draw("gain_by_class", "Gain by class", caption, gain_by_class(rows, drawable(classes)))]


def pictures(folder: Path, block: Resampled, draw: Drawing) -> list[Part]:
    """Draw Figure 7 and the image browser, or say why that is impossible."""
    all_pairs = list(pairs(block))
    wanted = [pair for pair in all_pairs if pair[0] == "init"] or all_pairs
    if not wanted:
        return [Text("No images shown: there is only one cell, so nothing to compare.")]
    shown = [open_pictures(folder, a, b) for _, a, b in wanted]
    there = [pictures for pictures in shown if isinstance(pictures, Pictures)]
    if not there:
        return [Text(f"No images shown: {shown[0]}.")]
    first = there[0]
    name = " vs. ".join(first.names)
    parts: list[Part] = [Text("No Figure 7: no test image has a defect.")]
    if first.dice["difference"].notna().any():
        parts = [
            draw("figure_7", f"Figure 7: {name}",
                 "Chosen by rule: the test images at the 90th, 50th and 10th percentile of the "
                 "difference in Dice, and among the rest the one in which the first network misses "
                 f"the most defect pixels. Seed {first.seed}.", figure_7(first)),
            draw("figure_7_outcomes", f"Found, missed and falsely predicted: {name}",
                 "The same images. Found: predicted as its class; missed: a defect that was not "
                 "found, or found as another class; false alarm: predicted where there is no "
                 "defect.", outcomes_7(first)),
        ]  # fmt: skip
    parts.append(browser(there))
    left_out = [reason for reason in shown if isinstance(reason, str)]
    return parts + [Text(f"Not shown: {reason}.") for reason in dict.fromkeys(left_out)]


def image_table(block: Resampled) -> pd.DataFrame:
    """Build the table for the figures with one row per cell and test image.

    Returns:
        ``encoder, init, frac, seed, image_id, dice_image, iou_image``; names are categories.
    """
    table = _rows(block.data, 1)
    for name in ("dice_image", "iou_image"):
        table[name] = np.concatenate([one[name] for one in block.images])
    return table


def label_table(block: Block) -> pd.DataFrame:
    """Build the table for the figures with one row per cell, test image and class.

    Returns:
        ``encoder, init, frac, seed, image_id, class_id, class_name, label, prob``; names are
        categories.
    """
    M = len(block.classes)
    table = _rows(block, M)
    m = np.tile(np.arange(M, dtype=np.int16), len(table) // M)
    table["class_id"], table["class_name"] = m + 1, pd.Categorical(drawable(block.classes)).take(m)
    for name in ("label", "prob"):
        table[name] = np.concatenate([getattr(counts, name).ravel() for counts in block.counts])
    return table


def _rows(block: Block, each: int) -> pd.DataFrame:
    """Build the factors and ``image_id``, ``each`` rows per image, cell by cell."""
    cells = block.cells[FACTORS].astype({"encoder": "category", "init": "category"})
    places = [counts.index.astype(np.int32) for counts in block.counts]
    lengths = [len(own) * each for own in places]
    table = cells.iloc[np.repeat(np.arange(len(cells)), lengths)].reset_index(drop=True)
    names = pd.CategoricalDtype(list(block.image_ids))
    image = np.repeat(np.concatenate(places), each)
    table["image_id"] = pd.Categorical.from_codes(image, dtype=names)
    return table


def slug(text: str) -> str:
    """Turn a text into part of a file name."""
    return re.sub(r"[\W_]+", "_", text).strip("_")
