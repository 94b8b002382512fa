"""Figures of scores: pure functions from tidy tables to matplotlib figures.

A *cell* is one trained network, identified by the columns `encoder, init, frac, seed`. Every
function accepts rows in any order and leaves a labelled gap where a cell of the grid is missing.
Figure 6 and similar curves are in `curves.py`; colours, hatches and markers in `style.py`.
"""

from math import ceil
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogFormatter, MaxNLocator

from tlunet.report.analysis.label_worth import one_fraction
from tlunet.report.figures.style import (
    FONT_SIZE,
    MIN_FONT_SIZE,
    RED,
    TITLE_SIZE,
    WIDTH,
    Grid,
    area,
    cells,
    colour,
    condition,
    empty,
    gap,
    headers,
    init_name,
    legend,
    longest_piece,
    marks,
    order,
    percent,
    row_header,
    styled,
    subplots,
    text_width,
    wrap,
)

NBSP = "\N{NO-BREAK SPACE}"
KEYS = ["encoder", "init", "frac", "seed"]
GREY = "#666666"
MOST_WORTHS = 3  # dashed lines in one figure
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


def _pair_lines(grid: Grid) -> list[Any]:
    return [Line2D([], [], **marks(*p, grid), label=condition(*p)) for p in grid.pairs]


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


def _interval(ax: Axes, x: Any, low: Any, high: Any, colour: str) -> None:
    """Draw error bars by their two ends: a bootstrap interval need not include the mean."""
    low, high = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    style: dict[str, Any] = {"fmt": "none", "ecolor": colour, "elinewidth": 0.9, "capsize": 2}
    ax.errorbar(x, (low + high) / 2, yerr=(high - low) / 2, **style)


def _interval_note(scores: pd.DataFrame) -> str:
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
            _interval(ax, x, low, high, "black")
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
    legend(figure, _init_patches(grid), _interval_note(scores))
    return figure


@styled
def convergence(history: pd.DataFrame, by: Literal["epoch", "seconds"] = "epoch") -> Figure:
    """Draw Figure 8: validation loss, Dice and MLA during training, one column per fraction.

    How to read it: a line is the mean over the seeds, the band spans their smallest and largest
    value. A line ends at the last epoch that *every* seed of the cell reached: beyond it the mean
    would jump, because it would cover only the seeds that did not stop early. The axis of the
    loss is logarithmic. By seconds, an epoch is drawn at its mean time over the seeds, in the
    unit that suits the longest training.

    Paper Fig. 8 is by epoch with one training per line; here lines are means over seeds, and
    there is a version by seconds.

    Args:
        history: columns `encoder, init, frac, seed, epoch` (from 0, drawn from 1), `seconds` (of
            that epoch), `val_loss, val_dice, val_mla`; an epoch where a seed has NaN is a gap.
        by: quantity on the x axis.

    Raises:
        ValueError: the table has no rows.
    """
    grid, parts = order(history), cells(history)
    figure, axes = subplots(3, len(grid.fracs), 1.6, sharex="col", sharey="row")
    labels = {"val_loss": "loss", "val_dice": "Dice", "val_mla": "MLA"}
    longest = history.groupby(KEYS, observed=True)["seconds"].sum().max()
    unit, seconds = time_unit(longest) if by == "seconds" else ("epoch", 1.0)
    for row, (metric, label) in zip(axes, labels.items(), strict=True):
        row[0].set_ylabel(f"validation {label}")
        for ax, frac in zip(row, grid.fracs, strict=True):
            for pair in grid.pairs:
                if (*pair, frac) in parts:
                    part = parts[*pair, frac]
                    _course(ax, part, metric, by, seconds, marks(*pair, grid))
    if history["val_loss"].gt(0).any():
        axes[0, 0].set_yscale("log")
        axes[0, 0].yaxis.set_major_formatter(_Plain())
        axes[0, 0].yaxis.set_minor_formatter(_Plain(minor_thresholds=(2, 0.5)))
    headers(axes[0], [condition(frac=frac) for frac in grid.fracs])
    for ax in axes[-1]:
        ax.set_xlabel("epoch" if by == "epoch" else f"training time ({unit})")
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    legend(figure, _pair_lines(grid), group=len(grid.inits))
    return figure


class _Plain(LogFormatter):
    """Label the same ticks as a `LogFormatter`, but write 0.6 instead of 6e-01."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def time_unit(longest: float) -> tuple[str, float]:
    """Choose the unit in which durations have few digits, and return it with its seconds.

    >>> time_unit(90.0), time_unit(5000.0), time_unit(40000.0)
    (('s', 1.0), ('min', 60.0), ('h', 3600.0))
    """
    return ("s", 1.0) if longest < 300 else ("min", 60.0) if longest < 18000 else ("h", 3600.0)


def _course(
    ax: Axes, part: pd.DataFrame, metric: str, by: str, unit: float, look: dict[str, Any]
) -> None:
    seeds = part.pivot(index="epoch", columns="seed", values=metric)  # (epochs, seeds)
    seconds = part.pivot(index="epoch", columns="seed", values="seconds").cumsum(skipna=False)
    x = seeds.index + 1 if by == "epoch" else seconds.mean(axis=1, skipna=False) / unit
    mean = seeds.mean(axis=1, skipna=False)
    ax.plot(x, mean, **look, markevery=max(1, len(mean) // 10), markersize=3)
    if seeds.shape[1] > 1:
        low, high = seeds.min(axis=1, skipna=False), seeds.max(axis=1, skipna=False)
        ax.fill_between(x, low, high, color=look["color"], alpha=0.13, linewidth=0)


@styled
def differences(images: pd.DataFrame, init: str) -> Figure:
    """Draw Figure 9: a histogram of the change in Dice per image with another initialisation.

    How to read it: right of the red zero line, an image is better with `init` than with random
    weights. One count is one image of one seed, compared with the same image of the same seed;
    only pairs that both have are counted. The bins are 0.05 wide, the middle one is centred on
    zero. The percentages above a panel refer to its n pairs: "tied" means exactly equal, not just
    in the middle bin.

    Paper Fig. 9 has two encoders at 100% of the data; here every encoder has a column and every
    fraction a row.

    Args:
        images: columns `encoder, init, frac, seed, image_id, dice_image`; Dice in [0, 1], NaN for
            images without a defect (ignored).
        init: the initialisation compared with `random`.

    Raises:
        ValueError: the table has no rows of `init`, or `init` is random itself.
    """
    if init == "random" or init not in images["init"].unique():
        raise ValueError(f"init is {init!r}, expected one in the table other than random")
    grid, parts = order(images), cells(images)
    figure, axes = subplots(len(grid.fracs), len(grid.encoders), 1.85, sharex=True, sharey="row")
    room = (figure.get_figwidth() - 0.6) / len(grid.encoders) - 0.1  # width of a panel's title
    edges = np.linspace(-1.025, 1.025, 42)
    widest = 0.0
    for row, frac in zip(axes, grid.fracs, strict=True):
        row_header(row[0], condition(frac=frac), 1.6)
        for ax, encoder in zip(row, grid.encoders, strict=True):
            change = _change(parts, encoder, init, frac)
            if change.empty:
                empty(ax, "no pairs")
                continue
            ax.set_title(wrap(_verdict(change), room, FONT_SIZE), fontsize=FONT_SIZE)
            counts, _ = np.histogram(change, edges)
            full = counts > 0
            look = area(init, grid) | {"hatch": "", "linewidth": 0.5}
            ax.bar(edges[:-1][full], counts[full], 0.05, align="edge", **look)
            ax.axvline(0, color=RED, linewidth=1.2)
            ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
            widest = max(widest, change.abs().max())
    headers(axes[0], grid.encoders, room)
    axes[0, 0].set(xlim=(-widest - 0.075, widest + 0.075))
    axes[0, 0].xaxis.set_major_locator(MaxNLocator(6, symmetric=True, steps=[1, 2, 5, 10]))
    name, width = init_name(init), figure.get_figwidth() - 0.3
    figure.supxlabel(wrap(f"Dice per image: {name} − random", width, TITLE_SIZE))
    figure.supylabel("image × seed pairs")
    return figure


def _change(parts: dict[Any, pd.DataFrame], encoder: str, init: str, frac: float) -> pd.Series:
    """Return Dice with `init` minus Dice with random, for images and seeds that both have."""
    keys = ["seed", "image_id"]
    with_init, base = (
        parts[encoder, i, frac].set_index(keys)["dice_image"]
        if (encoder, i, frac) in parts
        else pd.Series(dtype=float, index=pd.MultiIndex.from_arrays([[], []], names=keys))
        for i in (init, "random")
    )
    both = pd.concat([with_init, base], axis=1, join="inner").dropna()
    return both.iloc[:, 0] - both.iloc[:, 1]


def _verdict(change: pd.Series) -> str:
    better, tied, worse = ((100 * s).mean() for s in (change > 0, change == 0, change < 0))
    parts = f"{better:.0f}% improved,", f"{tied:.0f}% tied,", f"{worse:.0f}% worse"
    # No-break spaces, so that `wrap` does not end a line after a number.
    return " ".join(part.replace(" ", NBSP) for part in (*parts, f"(n = {len(change)})"))


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
        _interval(ax, x, part["low"], part["high"], colour(pair[1], grid))
    for row in _worth_lines(worth, metric):
        _worth_line(ax, row)
    ax.set_xscale("log", base=2)
    ax.set_xticks(grid.fracs, _thinned(grid.fracs, (WIDTH - 0.8) / octaves))
    ax.minorticks_off()
    ax.set_xlim(min(grid.fracs) / 2**0.2, max(grid.fracs) * 2**0.2)
    ax.set(xlabel="fraction of the training data", ylabel=METRICS.get(metric, metric))
    legend(figure, _pair_lines(grid), _interval_note(scores), group=len(grid.inits))
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


COSTS = {
    "encoder_parameters": ("parameters of\nthe encoder (M)", 1e6),
    "gflop_per_image": ("GFLOP per image", 1.0),
    "seconds": ("training time ({})", 1.0),
    "peak_memory": ("peak memory (GiB)", 2.0**30),
}


@styled
def cost(cells: pd.DataFrame) -> Figure:
    """Draw Dice vs. four costs: parameters, FLOPs, training time and memory.

    How to read it: up and to the left is better. A marker is the mean over the seeds of one
    encoder, initialisation and fraction; the smaller the marker, the smaller the fraction.

    The paper only gives the encoders' parameters (Section II) and has no such figure.

    Args:
        cells: columns `encoder, init, frac, seed, encoder_parameters, gflop_per_image, seconds,
            peak_memory` (bytes), `dice_image`; a cost that is NaN throughout is "not measured".

    Raises:
        ValueError: the table has no rows.
    """
    grid = order(cells)
    cells = cells.sort_values("seed", kind="stable")
    means = cells.groupby(["encoder", "init", "frac"])[[*COSTS, "dice_image"]].mean()
    figure, axes = subplots(1, len(COSTS), 2.6, sharey=True)
    axes[0, 0].set_ylabel("Dice")
    sizes = {f: 7.0 * 0.8**k for k, f in enumerate(grid.fracs)}
    for ax, (name, (label, unit)) in zip(axes[0], COSTS.items(), strict=True):
        if name == "seconds":
            time, unit = time_unit(means[name].max())
            label = label.format(time)
        ax.set_xlabel(label)
        if means[name].isna().all():
            empty(ax, "not measured")
            ax.set_xticks([])
            continue
        for key, row in means.iterrows():
            encoder, init, frac = cast(tuple[str, str, float], key)
            look = marks(encoder, init, grid) | {"linestyle": "none", "markersize": sizes[frac]}
            ax.plot(row[name] / unit, row["dice_image"], **look, alpha=0.85)
        ax.set_xlim(0, 1.1 * means[name].max() / unit)
        ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    looks = {condition(*p): marks(*p, grid) | {"markersize": 6} for p in grid.pairs}
    for frac in grid.fracs if len(grid.fracs) > 1 else []:
        looks[condition(frac=frac)] = {
            "color": "#999999",
            "marker": "o",
            "markersize": sizes[frac],
        }
    bare = {"linestyle": "none"}
    handles = [Line2D([], [], **(look | bare), label=name) for name, look in looks.items()]
    legend(figure, handles, group=len(grid.inits))
    return figure
