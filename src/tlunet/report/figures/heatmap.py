"""Heat map of the gain from pre-training: one row per condition, one column per class."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from tlunet.report.figures.marks import order
from tlunet.report.figures.style import TITLE_SIZE, WIDTH, styled
from tlunet.report.figures.text import FONT_SIZE, text_width, wrap
from tlunet.runs.names import condition

COLOURS = "PuOr_r"  # violet: worse, orange: better; readers of any colour vision can tell
LABEL = 1.9  # inches, the widest row label
ROW = 0.36  # inches


@styled
def gain_by_class(comparisons: pd.DataFrame, classes: list[str]) -> Figure:
    """Draw the gain in Dice of every class under every condition.

    How to read it: orange is better with pre-training, violet worse; the number is the mean
    difference over seeds. It is bold where its 95% interval excludes zero, and grey where it
    includes zero. "–": no test image shows the class.

    The paper has no such figure.

    Args:
        comparisons: rows of ``comparisons.csv`` of the factor ``init`` with the metrics
            ``dice_class_1`` … ``dice_class_M``.
        classes: M names.

    Raises:
        ValueError: the table has no rows.
    """
    grid = order(comparisons)
    table = comparisons.set_index(["encoder", "init", "frac", "metric"])
    present = {key[:3] for key in table.index}
    rows = [(*pair, frac) for pair in grid.pairs for frac in grid.fracs if (*pair, frac) in present]
    names = [f"dice_class_{m}" for m in range(1, len(classes) + 1)]
    values = np.array([[_at(table, (*row, name), "difference") for name in names] for row in rows])
    labels = [wrap(condition(*row), LABEL) for row in rows]
    room = (WIDTH - max(map(text_width, labels)) - 0.9) / len(classes)
    heads = [wrap(name, room - 0.06) for name in classes]
    lines = max(label.count("\n") for label in labels)
    height = (ROW + 0.13 * lines) * len(rows) + 0.55 + 0.14 * max(h.count("\n") for h in heads)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    ax = figure.subplots()
    largest = max(0.05, float(np.nanmax(np.abs(values), initial=0.0)))
    image = ax.imshow(values, COLOURS, norm=TwoSlopeNorm(0, -largest, largest), aspect="auto")
    ax.set_xticks(range(len(classes)), heads)
    ax.set_yticks(range(len(rows)), labels)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    for y, row in enumerate(rows):
        for x, name in enumerate(names):
            _write(ax, x, y, table, (*row, name), largest)
    bar = figure.colorbar(image, ax=ax, pad=0.02, aspect=max(6, 5 * height))
    bar.set_label(wrap("gain in Dice", height - 0.2, TITLE_SIZE))
    bar.outline.set_visible(False)
    return figure


def _at(table: pd.DataFrame, key: tuple[str, str, float, str], column: str) -> float:
    return float(table.loc[key, column]) if key in table.index else np.nan  # type: ignore[arg-type]


def _write(
    ax: Axes,
    x: int,
    y: int,
    table: pd.DataFrame,
    key: tuple[str, str, float, str],
    largest: float,
) -> None:
    value, low, high = (_at(table, key, name) for name in ("difference", "low", "high"))
    text = "–" if np.isnan(value) else f"{value:+.2f}".replace("-", "−")
    is_clear = low > 0 or high < 0
    is_dark = abs(value) > 0.7 * largest
    colour = "white" if is_dark else "black" if is_clear else "#555555"
    ax.text(
        x, y, text, ha="center", va="center", fontsize=FONT_SIZE, color=colour,
        fontweight="bold" if is_clear else "normal",
    )  # fmt: skip
