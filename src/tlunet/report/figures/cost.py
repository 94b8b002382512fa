"""Dice vs. what a network costs: parameters, FLOPs, time and memory."""

from typing import cast

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tlunet.report.figures.courses import time_unit
from tlunet.report.figures.marks import marks, order
from tlunet.report.figures.style import empty, legend, styled, subplots
from tlunet.runs.names import condition

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
