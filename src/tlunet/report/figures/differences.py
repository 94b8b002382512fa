"""Figure 9: how each test image changes with another initialisation."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tlunet.report.figures.marks import area, cells, order
from tlunet.report.figures.style import (
    RED,
    TITLE_SIZE,
    empty,
    headers,
    row_header,
    styled,
    subplots,
)
from tlunet.report.figures.text import FONT_SIZE, wrap
from tlunet.runs.names import condition, init_name

NBSP = "\N{NO-BREAK SPACE}"


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
