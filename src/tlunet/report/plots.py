"""The paper's figures of scores: pure functions from tidy tables to matplotlib figures.

A *cell* is one trained network: the columns `encoder, init, frac, seed` say which. Every function
takes its rows in any order, and leaves a labelled gap where a cell of the grid is missing. Figures
6 and the like are in `curves.py`; colours, hatches and markers in `style.py`.
"""

from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogFormatter, MaxNLocator

from tlunet.report.style import (
    RED,
    Grid,
    area,
    cell_name,
    cells,
    colour,
    empty,
    gap,
    legend,
    marks,
    order,
    share,
    styled,
    subplots,
)

METRICS = {"dice_image": "Dice", "iou_image": "IoU", "mla": "MLA", "auc": "AUC", "ap": "AP"}


def _places(ax: Axes, grid: Grid) -> dict[tuple[str, str], float]:
    """A place on the x axis for each pair: encoders are the groups and the ticks."""
    step = 0.8 / len(grid.inits)
    middle = (len(grid.inits) - 1) / 2
    rotation = 90 if len(grid.encoders) > 2 and len(grid.fracs) > 1 else 0
    ax.set_xticks(range(len(grid.encoders)), grid.encoders, rotation=rotation)
    ax.set_xlim(-0.5, len(grid.encoders) - 0.5)
    ax.grid(visible=False, axis="x")
    return {
        (e, i): grid.encoders.index(e) + (grid.inits.index(i) - middle) * step
        for e, i in grid.pairs
    }


def _init_patches(grid: Grid) -> list[Any]:
    return [Patch(**area(init, grid), label=init) for init in grid.inits]


@styled
def boxes(images: pd.DataFrame) -> Figure:
    """Figure 4: box plots of Dice (upper row) and IoU (lower row), one panel per fraction.

    How to read it: red line, median; black dot, mean; box, from the first to the third quartile;
    whiskers, from the 2.5th to the 97.5th percentile. Each box holds every image with a defect
    once per seed.

    Paper Fig. 4: calls its box a "75 % confidence interval"; here: the usual quartile box (the
    middle half of the images), and an interval of the images, not of their mean.

    Args:
        images: columns `encoder, init, frac, seed, image_id, dice_image, iou_image`; scores in
            [0, 1], NaN for images without a defect (left out).

    Raises:
        ValueError: the table has no rows.
    """
    grid, parts = order(images), cells(images)
    figure, axes = subplots(2, len(grid.fracs), 2.1, sharex=True, sharey=True)
    for row, metric in zip(axes, ("dice_image", "iou_image"), strict=True):
        row[0].set_ylabel(f"{METRICS[metric]} per image")
        for ax, frac in zip(row, grid.fracs, strict=True):
            for pair, x in _places(ax, grid).items():
                values = parts[*pair, frac][metric].dropna() if (*pair, frac) in parts else None
                if values is None or values.empty:
                    gap(ax, x, "no run" if values is None else "no score")
                else:
                    _box(ax, x, values, 0.6 / len(grid.inits), area(pair[1], grid))
    for ax, frac in zip(axes[0], grid.fracs, strict=True):
        ax.set(title=share(frac), ylim=(-0.02, 1.02))
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
    """Error bars by their two ends: a bootstrap interval need not hold the mean."""
    low, high = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    style: dict[str, Any] = {"fmt": "none", "ecolor": colour, "elinewidth": 0.9, "capsize": 2}
    ax.errorbar(x, (low + high) / 2, yerr=(high - low) / 2, **style)


def _interval_note(scores: pd.DataFrame) -> str:
    """Over what the drawn intervals are taken; empty where none is."""
    over = sorted(set(scores.dropna(subset=["low", "high"])["interval"]))
    return f"error bars: 95 % interval over {' or '.join(over)}" if over else ""


@styled
def label_bars(scores: pd.DataFrame) -> Figure:
    """Figure 5: multi-label accuracy (MLA, Section III-C) in %, one panel per fraction.

    How to read it: a bar and the number over it are the mean over images and seeds, the error
    bar its 95 % interval; the line over the legend says over what that is taken.

    Paper Fig. 5: bars without intervals; here: with them, from 0 to 100 %.

    Args:
        scores: columns `encoder, init, frac, metric, mean, low, high, interval`; the rows with
            metric `mla` are drawn, values in [0, 1]; low and high may be NaN (no error bar).

    Raises:
        ValueError: the table has no row for `mla`.
    """
    scores = scores[scores["metric"] == "mla"]
    grid, parts = order(scores), cells(scores)
    crowded = len(grid.encoders) * len(grid.inits) * len(grid.fracs) > 16
    figure, axes = subplots(1, len(grid.fracs), 3 if crowded else 2.3, sharey=True)
    for ax, frac in zip(axes[0], grid.fracs, strict=True):
        for pair, x in _places(ax, grid).items():
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
                fontsize=7, rotation=90 if crowded else 0,
            )  # fmt: skip
        ax.set(title=share(frac), ylim=(0, 125 if crowded else 112), yticks=range(0, 101, 20))
        ax.spines.left.set_bounds(0, 100)  # above it there is room for numbers, not for accuracy
    axes[0, 0].set_ylabel("MLA (%)")
    legend(figure, _init_patches(grid), _interval_note(scores))
    return figure


@styled
def convergence(history: pd.DataFrame, by: Literal["epoch", "seconds"] = "epoch") -> Figure:
    """Figure 8: validation loss, Dice and MLA during training, one column of panels per fraction.

    How to read it: a line is the mean over the seeds, the band their smallest and largest value.
    A line ends at the last epoch that *every* seed of the cell has: beyond it the mean would
    jump, for the seeds that stopped early were others than those that went on. The losses' axis
    is logarithmic. By seconds, an epoch stands at its mean time over the seeds.

    Paper Fig. 8: by epoch, one training per line; here: several seeds, and by seconds as well.

    Args:
        history: columns `encoder, init, frac, seed, epoch` (from 0, drawn from 1), `seconds` (of
            that epoch), `val_loss, val_dice, val_mla`; an epoch where a seed has NaN is a gap.
        by: what the x axis is.

    Raises:
        ValueError: the table has no rows.
    """
    grid, parts = order(history), cells(history)
    figure, axes = subplots(3, len(grid.fracs), 1.6, sharex="col", sharey="row")
    labels = {"val_loss": "loss", "val_dice": "Dice", "val_mla": "MLA"}
    for row, (metric, label) in zip(axes, labels.items(), strict=True):
        row[0].set_ylabel(f"validation {label}")
        for ax, frac in zip(row, grid.fracs, strict=True):
            for pair in grid.pairs:
                if (*pair, frac) in parts:
                    _course(ax, parts[*pair, frac], metric, by, marks(*pair, grid))
    if history["val_loss"].gt(0).any():
        axes[0, 0].set_yscale("log")
        axes[0, 0].yaxis.set_major_formatter(LogFormatter())  # plain: names may hold a $
        axes[0, 0].yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    for ax, frac in zip(axes[0], grid.fracs, strict=True):
        ax.set_title(share(frac))
    for ax in axes[-1]:
        ax.set_xlabel("epoch" if by == "epoch" else "seconds of training")
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    legend(figure, [Line2D([], [], **marks(*p, grid), label=cell_name(*p)) for p in grid.pairs])
    return figure


def _course(ax: Axes, part: pd.DataFrame, metric: str, by: str, look: dict[str, Any]) -> None:
    seeds = part.pivot(index="epoch", columns="seed", values=metric)  # (epochs, seeds)
    seconds = part.pivot(index="epoch", columns="seed", values="seconds").cumsum(skipna=False)
    x = seeds.index + 1 if by == "epoch" else seconds.mean(axis=1, skipna=False)
    mean = seeds.mean(axis=1, skipna=False)
    ax.plot(x, mean, **look, markevery=max(1, len(mean) // 10), markersize=3)
    if seeds.shape[1] > 1:
        low, high = seeds.min(axis=1, skipna=False), seeds.max(axis=1, skipna=False)
        ax.fill_between(x, low, high, color=look["color"], alpha=0.13, linewidth=0)


@styled
def differences(images: pd.DataFrame, init: str) -> Figure:
    """Figure 9: what another initialisation changed in each image's Dice, as a histogram.

    How to read it: right of the red zero line the image is better with `init` than with random
    weights. One count is one image of one seed, compared with the same image of the same seed;
    only pairs that both have are counted. The bins are 0.05 wide, the middle one about zero.
    The title's shares are of the pairs: "tied" is exactly equal, not merely in the middle bin.

    Paper Fig. 9: two encoders at 100 % of the data; here: every encoder (a column each) and
    fraction (a row each).

    Args:
        images: columns `encoder, init, frac, seed, image_id, dice_image`; Dice in [0, 1], NaN for
            images without a defect (left out).
        init: compared with `random`.

    Raises:
        ValueError: the table has no rows of `init`, or `init` is random itself.
    """
    if init == "random" or init not in images["init"].unique():
        raise ValueError(f"init is {init!r}, expected another than random that is in the table")
    grid, parts = order(images), cells(images)
    figure, axes = subplots(len(grid.fracs), len(grid.encoders), 1.75, sharex=True, sharey="row")
    edges = np.linspace(-1.025, 1.025, 42)
    widest = 0.0
    for row, frac in zip(axes, grid.fracs, strict=True):
        row[0].set_ylabel(f"{100 * frac:.3g} % of the data\nimages × seeds")
        for ax, encoder in zip(row, grid.encoders, strict=True):
            change = _change(parts, encoder, init, frac)
            ax.set_title(_verdict(encoder, change))
            if change.empty:
                empty(ax, "no pairs")
                continue
            counts, _ = np.histogram(change, edges)
            full = counts > 0
            look = area(init, grid) | {"hatch": "", "linewidth": 0.5}
            ax.bar(edges[:-1][full], counts[full], 0.05, align="edge", **look)
            ax.axvline(0, color=RED, linewidth=1.2)
            ax.text(0.02, 0.97, f"n = {len(change)}", transform=ax.transAxes, va="top", fontsize=7)
            ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
            widest = max(widest, change.abs().max())
    axes[0, 0].set(xlim=(-widest - 0.075, widest + 0.075))
    axes[0, 0].xaxis.set_major_locator(MaxNLocator(6, symmetric=True, steps=[1, 2, 5, 10]))
    figure.supxlabel(f"Dice with {init} - Dice with random, per image", fontsize=8.5)
    return figure


def _change(parts: dict[Any, pd.DataFrame], encoder: str, init: str, frac: float) -> pd.Series:
    """Dice with `init` minus Dice with random, of the images and seeds that both have."""
    keys = ["seed", "image_id"]
    with_init, base = (
        parts[encoder, i, frac].set_index(keys)["dice_image"]
        if (encoder, i, frac) in parts
        else pd.Series(dtype=float, index=pd.MultiIndex.from_arrays([[], []], names=keys))
        for i in (init, "random")
    )
    both = pd.concat([with_init, base], axis=1, join="inner").dropna()
    return both.iloc[:, 0] - both.iloc[:, 1]


def _verdict(encoder: str, change: pd.Series) -> str:
    if change.empty:
        return encoder
    better, tied, worse = ((100 * s).mean() for s in (change > 0, change == 0, change < 0))
    return f"{encoder}\n{better:.0f} % improved\n{tied:.0f} % tied, {worse:.0f} % worse"


@styled
def label_efficiency(scores: pd.DataFrame, metric: str = "dice_image") -> Figure:
    """A metric against the share of the training data: how many labels does a start save?

    How to read it: read across, from a point of one line to the same height on another, and see
    how much less data gives the same score. Error bars are 95 % intervals; points of one fraction
    stand a little apart only so that their bars do not overlap. The x axis is logarithmic.

    The paper has two fractions (Figs. 4 and 5) and no such figure.

    Args:
        scores: columns `encoder, init, frac, metric, mean, low, high, interval`; low and high may
            be NaN (no error bar).
        metric: which rows to draw.

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
    ax.set_xscale("log", base=2)
    ax.set_xticks(grid.fracs, [f"{100 * frac:.3g} %" for frac in grid.fracs])
    ax.minorticks_off()
    ax.set_xlim(min(grid.fracs) / 2**0.2, max(grid.fracs) * 2**0.2)
    ax.set(xlabel="share of the training data", ylabel=METRICS.get(metric, metric))
    handles = [Line2D([], [], **marks(*p, grid), label=cell_name(*p)) for p in grid.pairs]
    legend(figure, handles, _interval_note(scores))
    return figure


COSTS = {
    "encoder_parameters": ("encoder parameters (M)", 1e6),
    "gflop_per_image": ("GFLOP per image", 1.0),
    "seconds": ("seconds of training", 1.0),
    "peak_memory": ("peak memory (GiB)", 2.0**30),
}


@styled
def cost(cells: pd.DataFrame) -> Figure:
    """Dice against four costs: parameters, arithmetic, time and memory.

    How to read it: up and to the left is better. A marker is the mean over the seeds of one
    encoder, initialisation and fraction; the smaller the marker, the smaller the fraction.

    The paper names the encoders' parameters only (Section II) and has no such figure.

    Args:
        cells: columns `encoder, init, frac, seed, encoder_parameters, gflop_per_image, seconds,
            peak_memory` (bytes), `dice_image`; a cost that is NaN throughout is "not measured".

    Raises:
        ValueError: the table has no rows.
    """
    grid = order(cells)
    cells = cells.sort_values("seed", kind="stable")
    means = cells.groupby(["encoder", "init", "frac"])[[*COSTS, "dice_image"]].mean()
    figure, axes = subplots(1, len(COSTS), 2.4, sharey=True)
    axes[0, 0].set_ylabel("Dice")
    sizes = {f: 7.0 * 0.8**k for k, f in enumerate(grid.fracs)}
    for ax, (name, (label, unit)) in zip(axes[0], COSTS.items(), strict=True):
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
    looks = {cell_name(*p): marks(*p, grid) | {"markersize": 6} for p in grid.pairs}
    for frac in grid.fracs if len(grid.fracs) > 1 else []:
        looks[f"{100 * frac:.3g} % of the data"] = {
            "color": "#999999",
            "marker": "o",
            "markersize": sizes[frac],
        }
    bare = {"linestyle": "none"}
    legend(figure, [Line2D([], [], **(look | bare), label=name) for name, look in looks.items()])
    return figure
