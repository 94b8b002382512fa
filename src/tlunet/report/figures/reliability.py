"""Calibration of the label probabilities: predicted vs. observed frequency."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

from tlunet.model.curves import Floats, Labels
from tlunet.report.figures.marks import cells, order
from tlunet.report.figures.panels import axis_names, class_looks, make_panels
from tlunet.report.figures.style import empty, legend, styled
from tlunet.report.figures.text import FONT_SIZE

FEWEST = 5  # predictions needed to draw a bin


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
    grid, parts, classes = order(labels), cells(labels), class_looks(labels)
    panels = make_panels(grid, parts, 0.4, below=0.25)
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
    axis_names(panels.figure, *names)
    return panels.figure
