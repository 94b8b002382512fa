"""Curves of the label probabilities, a line per class: ROC, precision-recall, reliability.

One panel per encoder, initialisation and fraction. Probabilities of
different networks are not comparable, so seeds are never pooled before a threshold is taken:
`roc` and `precision_recall` draw the average of the seeds' own curves.
"""

from collections.abc import Callable, Iterator
from math import ceil
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

from tlunet.model.curves import Floats, Labels, precision_points, roc_points
from tlunet.model.scores import average_precision, roc_auc
from tlunet.report.style import (
    COLOURS,
    Grid,
    cell_name,
    cells,
    empty,
    legend,
    order,
    styled,
    subplots,
)

LINES = ("-", "--", "-.", ":")  # a second mark of the class, for print in grey
MAX_COLUMNS = 4
FEWEST = 5  # predictions a bin needs to be drawn


def mean_roc(curves: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """The vertical average (Fawcett 2006, algorithm 3) of ROC curves; exact, not on a coarse grid.

    Taken at every false positive rate at which any curve bends, from below and from above a jump:
    the area under it is the mean of the areas, and of one curve it is the curve itself.
    """
    x = np.unique(np.concatenate([fpr for fpr, _ in curves]))
    # Where a curve jumps, np.interp takes the last of the equal abscissae: the upper end going
    # right, the lower end going left.
    low = np.mean([np.interp(-x, -fpr[::-1], tpr[::-1]) for fpr, tpr in curves], axis=0)
    high = np.mean([np.interp(x, fpr, tpr) for fpr, tpr in curves], axis=0)
    return np.repeat(x, 2), np.stack([low, high], axis=1).ravel()


def mean_precision(curves: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """The vertical average of precision-recall steps, to be drawn with `steps-pre`.

    Each step reaches back from its recall to the one before, as average precision sums them: the
    area under the average is the mean of the average precisions.
    """
    x = np.unique(np.concatenate([recall for recall, _ in curves]))
    x = np.append(0.0, x[x > 0])
    steps = [p[np.searchsorted(r, np.maximum(x, r[r > 0].min()))] for r, p in curves]
    return x, np.mean(steps, axis=0)


def calibration(label: Labels, prob: Floats, bins: int) -> pd.DataFrame:
    """Predicted against observed in bins of equal width over [0, 1].

    Returns:
        A row a bin: `n` predictions, `predicted` their mean probability, `observed` the share of
        them that is true; the latter two NaN in an empty bin.

    >>> calibration(np.array([True, False]), np.array([0.9, 0.7]), 2)["predicted"].tolist()
    [nan, 0.8]
    """
    place = np.minimum((prob * bins).astype(np.int64), bins - 1)
    rows = pd.DataFrame({"place": place, "predicted": prob, "observed": label.astype(np.float64)})
    by_bin = rows.groupby("place")
    table = by_bin.mean().assign(n=by_bin.size()).reindex(range(bins))
    return table.assign(n=table["n"].fillna(0).astype(np.int64))


def calibration_error(label: Labels, prob: Floats, bins: int) -> float:
    """Expected calibration error: Σ n_b / N |observed - predicted| (Guo et al. 2017, eq. 3).

    >>> calibration_error(np.array([True, False]), np.array([0.9, 0.7]), 2).__round__(3)
    0.3
    """
    table = calibration(label, prob, bins)
    gaps = (table["observed"] - table["predicted"]).abs()
    return float((gaps * table["n"]).sum() / table["n"].sum())


def _panels(grid: Grid, height: float, below: float = 0.0) -> tuple[Figure, dict[Any, list[Axes]]]:
    """Axes for each (encoder, init, frac): a square panel, and a strip `below` it (in its height).

    Args:
        grid: what there is.
        height: of one panel with all that belongs to it, in its widths.
        below: 0 for no strip.
    """
    lines = ceil(len(grid.pairs) / MAX_COLUMNS)  # of one fraction
    wide = ceil(len(grid.pairs) / lines)
    beside = min(len(grid.fracs), MAX_COLUMNS // wide)  # fractions in one row
    columns = wide * beside
    side = 1.8 if columns > 2 else 2.4  # inches
    deep = 2 if below else 1
    rows = ceil(len(grid.fracs) / beside) * lines * deep
    figure, axes = subplots(
        rows, columns, height * side / deep,
        sharex=True, sharey="row", height_ratios=[1.0, below][:deep] * (rows // deep),
    )  # fmt: skip
    figure.set_figwidth(side * max(columns, 1.5))
    panels: dict[Any, list[Axes]] = {}
    for f, frac in enumerate(grid.fracs):
        for k, pair in enumerate(grid.pairs):
            row = (f // beside * lines + k // wide) * deep
            panels[*pair, frac] = list(axes[row : row + deep, f % beside * wide + k % wide])
            panels[*pair, frac][-1].tick_params(labelbottom=True)
    used = {ax for panel in panels.values() for ax in panel}
    for ax in axes.ravel():
        if ax not in used:
            ax.remove()
    return figure, panels


def _title(ax: Axes, key: tuple[str, str, float], score: str = "") -> None:
    ax.set_title(f"{cell_name(*key[:2])}\n{100 * key[2]:.3g} % data{score}", fontsize=7.5)


def _classes(labels: pd.DataFrame) -> dict[int, tuple[str, dict[str, Any]]]:
    """Name and look of each class."""
    names = labels.drop_duplicates("class_id").sort_values("class_id")
    return {
        class_id: (str(name), {"color": COLOURS[m % len(COLOURS)], "linestyle": LINES[m % 4]})
        for m, (class_id, name) in enumerate(
            zip(names["class_id"], names["class_name"], strict=True)
        )
    }


def _seeds(part: pd.DataFrame) -> Iterator[tuple[Labels, Floats]]:
    """(label, prob) of each seed's network."""
    for _, own in part.groupby("seed"):
        yield own["label"].to_numpy(dtype=bool), own["prob"].to_numpy(dtype=np.float64)


def _mean(values: list[float | None]) -> float | None:
    """None if any is: the mean over other seeds would be another quantity."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _say(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"


def _per_class(
    labels: pd.DataFrame,
    name: str,
    score: Callable[[Labels, Floats], float | None],
    draw: Callable[[Axes, list[tuple[Labels, Floats]], dict[str, Any]], None],
) -> tuple[Figure, dict[Any, list[Axes]]]:
    """A panel per cell, a line per class; its score in the legend, their mean in the title."""
    grid, parts, classes = order(labels), cells(labels), _classes(labels)
    # Legends wider than their panel would leave no room for it.
    columns = 2 if max(len(class_name) for class_name, _ in classes.values()) <= 4 else 1
    figure, panels = _panels(grid, 1.25 + 0.075 * ceil(len(classes) / columns))
    for key, (ax,) in panels.items():
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        if key not in parts:
            _title(ax, key)
            empty(ax, "no run")
            continue
        part = parts[key][["seed", "class_id", "label", "prob"]]
        scores = []
        for class_id, (class_name, look) in classes.items():
            seeds = list(_seeds(part[part["class_id"] == class_id]))
            mean = _mean([score(*seed) for seed in seeds])
            label = f"{class_name}: {_say(mean)}"
            if mean is None:
                ax.plot([], [], **look, label=label)
            else:
                draw(ax, seeds, look | {"label": label})
                scores.append(mean)
        _title(ax, key, f", mean {name} {_say(_mean([*scores]))}")
        ax.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=columns, fontsize=6.5,
            handlelength=2.2, columnspacing=1, borderaxespad=0.3,
        )  # fmt: skip
    return figure, panels


@styled
def roc(labels: pd.DataFrame) -> Figure:
    """Figure 6: a ROC curve per class, the mean area (AUC) over the classes in the title.

    How to read it: the further to the upper left, the better; the grey diagonal is chance. Each
    class against all others. A curve is the vertical average of the seeds' curves
    (`mean_roc`), the AUC in the legend the mean of the seeds' AUCs. A class of which the test
    images hold no positives, or no negatives, is "undefined" and left out of the title's mean.

    Paper Fig. 6: one training a panel; here: the average of several, every fraction.

    Args:
        labels: columns `encoder, init, frac, seed, image_id, class_id, class_name, label` (bool),
            `prob` in [0, 1].

    Raises:
        ValueError: the table has no rows.
    """

    def draw(ax: Axes, seeds: list[tuple[Labels, Floats]], look: dict[str, Any]) -> None:
        ax.plot(*mean_roc([roc_points(*seed) for seed in seeds]), **look)

    figure, panels = _per_class(labels, "AUC", roc_auc, draw)
    for (ax,) in panels.values():
        ax.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, zorder=1)
    figure.supxlabel("false positive rate", fontsize=8.5)
    figure.supylabel("true positive rate", fontsize=8.5)
    return figure


@styled
def precision_recall(labels: pd.DataFrame) -> Figure:
    """A precision-recall curve per class, the mean average precision (AP) in the title.

    How to read it: the further to the upper right, the better; the thin dotted line is the
    class's share among the test images, the precision of guessing. For rare classes this says
    more than the ROC curve (Davis and Goadrich 2006). Seeds and undefined classes as in `roc`.

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

    figure, _ = _per_class(labels, "AP", average_precision, draw)
    figure.supxlabel("recall", fontsize=8.5)
    figure.supylabel("precision", fontsize=8.5)
    return figure


@styled
def reliability(labels: pd.DataFrame, bins: int = 10) -> Figure:
    """Are the probabilities honest? Observed frequency against mean predicted probability.

    How to read it: on the diagonal, of the images given 70 %, 70 % show the class; below it the
    network is overconfident. Bins have equal width; those with fewer than five predictions are
    left out of the curves. Seeds are pooled: each probability is held against its own image, none
    against another network's. Underneath, how many predictions fall in each bin (logarithmic).
    The title's expected calibration error (ECE; Guo et al. 2017, eq. 3) is over all predictions
    of all classes together, small bins too.

    The paper has no such figure.

    Args:
        labels: as for `roc`.
        bins: how many.

    Raises:
        ValueError: the table has no rows.
    """
    grid, parts, classes = order(labels), cells(labels), _classes(labels)
    figure, panels = _panels(grid, 1.6, below=0.25)
    most = 1
    for key, (ax, under) in panels.items():
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        if key not in parts:
            _title(ax, key)
            empty(ax, "no run")
            continue
        part = parts[key]
        label, prob = part["label"].to_numpy(dtype=bool), part["prob"].to_numpy(dtype=np.float64)
        _title(ax, key, f", ECE {calibration_error(label, prob, bins):.3f}")
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
    for _, under in panels.values():
        under.set(yscale="log", ylim=(0.8, 2 * most))
        under.set_yticks([10**k for k in range(0, len(str(most)), 2)])
        under.yaxis.set_major_formatter(LogFormatter())
        under.minorticks_off()
    figure.supxlabel("mean predicted probability", fontsize=8.5)
    figure.supylabel("observed frequency (below: number of predictions)", fontsize=8.5)
    handles = [Line2D([], [], **look, marker=".", label=name) for name, look in classes.values()]
    legend(figure, handles, above=True)
    return figure
