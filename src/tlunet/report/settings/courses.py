"""Validation Dice during training, by optimiser step: one line per setting."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tlunet.report.figures.marks import INIT_COLOURS, LINES, MARKERS
from tlunet.report.figures.style import headers, legend, styled, subplots
from tlunet.runs.names import condition

MOST = 3  # columns
KEYS = ["encoder", "init", "frac"]


@styled
def setting_courses(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw validation Dice by optimiser step, one line per setting and one column per condition.

    How to read it: a line is the mean over the seeds, the band spans their smallest and largest
    value. A line ends at the last epoch that *every* seed reached. The conditions are those with
    the most settings.

    Beyond the paper, which trains every network for the same number of epochs.

    Args:
        histories: by setting, in the order of the legend: columns `encoder, init, frac, seed,
            epoch, step` (optimiser steps at the end of the epoch) and `val_dice`.

    Raises:
        ValueError: there are no rows.
    """
    parts = {
        (name, key): part
        for name, history in histories.items()
        for key, part in history.groupby(KEYS, observed=True)
    }
    counts: dict[Any, int] = {}
    for _, key in parts:
        counts[key] = counts.get(key, 0) + 1
    if not counts:
        raise ValueError("the tables have no rows: nothing to draw")
    shown = sorted(counts, key=lambda key: -counts[key])[:MOST]
    looks = {name: _look(k) for k, name in enumerate(histories)}
    figure, axes = subplots(1, len(shown), 2.2, sharey="row")
    for ax, key in zip(axes[0], shown, strict=True):
        for name, look in looks.items():
            if (name, key) in parts:
                _course(ax, parts[name, key], look)
        ax.set_xlabel("optimiser step")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes[0, 0].set_ylabel("validation Dice")
    headers(axes[0], [condition(*key) for key in shown])
    legend(figure, [Line2D([], [], **look, label=name) for name, look in looks.items()])
    return figure


def _look(place: int) -> dict[str, Any]:
    return {
        "color": INIT_COLOURS[place % len(INIT_COLOURS)],
        "linestyle": LINES[place % len(LINES)],
        "marker": MARKERS[place % len(MARKERS)],
        "markersize": 3,
    }


def _course(ax: Axes, part: pd.DataFrame, look: dict[str, Any]) -> None:
    dice = part.pivot(index="epoch", columns="seed", values="val_dice")  # (epochs, seeds)
    steps = part.groupby("epoch")["step"].mean().loc[dice.index]
    mean = dice.mean(axis=1, skipna=False)
    ax.plot(steps, mean, **look, markevery=max(1, len(mean) // 10))
    if dice.shape[1] > 1:
        low, high = dice.min(axis=1, skipna=False), dice.max(axis=1, skipna=False)
        ax.fill_between(steps, low, high, color=look["color"], alpha=0.13, linewidth=0)
