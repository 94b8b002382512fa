"""Curves of the label probabilities, one line per class: ROC, precision-recall, reliability.

There is one panel per encoder, initialisation and fraction; headers name what a row or column of
panels has in common. Probabilities of different networks are not comparable, so seeds are never
pooled before thresholding: `roc` and `precision_recall` draw the average of the seeds' curves.
"""

from collections.abc import Callable, Collection, Iterator
from itertools import product
from math import ceil, prod
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

from tlunet.model.curves import Floats, Labels, precision_points, roc_points
from tlunet.model.scores import average_precision, roc_auc
from tlunet.report.figures.style import (
    COLOURS,
    FONT_SIZE,
    MIN_FONT_SIZE,
    TITLE_SIZE,
    WIDTH,
    Grid,
    cells,
    condition,
    empty,
    headers,
    legend,
    order,
    row_header,
    styled,
    wrap,
)

LINES = ("-", "--", "-.", ":")  # also encodes the class, for print in greyscale
MAX_COLUMNS = 4
TALLEST = 2.0  # inches, a panel below which there are others
FEWEST = 5  # predictions needed to draw a bin


def mean_roc(curves: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Average ROC curves vertically (Fawcett 2006, algorithm 3), exactly instead of on a grid.

    The average is taken at every false positive rate at which any curve bends, from below and
    from above a jump: its area is the mean of the areas, and a single curve is unchanged.
    """
    x = np.unique(np.concatenate([fpr for fpr, _ in curves]))
    # Where a curve jumps, np.interp uses the last of the equal abscissae: the upper end going
    # right, the lower end going left.
    low = np.mean([np.interp(-x, -fpr[::-1], tpr[::-1]) for fpr, tpr in curves], axis=0)
    high = np.mean([np.interp(x, fpr, tpr) for fpr, tpr in curves], axis=0)
    return np.repeat(x, 2), np.stack([low, high], axis=1).ravel()


def mean_precision(curves: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Average precision-recall steps vertically; draw the result with `steps-pre`.

    Each step extends from the previous recall to its own, as in the sum of average precision, so
    the area under the average is the mean of the average precisions.
    """
    x = np.unique(np.concatenate([recall for recall, _ in curves]))
    x = np.append(0.0, x[x > 0])
    steps = [p[np.searchsorted(r, np.maximum(x, r[r > 0].min()))] for r, p in curves]
    return x, np.mean(steps, axis=0)


def calibration(label: Labels, prob: Floats, bins: int) -> pd.DataFrame:
    """Tabulate predicted vs. observed frequencies in bins of equal width over [0, 1].

    Returns:
        One row per bin: `n` predictions, `predicted` their mean probability, `observed` the
        fraction that is true; the latter two are NaN in an empty bin.

    >>> calibration(np.array([True, False]), np.array([0.9, 0.7]), 2)["predicted"].tolist()
    [nan, 0.8]
    """
    place = np.minimum((prob * bins).astype(np.int64), bins - 1)
    rows = pd.DataFrame({"place": place, "predicted": prob, "observed": label.astype(np.float64)})
    by_bin = rows.groupby("place")
    table = by_bin.mean().assign(n=by_bin.size()).reindex(range(bins))
    return table.assign(n=table["n"].fillna(0).astype(np.int64))


def calibration_error(label: Labels, prob: Floats, bins: int) -> float:
    """Compute the expected calibration error, Σ n_b / N |observed - predicted|.

    Reference: Guo et al. (2017), eq. 3.

    >>> calibration_error(np.array([True, False]), np.array([0.9, 0.7]), 2).__round__(3)
    0.3
    """
    table = calibration(label, prob, bins)
    gaps = (table["observed"] - table["predicted"]).abs()
    return float((gaps * table["n"]).sum() / table["n"].sum())


class _Panels(NamedTuple):
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


def _across(
    levels: dict[str, list[Any]], present: Collection[tuple[str, str, float]] = ()
) -> tuple[str, ...]:
    """Choose the factors shown as columns; the others are the rows.

    Leaves as few panels empty as possible, then uses as many columns as fit. For equal counts the
    encoders are rows, which have more room for long names.

    Args:
        levels: encoders, initialisations and fractions.
        present: the cells (encoder, init, frac) of the grid; default: all.

    >>> _across({"encoder": ["resnet", "densenet"], "init": ["random"], "frac": [1.0, 0.5]})
    ('frac', 'encoder')
    """
    choices: list[tuple[str, ...]] = [("frac", "init"), ("frac",), ("init",), ("encoder", "init")]
    choices += [("encoder",), ("frac", "encoder")]
    columns = {choice: prod(len(levels[name]) for name in choice) for choice in choices}
    fitting = [choice for choice in choices if columns[choice] <= MAX_COLUMNS]
    if present and fitting:
        size = {choice: columns[choice] * len(_rows(present, choice)) for choice in fitting}
        fitting = [choice for choice in fitting if size[choice] == min(size.values())]
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


def _panels(
    grid: Grid,
    present: Collection[tuple[str, str, float]],
    extra: float,
    below: float = 0.0,
) -> _Panels:
    """Create panels, square if there are few, optionally with a strip below each.

    Args:
        grid: encoders, initialisations and fractions.
        present: the cells (encoder, init, frac) that there are.
        extra: inches needed above and below a panel.
        below: height of the strip relative to the panel; 0 for no strip.
    """
    levels: dict[str, list[Any]] = {f: getattr(grid, f"{f}s") for f in ("encoder", "init", "frac")}
    across = _across(levels, present)
    columns, rows = (
        [dict(zip(names, values, strict=True)) for values in product(*(levels[n] for n in names))]
        for names in (across, tuple(name for name in levels if name not in across))
    )
    rows = [row for row in rows if any(_pair(row | column) in grid.pairs for column in columns)]
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
    return _Panels(figure, panels, list(axes[0]), texts, side)


def _pair(cell: dict[str, Any]) -> tuple[str, str]:
    return cell["encoder"], cell["init"]


def _axis_names(figure: Figure, x: str, y: str) -> None:
    """Label the axes for all panels together."""
    figure.supxlabel(wrap(x, figure.get_figwidth() - 0.3, TITLE_SIZE))
    figure.supylabel(wrap(y, figure.get_figheight() - 0.8, TITLE_SIZE))


def _classes(labels: pd.DataFrame) -> dict[int, tuple[str, dict[str, Any]]]:
    """Return the name and line style of each class."""
    names = labels.drop_duplicates("class_id").sort_values("class_id")
    return {
        class_id: (str(name), {"color": COLOURS[m % len(COLOURS)], "linestyle": LINES[m % 4]})
        for m, (class_id, name) in enumerate(
            zip(names["class_id"], names["class_name"], strict=True)
        )
    }


def _seeds(part: pd.DataFrame) -> Iterator[tuple[Labels, Floats]]:
    """Yield (label, prob) of each seed's network."""
    for _, own in part.groupby("seed"):
        yield own["label"].to_numpy(dtype=bool), own["prob"].to_numpy(dtype=np.float64)


def _mean(values: list[float | None]) -> float | None:
    """Average; ``None`` if any value is: a mean over fewer seeds would be a different quantity."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _say(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"


def _per_class(
    labels: pd.DataFrame,
    name: str,
    score: Callable[[Labels, Floats], float | None],
    draw: Callable[[Axes, list[tuple[Labels, Floats]], dict[str, Any]], None],
) -> _Panels:
    """Draw a panel per cell and a line per class, with scores below and the mean in the title.

    The legend of the classes is above all panels; the scores are in its order.
    """
    grid, parts, classes = order(labels), cells(labels), _classes(labels)
    seeds = {
        key: {m: list(_seeds(part[part["class_id"] == m])) for m in classes}
        for key, part in ((k, p[["seed", "class_id", "label", "prob"]]) for k, p in parts.items())
    }
    scores = {
        key: [_mean([score(*seed) for seed in own]) for own in by_class.values()]
        for key, by_class in seeds.items()
    }
    lines = ceil(len(classes) / 4)  # at least four scores fit side by side
    panels = _panels(grid, parts, 0.3 + 0.14 * lines)
    for key, (ax,) in panels.axes.items():
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        if key not in parts:
            empty(ax, "no run")
            continue
        for (m, (_, look)), mean in zip(classes.items(), scores[key], strict=True):
            if mean is None:
                ax.plot([], [], **look, label=_say(mean))
            else:
                draw(ax, seeds[key][m], look | {"label": _say(mean)})
        known = [mean for mean in scores[key] if mean is not None]
        ax.set_title(f"mean {name} {_say(_mean([*known]))}", fontsize=FONT_SIZE)
        _scores_below(ax, [_say(mean) for mean in scores[key]], panels.width)
    panels.label()
    handles = [Line2D([], [], **look, label=class_name) for class_name, look in classes.values()]
    legend(panels.figure, handles, above=True)
    return panels


def _scores_below(ax: Axes, texts: list[str], width: float) -> None:
    """Write scores below a panel, `width` inches wide, in the order of the legend."""
    place = ax.get_subplotspec()
    ticks = 17 if place is None or place.is_last_row() else 5  # points
    text = wrap(" · ".join(texts), width, MIN_FONT_SIZE)
    ax.annotate(
        text, (0.5, 0), (0, -ticks), xycoords="axes fraction", textcoords="offset points",
        ha="center", va="top", fontsize=MIN_FONT_SIZE,
    )  # fmt: skip


@styled
def roc(labels: pd.DataFrame) -> Figure:
    """Draw Figure 6: a ROC curve per class, with the mean AUC over the classes in the title.

    How to read it: closer to the upper left is better; the grey diagonal is chance. Each class is
    compared with all others. A curve is the vertical average of the seeds' curves (`mean_roc`),
    the AUC below the panel is the mean of the seeds' AUCs. A class without positives or without
    negatives in the test set is "undefined" and excluded from the mean in the title.

    Paper Fig. 6 has one training per panel; here panels average several, for every fraction.

    Args:
        labels: columns `encoder, init, frac, seed, image_id, class_id, class_name, label` (bool),
            `prob` in [0, 1].

    Raises:
        ValueError: the table has no rows.
    """

    def draw(ax: Axes, seeds: list[tuple[Labels, Floats]], look: dict[str, Any]) -> None:
        ax.plot(*mean_roc([roc_points(*seed) for seed in seeds]), **look)

    panels = _per_class(labels, "AUC", roc_auc, draw)
    for (ax,) in panels.axes.values():
        ax.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, zorder=1)
    _axis_names(panels.figure, "false positive rate", "true positive rate")
    return panels.figure


@styled
def precision_recall(labels: pd.DataFrame) -> Figure:
    """Draw a precision-recall curve per class, with the mean average precision (AP) in the title.

    How to read it: closer to the upper right is better; the thin dotted line is the frequency of
    the class in the test set, which is the precision of random guessing. For rare classes this
    figure is more informative than the ROC curve (Davis and Goadrich 2006). Seeds and undefined
    classes are treated as in `roc`.

    The paper has no such figure.

    Args:
        labels: as for `roc`.

    Raises:
        ValueError: the table has no rows.
    """

    def draw(ax: Axes, seeds: list[tuple[Labels, Floats]], look: dict[str, Any]) -> None:
        ax.plot(*mean_precision([precision_points(*s) for s in seeds]), **look, ds="steps-pre")
        prevalence = float(np.mean([label.mean() for label, _ in seeds]))
        ax.axhline(prevalence, color=look["color"], linestyle=":", linewidth=0.8)

    panels = _per_class(labels, "AP", average_precision, draw)
    _axis_names(panels.figure, "recall", "precision")
    return panels.figure


@styled
def reliability(labels: pd.DataFrame, bins: int = 10) -> Figure:
    """Draw calibration curves: observed frequency vs. mean predicted probability.

    How to read it: on the diagonal, 70% of the images with a predicted probability of 70% show
    the class; below it the network is overconfident. Bins have equal width; those with fewer than
    five predictions are not drawn. Seeds are pooled, which is valid here: each probability is
    compared with its own image, not with another network's probability. The strip below shows the
    number of predictions per bin (logarithmic). The expected calibration error in the title (ECE;
    Guo et al. 2017, eq. 3) covers all predictions of all classes, including small bins.

    The paper has no such figure.

    Args:
        labels: as for `roc`.
        bins: number of bins.

    Raises:
        ValueError: the table has no rows.
    """
    grid, parts, classes = order(labels), cells(labels), _classes(labels)
    panels = _panels(grid, parts, 0.4, below=0.25)
    most = 1
    for key, (ax, under) in panels.axes.items():
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        if key not in parts:
            empty(ax, "no run")
            continue
        part = parts[key]
        label, prob = part["label"].to_numpy(dtype=bool), part["prob"].to_numpy(dtype=np.float64)
        ax.set_title(f"ECE {calibration_error(label, prob, bins):.3f}", fontsize=FONT_SIZE)
        ax.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, zorder=1)
        for class_id, (_, look) in classes.items():
            own = part["class_id"].to_numpy() == class_id
            table = calibration(label[own], prob[own], bins)
            table = table[table["n"] >= FEWEST]
            ax.plot(table["predicted"], table["observed"], **look, marker=".")
        counts = calibration(label, prob, bins)["n"]
        centres = (np.arange(bins) + 0.5) / bins
        under.bar(centres, counts, 0.9 / bins, color="#999999")
        most = max(most, counts.max())
    for _, under in panels.axes.values():
        under.set(yscale="log", ylim=(0.8, 2 * most))
        under.set_yticks([10**k for k in range(0, len(str(most)), 1 if most < 100 else 2)])
        under.yaxis.set_major_formatter(LogFormatter())
        under.minorticks_off()
    panels.label()
    handles = [Line2D([], [], **look, marker=".", label=name) for name, look in classes.values()]
    legend(panels.figure, handles, above=True)
    names = "mean predicted probability", "observed frequency (strips: number of predictions)"
    _axis_names(panels.figure, *names)
    return panels.figure
