"""Curves of the label probabilities, one line per class: ROC, precision-recall, reliability.

There is one panel per encoder, initialisation and fraction; headers name what a row or column of
panels has in common. Probabilities of different networks are not comparable, so seeds are never
pooled before thresholding: `roc` and `precision_recall` draw the average of the seeds' curves.
"""

from collections.abc import Callable, Iterator
from math import ceil
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tlunet.model.curves import Floats, Labels, precision_points, roc_points
from tlunet.model.scores import average_precision, roc_auc
from tlunet.report.figures.marks import cells, order
from tlunet.report.figures.panels import Panels, axis_names, class_looks, make_panels
from tlunet.report.figures.style import MIN_FONT_SIZE, empty, legend, styled
from tlunet.report.figures.text import FONT_SIZE, wrap


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
) -> Panels:
    """Draw a panel per cell and a line per class, with scores below and the mean in the title.

    The legend of the classes is above all panels; the scores are in its order.
    """
    grid, parts, classes = order(labels), cells(labels), class_looks(labels)
    seeds = {
        key: {m: list(_seeds(part[part["class_id"] == m])) for m in classes}
        for key, part in ((k, p[["seed", "class_id", "label", "prob"]]) for k, p in parts.items())
    }
    scores = {
        key: [_mean([score(*seed) for seed in own]) for own in by_class.values()]
        for key, by_class in seeds.items()
    }
    lines = ceil(len(classes) / 4)  # at least four scores fit side by side
    panels = make_panels(grid, parts, 0.3 + 0.14 * lines)
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
    axis_names(panels.figure, "false positive rate", "true positive rate")
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
    axis_names(panels.figure, "recall", "precision")
    return panels.figure
