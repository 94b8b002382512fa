"""Figures of scores: pure functions from tidy tables to matplotlib figures.

A *cell* is one trained network, identified by the columns `encoder, init, frac, seed`. Every
function accepts rows in any order and leaves a labelled gap where a cell of the grid is missing.
Each other figure has a file of its own; colours, hatches and markers are in `marks.py`.
"""

from math import ceil
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from tlunet.report.figures.marks import Grid, area, cells, order
from tlunet.report.figures.style import (
    MIN_FONT_SIZE,
    RED,
    WIDTH,
    gap,
    headers,
    legend,
    styled,
    subplots,
)
from tlunet.report.figures.text import FONT_SIZE, longest_piece, text_width, wrap
from tlunet.runs.names import condition, init_name

LINE = 1.4 * FONT_SIZE / 72  # inches, height of a line of text
METRICS = {"dice_image": "Dice", "iou_image": "IoU", "mla": "MLA", "auc": "AUC", "ap": "AP"}


class _Layout(NamedTuple):
    """Layout of the panels, one per fraction, with the encoders on the x axes.

    Attributes:
        columns: number of panels side by side.
        names: names of the encoders, wrapped.
        rotation: rotation of these names in degrees.
    """

    columns: int
    names: list[str]
    rotation: int


def _layout(grid: Grid) -> _Layout:
    """Place all fractions side by side, or fewer if the names need more room."""
    names, across = grid.encoders, len(grid.fracs)
    for columns in dict.fromkeys((across, min(2, across))):
        slot = _slot(columns, len(names))
        if max(map(longest_piece, names)) < 0.92 * slot:
            return _Layout(columns, [wrap(name, 0.92 * slot) for name in names], 0)
    columns = across
    while columns > 1 and _slot(columns, len(names) * len(grid.inits)) < LINE:
        columns = ceil(columns / 2)
    lines = max(1, int(_slot(columns, len(names)) / LINE))
    return _Layout(columns, [_in_lines(name, lines) for name in names], 90)


def _slot(columns: int, places: int) -> float:
    """Return the inches on the x axis for each place in a panel."""
    return (WIDTH - 0.6 - 0.2 * columns) / columns / places


def _in_lines(name: str, lines: int) -> str:
    """Wrap a name to a width of 1.2 inches, unless that takes more than `lines` lines."""
    return wrap(name, 1.2) if lines >= 1 + wrap(name, 1.2).count("\n") else name


def _places(ax: Axes, grid: Grid, layout: _Layout) -> dict[tuple[str, str], float]:
    """Return the place of each pair on the x axis; encoders are the groups and the ticks."""
    step = 0.8 / len(grid.inits)
    middle = (len(grid.inits) - 1) / 2
    ax.set_xticks(range(len(grid.encoders)), layout.names, rotation=layout.rotation)
    ax.set_xlim(-0.5, len(grid.encoders) - 0.5)
    ax.grid(visible=False, axis="x")
    return {
        (e, i): grid.encoders.index(e) + (grid.inits.index(i) - middle) * step
        for e, i in grid.pairs
    }


def _init_patches(grid: Grid) -> list[Any]:
    return [Patch(**area(init, grid), label=init_name(init)) for init in grid.inits]


@styled
def boxes(images: pd.DataFrame) -> Figure:
    """Draw Figure 4: box plots of Dice and IoU, one row each and one column per fraction.

    If long names need more room: one row per fraction and one column each.

    How to read it: the red line is the median, the black dot the mean; the box spans the first to
    the third quartile, the whiskers the 2.5th to the 97.5th percentile. Each box contains every
    image with a defect once per seed.

    Paper Fig. 4 calls its box a "75% confidence interval"; here it is the usual quartile box (the
    middle half of the images), an interval of the images and not of their mean.

    Args:
        images: columns `encoder, init, frac, seed, image_id, dice_image, iou_image`; scores in
            [0, 1], NaN for images without a defect (ignored).

    Raises:
        ValueError: the table has no rows.
    """
    grid, parts = order(images), cells(images)
    layout = _layout(grid)
    across = layout.columns == len(grid.fracs)
    shape = (2, len(grid.fracs)) if across else (len(grid.fracs), 2)
    figure, axes = subplots(*shape, 2.1 if across else 1.8, sharex=True, sharey=True)
    by_metric = axes if across else axes.T
    for row, metric in zip(by_metric, ("dice_image", "iou_image"), strict=True):
        for ax, frac in zip(row, grid.fracs, strict=True):
            for pair, x in _places(ax, grid, layout).items():
                values = parts[*pair, frac][metric].dropna() if (*pair, frac) in parts else None
                if values is None or values.empty:
                    gap(ax, x, "no run" if values is None else "no score")
                else:
                    _box(ax, x, values, 0.6 / len(grid.inits), area(pair[1], grid))
    axes[0, 0].set_ylim(-0.02, 1.02)
    metrics = [f"{METRICS[metric]} per image" for metric in ("dice_image", "iou_image")]
    fracs = [condition(frac=frac) for frac in grid.fracs]
    headers(axes[0], fracs if across else metrics)
    for ax, text in zip(axes[:, 0], metrics if across else fracs, strict=True):
        ax.set_ylabel(text, fontweight="normal" if across else "bold")
    median = Line2D([], [], color=RED, label="median")
    mean = Line2D([], [], color="black", marker=".", linestyle="none", label="mean")
    legend(figure, [*_init_patches(grid), median, mean])
    return figure


def _box(ax: Axes, x: float, values: pd.Series, width: float, look: dict[str, Any]) -> None:
    low, first, median, third, high = values.quantile([0.025, 0.25, 0.5, 0.75, 0.975])
    stats = {"whislo": low, "q1": first, "med": median, "q3": third, "whishi": high}
    ax.bxp(
        [stats | {"mean": values.mean()}], positions=[x], widths=width, manage_ticks=False,
        patch_artist=True, showfliers=False, showmeans=True, boxprops=look,
        medianprops={"color": RED, "linewidth": 1.5},
        meanprops={"marker": ".", "markersize": 6, "color": "black", "markeredgecolor": "white",
                   "markeredgewidth": 0.5, "markerfacecolor": "black"},
    )  # fmt: skip


def interval(ax: Axes, x: Any, low: Any, high: Any, colour: str) -> None:
    """Draw error bars by their two ends: a bootstrap interval need not include the mean."""
    low, high = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    style: dict[str, Any] = {"fmt": "none", "ecolor": colour, "elinewidth": 0.9, "capsize": 2}
    ax.errorbar(x, (low + high) / 2, yerr=(high - low) / 2, **style)


def interval_note(scores: pd.DataFrame) -> str:
    """Describe what the drawn intervals cover; empty if none is drawn."""
    over = sorted(set(scores.dropna(subset=["low", "high"])["interval"]))
    return f"error bars: 95% interval over {' or '.join(over)}" if over else ""


@styled
def label_bars(scores: pd.DataFrame) -> Figure:
    """Draw Figure 5: multi-label accuracy (MLA, Section III-C) in %, one panel per fraction.

    How to read it: a bar and the number above it are the mean over images and seeds, the error
    bar is its 95% interval; the line above the legend says what the interval covers.

    Paper Fig. 5 has bars without intervals; here they have intervals and range from 0 to 100%.

    Args:
        scores: columns `encoder, init, frac, metric, mean, low, high, interval`; the rows with
            metric `mla` are drawn, values in [0, 1]; low and high may be NaN (no error bar).

    Raises:
        ValueError: the table has no row for `mla`.
    """
    scores = scores[scores["metric"] == "mla"]
    grid, parts = order(scores), cells(scores)
    layout = _layout(grid)
    rows = ceil(len(grid.fracs) / layout.columns)
    # Numbers are rotated where they would be wider than their bars' slots.
    slot = 0.8 * _slot(layout.columns, len(grid.encoders) * len(grid.inits))
    upright = slot < text_width("100.0", MIN_FONT_SIZE)
    figure, axes = subplots(rows, layout.columns, 2.6 if upright else 2.3, sharex=True, sharey=True)
    for ax, frac in zip(axes.ravel(), grid.fracs, strict=False):
        for pair, x in _places(ax, grid, layout).items():
            if (*pair, frac) not in parts:
                gap(ax, x, "no run")
                continue
            mean, low, high = 100 * parts[*pair, frac][["mean", "low", "high"]].iloc[0]
            if np.isnan(mean):
                gap(ax, x, "no score")
                continue
            ax.bar(x, mean, 0.7 / len(grid.inits), **area(pair[1], grid))
            interval(ax, x, low, high, "black")
            ax.text(
                x, np.nanmax([mean, high]) + 1.5, f"{mean:.1f}", ha="center", va="bottom",
                fontsize=MIN_FONT_SIZE, rotation=90 if upright else 0,
            )  # fmt: skip
        ax.set(ylim=(0, 130 if upright else 114), yticks=range(0, 101, 20))
        ax.spines.left.set_bounds(
            0, 100
        )  # the space above is for the numbers: accuracy ends at 100
        headers([ax], [condition(frac=frac)])
    for ax in axes.ravel()[len(grid.fracs) :]:
        ax.remove()
    for ax in axes.ravel()[max(0, len(grid.fracs) - layout.columns) : len(grid.fracs)]:
        ax.tick_params(labelbottom=True)  # the last panel of its column
    for row in axes:
        row[0].set_ylabel("MLA (%)")
    legend(figure, _init_patches(grid), interval_note(scores))
    return figure
