"""One panel per encoder, initialisation and fraction, with headers for rows and columns."""

from collections.abc import Collection
from itertools import product
from math import prod
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tlunet.report.figures.marks import Grid
from tlunet.report.figures.style import COLOURS, TITLE_SIZE, WIDTH, headers, row_header
from tlunet.report.figures.text import wrap
from tlunet.runs.names import condition

LINES = ("-", "--", "-.", ":")  # also encodes the class, for print in greyscale
MAX_COLUMNS = 4
EMPTY = 0.3  # of the panels: more columns are not worth more empty ones
TALLEST = 2.0  # inches, a panel below which there are others


class Panels(NamedTuple):
    """A figure with axes for each (encoder, init, frac).

    Attributes:
        figure: the figure.
        axes: for each cell the panel and the strip below it, if any.
        heads: the first panel of each column.
        texts: the headers of the columns.
        width: width of a panel in inches.
    """

    figure: Figure
    axes: dict[tuple[str, str, float], list[Axes]]
    heads: list[Axes]
    texts: list[str]
    width: float

    def label(self) -> None:
        """Write the headers of the columns above the titles, which must be set."""
        headers(self.heads, self.texts, self.width)


def choose_columns(
    levels: dict[str, list[Any]], present: Collection[tuple[str, str, float]] = ()
) -> tuple[str, ...]:
    """Choose the factors shown as columns; the others are the rows.

    Leaves few panels empty, then uses as many columns as fit. For equal counts the encoders are
    rows, which have more room for long names.

    Args:
        levels: encoders, initialisations and fractions.
        present: the cells (encoder, init, frac) of the grid; default: all.

    >>> choose_columns({"encoder": ["resnet", "densenet"], "init": ["random"], "frac": [1.0, 0.5]})
    ('frac', 'encoder')
    """
    choices: list[tuple[str, ...]] = [("frac", "init"), ("frac",), ("init",), ("encoder", "init")]
    choices += [("encoder",), ("frac", "encoder")]
    columns = {choice: prod(len(levels[name]) for name in choice) for choice in choices}
    fitting = [choice for choice in choices if columns[choice] <= MAX_COLUMNS]
    if present and fitting:
        sizes = {choice: columns[choice] * len(_rows(present, choice)) for choice in fitting}
        most = max(min(sizes.values()), len(present) / (1 - EMPTY))
        fitting = [choice for choice in fitting if sizes[choice] <= most]
    if max((columns[choice] for choice in fitting), default=1) > 1:
        return max(fitting, key=lambda choice: columns[choice])  # the first of equal ones
    several = [choice for choice in choices if len(choice) == 1 and columns[choice] > 1]
    return min(several, key=lambda choice: columns[choice], default=("frac",))  # a wide figure


def _rows(
    present: Collection[tuple[str, str, float]], across: tuple[str, ...]
) -> set[tuple[Any, ...]]:
    """Return the values of the factors that are not columns, over all cells."""
    names = ("encoder", "init", "frac")
    kept = [k for k, name in enumerate(names) if name not in across]
    return {tuple(cell[k] for k in kept) for cell in present}


def make_panels(
    grid: Grid,
    present: Collection[tuple[str, str, float]],
    extra: float,
    below: float = 0.0,
) -> Panels:
    """Create panels, square if there are few, optionally with a strip below each.

    Args:
        grid: encoders, initialisations and fractions.
        present: the cells (encoder, init, frac) that there are.
        extra: inches needed above and below a panel.
        below: height of the strip relative to the panel; 0 for no strip.
    """
    levels: dict[str, list[Any]] = {f: getattr(grid, f"{f}s") for f in ("encoder", "init", "frac")}
    across = choose_columns(levels, present)
    columns, rows = (
        [dict(zip(names, values, strict=True)) for values in product(*(levels[n] for n in names))]
        for names in (across, tuple(name for name in levels if name not in across))
    )
    used = _rows(present, across)
    rows = [row for row in rows if tuple(row.values()) in used]
    width = max(min(WIDTH, 0.8 + 2.6 * len(columns)), 1.7 * len(columns))
    side = (width - 0.7) / len(columns) - 0.15
    tall = min(side, TALLEST) if len(rows) > 2 else side  # several rows fit on a page
    deep = 2 if below else 1
    figure = Figure(
        figsize=(width, len(rows) * (tall * (1 + below) + extra) + 0.5), layout="constrained"
    )
    axes = figure.subplots(
        deep * len(rows), len(columns), squeeze=False, sharex=True, sharey="row",
        height_ratios=[1.0, below][:deep] * len(rows),
    )  # fmt: skip
    panels = {}
    for (r, row), (c, column) in product(enumerate(rows), enumerate(columns)):
        panel = list(axes[r * deep : (r + 1) * deep, c])
        panels[*_pair(row | column), (row | column)["frac"]] = panel
    for r, row in enumerate(rows):
        row_header(axes[r * deep, 0], condition(**row), tall + extra - 0.1)
    texts = [condition(**column) for column in columns]
    return Panels(figure, panels, list(axes[0]), texts, side)


def _pair(cell: dict[str, Any]) -> tuple[str, str]:
    return cell["encoder"], cell["init"]


def axis_names(figure: Figure, x: str, y: str) -> None:
    """Label the axes for all panels together."""
    figure.supxlabel(wrap(x, figure.get_figwidth() - 0.3, TITLE_SIZE))
    figure.supylabel(wrap(y, figure.get_figheight() - 0.8, TITLE_SIZE))


def class_looks(labels: pd.DataFrame) -> dict[int, tuple[str, dict[str, Any]]]:
    """Return the name and line style of each class."""
    names = labels.drop_duplicates("class_id").sort_values("class_id")
    return {
        class_id: (str(name), {"color": COLOURS[m % len(COLOURS)], "linestyle": LINES[m % 4]})
        for m, (class_id, name) in enumerate(
            zip(names["class_id"], names["class_name"], strict=True)
        )
    }
