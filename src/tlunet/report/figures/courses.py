"""Figure 8: validation during training, by epoch and by time."""

from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator

from tlunet.report.figures.marks import cells, marks, order
from tlunet.report.figures.style import headers, legend, pair_lines, styled, subplots
from tlunet.runs.names import condition

KEYS = ["encoder", "init", "frac", "seed"]


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
    legend(figure, pair_lines(grid), group=len(grid.inits))
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
