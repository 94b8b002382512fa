"""Label efficiency: a score by fraction of the training data, and what pre-training is worth."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tlunet.report.analysis.label_worth import one_fraction
from tlunet.report.figures.marks import colour, marks, order
from tlunet.report.figures.scores import METRICS, interval, interval_note
from tlunet.report.figures.style import MIN_FONT_SIZE, WIDTH, legend, pair_lines, styled, subplots
from tlunet.report.figures.text import text_width
from tlunet.runs.names import percent

GREY = "#666666"
MOST_WORTHS = 3  # dashed lines in one figure


@styled
def label_efficiency(
    scores: pd.DataFrame, metric: str = "dice_image", worth: pd.DataFrame | None = None
) -> Figure:
    """Draw a metric by fraction of the training data: how many labels does pre-training save?

    How to read it: compare the fractions at which two lines reach the same height to see how much
    less data gives the same score. A dashed grey line does so for one fraction of each pre-trained
    encoder: it ends where random weights reach the score, or with an arrow at the largest fraction
    if they do not. Error bars are 95% intervals; points of one fraction are shifted slightly so
    that their bars do not overlap. The x axis is logarithmic.

    The paper has two fractions (Figs. 4 and 5) and no such figure.

    Args:
        scores: columns `encoder, init, frac, metric, mean, low, high, interval`; low and high may
            be NaN (no error bar).
        metric: which rows to draw.
        worth: label-worth, from `tlunet.report.analysis.label_worth.worth_table`.

    Raises:
        ValueError: the table has no row for `metric`.
    """
    scores = scores[scores["metric"] == metric]
    grid = order(scores)
    figure, axes = subplots(1, 1, 3.4)
    ax = axes[0, 0]
    octaves = np.log2(max(grid.fracs) / min(grid.fracs)) + 0.4
    step = min(0.01 * octaves, 0.3 / len(grid.pairs))
    for k, pair in enumerate(grid.pairs):
        own = (scores["encoder"] == pair[0]) & (scores["init"] == pair[1])
        part = scores[own].sort_values("frac")
        x = part["frac"] * 2 ** ((k - (len(grid.pairs) - 1) / 2) * step)
        ax.plot(x, part["mean"], **marks(*pair, grid))
        interval(ax, x, part["low"], part["high"], colour(pair[1], grid))
    for row in _worth_lines(worth, metric):
        _worth_line(ax, row)
    ax.set_xscale("log", base=2)
    ax.set_xticks(grid.fracs, _thinned(grid.fracs, (WIDTH - 0.8) / octaves))
    ax.minorticks_off()
    ax.set_xlim(min(grid.fracs) / 2**0.2, max(grid.fracs) * 2**0.2)
    ax.set(xlabel="fraction of the training data", ylabel=METRICS.get(metric, metric))
    legend(figure, pair_lines(grid), interval_note(scores), group=len(grid.inits))
    return figure


def _worth_lines(worth: pd.DataFrame | None, metric: str) -> list["pd.Series[Any]"]:
    """Choose the label-worths to draw: few enough to tell apart."""
    if worth is None or worth.empty:
        return []
    own = one_fraction(worth[worth["metric"] == metric])
    own = own[own["worth"] > 0]
    return [row for _, row in own.iterrows()] if len(own) <= MOST_WORTHS else []


def _worth_line(ax: Axes, row: "pd.Series[Any]") -> None:
    """Draw a line at the score to be reached, from its fraction to where random reaches it."""
    reached = np.isfinite(row["worth"])
    end = row["frac"] * (row["worth"] if reached else row["most"])
    score = row["score"]
    ax.plot([row["frac"], end], [score, score], color=GREY, linestyle="--", linewidth=1, zorder=1)
    ax.plot(end, score, color=GREY, marker="|" if reached else ">", markersize=6, zorder=1)
    # Below the curve of random weights, or between the curves: there is nothing else.
    text = f"{row['worth']:.1f}×" if reached else f"more than {row['low']:.1f}×"
    ax.annotate(text, (end, score), (3 if reached else -3, -4), textcoords="offset points",
                ha="left" if reached else "right", va="top", fontsize=MIN_FONT_SIZE,
                color=GREY)  # fmt: skip


def _thinned(fracs: list[float], octave: float) -> list[str]:
    """Label the fractions, the largest first; empty where a label would overlap the last one.

    Args:
        fracs: the fractions to label.
        octave: inches on the axis between a fraction and its half.
    """
    labels: list[str] = []
    left = np.inf  # left end of the last label, in inches
    for frac in fracs:
        place, half = octave * np.log2(frac), text_width(percent(frac)) / 2 + 0.03
        free = place + half <= left
        labels.append(percent(frac) if free else "")
        left = place - half if free else left
    return labels
