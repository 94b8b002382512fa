"""Colours, lines, markers and hatches of a study's cells, and their order."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb

from tlunet.report.analysis.blocks import display_order

# Okabe and Ito's palette, safe for colour-blind readers; the baseline is black.
ENCODERS = ("resnet", "densenet")
INITS = ("random", "imagenet", "synthetic", "checkpoint")
INIT_COLOURS = ("#000000", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#E69F00", "#56B4E9")
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++", "----")
LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


class Grid(NamedTuple):
    """Encoders, initialisations and fractions of a table, in display order.

    Attributes:
        encoders: resnet, densenet, then the others by name.
        inits: random first, then by name.
        fracs: the largest first.
        pairs: (encoder, init) of any cell, encoder by encoder.
    """

    encoders: list[str]
    inits: list[str]
    fracs: list[float]
    pairs: list[tuple[str, str]]


def order(table: pd.DataFrame) -> Grid:
    """Return the encoders, initialisations and fractions of a table, in display order.

    Raises:
        ValueError: the table has no rows.

    >>> order(pd.DataFrame({"encoder": ["b", "resnet"], "init": "random", "frac": [0.5, 1.0]}))[:3]
    (['resnet', 'b'], ['random'], [1.0, 0.5])
    """
    if table.empty:
        raise ValueError("the table has no rows: nothing to draw")
    present: list[Any] = table.groupby(["encoder", "init"], observed=True).size().index.tolist()
    encoders, inits = (display_order(names) for names in zip(*present, strict=True))
    pairs = [(e, i) for e in encoders for i in inits if (e, i) in present]
    return Grid(encoders, inits, sorted(table["frac"].unique().tolist(), reverse=True), pairs)


def _rank(name: str, known: Sequence[str], others: Sequence[str] = ()) -> int:
    """Return the position of a name: known names have fixed positions, others follow."""
    rest = [other for other in others if other not in known]
    return known.index(name) if name in known else len(known) + [*rest, name].index(name)


def cells(table: pd.DataFrame) -> dict[tuple[str, str, float], pd.DataFrame]:
    """Group the rows by (encoder, init, frac), sorted by seed, image, class and epoch.

    Sums of floats depend on their order; sorting makes the figure independent of the row order.
    """
    keys = ["seed", "image_id", "class_id", "epoch", "metric"]
    keys = [key for key in keys if key in table]
    parts = table.groupby(["encoder", "init", "frac"], observed=True)
    found: dict[Any, pd.DataFrame] = dict(iter(parts))
    return {
        (str(e), str(i), float(f)): part.sort_values(keys, kind="stable")
        for (e, i, f), part in found.items()
    }


def colour(init: str, grid: Grid) -> str:
    """Return the colour of an initialisation, `#rrggbb`."""
    return INIT_COLOURS[_rank(init, INITS, grid.inits) % len(INIT_COLOURS)]


def marks(encoder: str, init: str, grid: Grid) -> dict[str, Any]:
    """Style a cell's line: colour by init, line and marker by encoder, open markers for random."""
    own, place = colour(init, grid), _rank(encoder, ENCODERS, grid.encoders)
    return {
        "color": own,
        "linestyle": LINES[place % len(LINES)],
        "marker": MARKERS[place % len(MARKERS)],
        "markerfacecolor": "white" if init == "random" else own,
    }


def area(init: str, grid: Grid) -> dict[str, Any]:
    """Style a cell's box or bar: tint and hatch by init."""
    own = colour(init, grid)
    tint = 0.7 + 0.3 * np.array(to_rgb(own))
    hatch = HATCHES[_rank(init, INITS, grid.inits) % len(HATCHES)]
    return {"facecolor": tuple(tint.tolist()), "edgecolor": own, "hatch": hatch, "linewidth": 0.8}
