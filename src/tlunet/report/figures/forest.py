"""Forest plots: the gain from pre-training, Dice and MLA side by side, and settings by score."""

from collections.abc import Sequence
from math import floor, log10
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory

from tlunet.report.figures.marks import colour, order
from tlunet.report.figures.style import (
    MIN_FONT_SIZE,
    TITLE_SIZE,
    WIDTH,
    headers,
    legend,
    styled,
    subplots,
)
from tlunet.report.figures.text import text_width, wrap
from tlunet.runs.names import condition, init_name

METRICS = {"dice_image": "Dice", "mla": "MLA"}
KEYS = ["encoder", "init", "frac"]
FEW = 3  # seeds; with fewer, the interval covers only the images
HEADING = "mean [95% interval]"
LABEL = 1.75  # inches, the widest row label
PAD = 0.08  # inches to the left and right of each panel with its texts
SPACE = 0.12  # inches between a panel and its numbers
LINE = 0.135  # inches, height of a line of a row label
ROW = 0.3  # inches, the least height of a row
LIFT = 0.09  # inches from a row's line up to the paper's number and down to the seeds
GREY = "#666666"
NEUTRAL = "#333333"  # in the legend, if the rows have several colours
STRIPE = "#F6F6F6"
SEED: dict[str, Any] = {"color": GREY, "linestyle": "none", "marker": "o", "markersize": 1.8}
PAPER: dict[str, Any] = {
    "color": "black", "linestyle": "none", "marker": "D", "markersize": 4,
    "markerfacecolor": "white", "markeredgewidth": 0.9,
}  # fmt: skip
SETTING = "#0072B2"  # of differences between settings
Row = tuple[str, str, float]  # rows with another first value are separated by a line
Cells = dict[Any, dict[Any, Any]]


class Panel(NamedTuple):
    """A panel of a forest plot: its heading, the name of its x axis, and what each row has."""

    heading: str
    x: str
    cells: Cells


@styled
def forest(gains: pd.DataFrame) -> Figure:
    """Draw the gain from pre-training in Dice and MLA, one row per encoder, init and fraction.

    How to read it: right of the vertical zero line, pre-training is better than random weights.
    The marker is the mean difference, the horizontal line its 95% interval; both are written out
    to the right. A dot below the line is the difference of one seed; an open diamond above it is
    the paper's number. A hollow marker with a dashed line has only one or two seeds: its interval
    says nothing about how much another training would differ.

    Beyond the paper, which states such differences in its text, without intervals.

    Args:
        gains: one row per cell and metric, in any order; differences of scores in [0, 1], so in
            [-1, 1]. Columns `encoder`, `init` (compared with random), `frac` in (0, 1], `metric`
            (`dice_image` and `mla` are drawn), `value` (mean difference), `low` and `high` (95%
            interval; NaN for none), `claimed` (the paper's difference; NaN for none), `n_seeds`
            (int), `seeds` (list with one difference per seed).

    Raises:
        ValueError: the table has no row for either metric, or several for one cell and metric.
    """
    gains = gains[gains["metric"].isin(list(METRICS))]
    grid = order(gains)
    gains = gains.set_index([*KEYS, "metric"])
    if gains.index.has_duplicates:
        first: Any = gains.index[gains.index.duplicated()][0]
        raise ValueError(f"several rows for {first}")
    table: Cells = gains.to_dict("index")
    present = {key[:3] for key in table}
    rows = [(*pair, frac) for pair in grid.pairs for frac in grid.fracs if (*pair, frac) in present]
    base = "pre-trained" if len(grid.inits) > 1 else init_name(grid.inits[0])
    panels = [
        Panel(
            name,
            f"difference in {name} ({base} − random)",
            {row: table[*row, metric] for row in rows if (*row, metric) in table},
        )
        for metric, name in METRICS.items()
    ]
    shades = [colour(init, grid) for _, init, _ in rows]
    return _draw(rows, _labels(rows), panels, shades)


@styled
def settings_forest(differences: pd.DataFrame, sides: tuple[str, str], about: str = "") -> Figure:
    """Draw the differences between settings: one row per score, or one per pair and a panel each.

    How to read it: as :func:`forest`; right of the zero line, the first setting scores higher.

    Args:
        differences: one row per score and pair, in the order to draw. Columns `score` (its name),
            `label` (the condition, and the settings if they vary), and `value`, `low`, `high`,
            `n_seeds` and `seeds` as in :func:`forest`.
        sides: the settings, or how to call them if they vary: first minus second.
        about: the condition that all rows share, written below the panel of a single pair.

    Raises:
        ValueError: the table has no rows.
    """
    if differences.empty:
        raise ValueError("the table has no rows: nothing to draw")
    differences = differences.assign(claimed=np.nan)
    names, compared = list(dict.fromkeys(differences["label"])), " − ".join(sides)
    if len(names) == 1:
        rows = [("", score, 0.0) for score in differences["score"]]
        cells = dict(zip(rows, differences.to_dict("records"), strict=True))
        condition = " · ".join(filter(None, (about, *names)))
        panels = [
            Panel("", ": ".join(filter(None, (condition, f"difference ({compared})"))), cells)
        ]
    else:
        rows = [("", name, 0.0) for name in names]
        panels = [
            Panel(
                str(score),
                f"difference in {score} ({compared})",
                {("", cell["label"], 0.0): cell for cell in of_score.to_dict("records")},
            )
            for score, of_score in differences.groupby("score", sort=False)
        ]
    labels = [wrap(name, LABEL) for _, name, _ in rows]
    return _draw(rows, labels, panels, [SETTING] * len(rows))


def _draw(
    rows: Sequence[Row], labels: Sequence[str], panels: Sequence[Panel], shades: Sequence[str]
) -> Figure:
    """Draw the panels side by side; the rows, their labels and colours are those of all."""
    cells = [cell for panel in panels for cell in panel.cells.values()]
    numbers = [{row: _numbers(cell) for row, cell in panel.cells.items()} for panel in panels]
    height = max(ROW, 0.07 + LINE * max(1 + label.count("\n") for label in labels))
    texts = (HEADING, *(text for of_panel in numbers for text in of_panel.values()))
    column = SPACE + max(text_width(text, MIN_FONT_SIZE) for text in texts)
    n = len(panels)
    width = (WIDTH - 0.1 - 2 * n * PAD - max(map(text_width, labels))) / n - column
    # Wider than the panel: below the numbers there is free space.
    names = [wrap(panel.x, width + column - 0.1, TITLE_SIZE) for panel in panels]
    below = 0.3 + 0.15 * max(1 + name.count("\n") for name in names)
    figure, axes = subplots(1, n, height * len(rows) + 0.3 + below, sharey=True)
    figure.get_layout_engine().set(w_pad=PAD)  # type: ignore[call-arg, union-attr]
    for ax, panel, name, written in zip(axes[0], panels, names, numbers, strict=True):
        _prepare(ax, rows, labels)
        ax.set_xlabel(name)
        _write(ax, -0.5, HEADING, 8, va="baseline", color=GREY)
        for y, (row, own) in enumerate(zip(rows, shades, strict=True)):
            if row in panel.cells:
                _row(ax, y, panel.cells[row], own, LIFT / height)
            text = written.get(row, "no score")
            _write(ax, y, text, color=GREY if text == "no score" else "black")
        _scale(ax, list(panel.cells.values()), width)
    headers(axes[0], [panel.heading for panel in panels], width)
    _stripes(figure, axes[0, 0], rows)
    legend(figure, _handles(cells, shades[0] if len({*shades}) == 1 else NEUTRAL))
    return figure


def _labels(rows: list[Row]) -> list[str]:
    """Name the rows in one line each, or all with the encoder in a line of its own."""
    labels = [condition(*row) for row in rows]
    if max(map(text_width, labels)) > LABEL:
        labels = [f"{encoder}\n{condition(init=init, frac=frac)}" for encoder, init, frac in rows]
    return [wrap(label, LABEL) for label in labels]


def _prepare(ax: Axes, rows: Sequence[Row], labels: Sequence[str]) -> None:
    ax.set_ylim(len(rows) - 0.5, -0.5)  # the first row at the top
    ax.set_yticks(range(len(rows)), labels)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    ax.spines.left.set_visible(False)
    ax.patch.set_visible(False)  # it would cover the stripes
    ax.axvline(0, color="black", linewidth=0.8, zorder=1.5)


def _stripes(figure: Figure, ax: Axes, rows: Sequence[Row]) -> None:
    """Tint every other row over the width of the figure; separate the groups of rows by lines."""
    across: dict[str, Any] = {
        "transform": blended_transform_factory(figure.transFigure, ax.transData),
        "clip_on": False,
        "in_layout": False,
    }
    for y, row in enumerate(rows):
        if y % 2 == 0 and len(rows) > 2:
            ax.fill_between([0, 1], y - 0.5, y + 0.5, color=STRIPE, linewidth=0, zorder=0, **across)
        if y and row[0] != rows[y - 1][0]:
            ax.plot([0, 1], [y - 0.5] * 2, color="#AAAAAA", linewidth=0.6, zorder=0.5, **across)


def _row(ax: Axes, y: int, cell: dict[Any, Any], own: str, lift: float) -> None:
    """Draw a mean with its interval, the seeds `lift` below it and the paper's number above."""
    look = _look(own, cell["n_seeds"] < FEW)
    ends = [cell["low"], cell["high"]]
    ax.plot(ends, [y, y], **look | {"marker": "none"}, label="interval")
    ax.plot(ends, [y, y], color=own, linestyle="none", marker="|", markersize=5)
    ax.plot(cell["value"], y, **look, zorder=3)
    ax.plot(cell["seeds"], [y + lift] * len(cell["seeds"]), **SEED)
    if not np.isnan(cell["claimed"]):
        ax.plot(cell["claimed"], y - lift, **PAPER, zorder=3)


def _look(own: str, few: bool) -> dict[str, Any]:
    """Style a mean and its interval: hollow and dashed if there are only a few seeds."""
    return {
        "color": own,
        "linestyle": (0, (2.5, 1.5)) if few else "-",
        "linewidth": 1.1,
        "marker": "s",
        "markersize": 4.5,
        "markerfacecolor": "white" if few else own,
    }


def _scale(ax: Axes, cells: list[dict[Any, Any]], width: float) -> None:
    """Let the x axis, `width` inches long, contain zero and everything drawn."""
    drawn = [cell[name] for cell in cells for name in ("value", "low", "high", "claimed")]
    drawn += [seed for cell in cells for seed in cell["seeds"]]
    known = np.array([0.0, *(x for x in drawn if not np.isnan(x))])
    margin = max(0.06 * np.ptp(known), 0.01)
    low, high = known.min() - margin, known.max() + margin
    ax.set_xlim(low, high)
    for bins in (5, 4, 3, 2):  # as many ticks as there is room for their labels
        ticks = MaxNLocator(bins, steps=[1, 2, 5, 10]).tick_values(low, high)
        step = ticks[1] - ticks[0]
        digits = max(1, -floor(log10(step) + 1e-6))
        shown = [round(tick, digits) + 0.0 for tick in ticks if low <= tick <= high]
        labels = [f"{tick:.{digits}f}".replace("-", "−") for tick in shown]
        if max(map(text_width, labels)) + 0.1 < width * step / (high - low):
            break
    ax.set_xticks(shown, labels)


def _write(ax: Axes, y: float, text: str, up: float = 0, **style: Any) -> None:
    """Write to the right of the panel, where nothing is drawn."""
    ax.annotate(
        text, (1, y), (72 * SPACE, up), xycoords=ax.get_yaxis_transform(),
        textcoords="offset points", fontsize=MIN_FONT_SIZE, **{"va": "center_baseline"} | style,
    )  # fmt: skip


def _numbers(cell: dict[Any, Any]) -> str:
    """Write a mean and its interval.

    >>> _numbers({"value": 0.354, "low": -0.0871, "high": 0.4328})
    '+0.354 [−0.087, +0.433]'
    """
    if np.isnan(cell["value"]):
        return "no score"
    if np.isnan(cell["low"]) or np.isnan(cell["high"]):
        return f"{_signed(cell['value'])} (no interval)"
    return f"{_signed(cell['value'])} [{_signed(cell['low'])}, {_signed(cell['high'])}]"


def _signed(x: float) -> str:
    return f"{x:+.3f}".replace("-", "−")


def _handles(cells: Sequence[dict[Any, Any]], own: str) -> list[Line2D]:
    """Explain the marks that are drawn."""
    few = [bool(cell["n_seeds"] < FEW) for cell in cells if not np.isnan(cell["value"])]
    looks: dict[str, dict[str, Any]] = {}
    if not all(few):
        looks["mean and its 95% interval"] = _look(own, few=False)
    if any(few):
        looks["one or two seeds: interval over images only"] = _look(own, few=True)
    if any(len(cell["seeds"]) for cell in cells):
        looks["one seed"] = SEED
    if not all(np.isnan(cell["claimed"]) for cell in cells):
        looks["the paper"] = PAPER
    return [Line2D([], [], **look, label=label) for label, look in looks.items()]
