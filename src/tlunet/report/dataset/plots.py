"""Figures of a data set: each draws into axes, so that page and sheet can share them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from tlunet.data.checks.summary import PARTS
from tlunet.report.dataset.facts import Facts
from tlunet.report.dataset.pictures import colours
from tlunet.report.figures.fonts import drawable
from tlunet.report.figures.style import WIDTH, empty, styled

NO_DEFECT = "#9AA0A6"
COMBINATIONS = 12
ANNOTATED = 12  # up to this many classes, the matrix has room for numbers
BINS = 40
PART_MARKS = {"train": ("o", "#000000"), "val": ("s", "#0072B2"), "test": ("^", "#D55E00")}


@styled
def figure(facts: Facts, *draw: Callable[[Facts, Axes], None], height: float) -> Figure:
    """Draw a figure of page width with its panels side by side.

    Args:
        facts: what to draw.
        draw: functions of this module, one per panel.
        height: in inches.
    """
    drawing = Figure(figsize=(WIDTH, height), layout="constrained")
    facts = with_drawable_names(facts)
    for axes, function in zip(drawing.subplots(1, len(draw), squeeze=False)[0], draw, strict=True):
        function(facts, axes)
    return drawing


def with_drawable_names(facts: Facts) -> Facts:
    """Return the same facts; a class whose name no font can draw is named by its number."""
    source = facts.survey.source
    source = replace(source, classes=tuple(drawable(source.classes)))
    return replace(facts, survey=facts.survey._replace(source=source))


def height_of(rows: int) -> float:
    """Height in inches of a panel with this many horizontal bars."""
    return 0.75 + 0.27 * rows


def images_by_class(facts: Facts, ax: Axes) -> None:
    """Plot the number of images that show each class, and that show none."""
    labels = facts.survey.labels
    counts = [*labels.sum(0).tolist(), int((~labels.any(1)).sum())]
    total = len(labels)
    texts = [f"{n:,} ({percent(n / total)})" for n in counts]
    _bars(ax, [*facts.names, "no defect"], counts, texts, [*colours(len(facts.names)), NO_DEFECT])
    ax.set_title("Images that show a class")
    ax.set_xlabel("images")


def pixels_by_class(facts: Facts, ax: Axes) -> None:
    """Plot the fraction of all defect pixels that belongs to each class."""
    pixels = facts.survey.pixels.sum(0)
    shares = pixels / max(1, pixels.sum())
    texts = [percent(share) for share in shares]
    _bars(ax, list(facts.names), (100 * shares).tolist(), texts, colours(len(facts.names)))
    ax.set_title("Defect pixels by class")
    ax.set_xlabel("% of all defect pixels")


def together(facts: Facts, ax: Axes) -> None:
    """Plot the number of images in which two classes occur together."""
    labels = facts.survey.labels.astype(np.int64)
    both = labels.T @ labels  # (M, M)
    alone = np.maximum(np.diag(both), 1)[:, None]
    M = len(facts.names)
    ax.imshow(both / alone, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    ax.set_xticks(range(M), [_short(name) for name in facts.names], rotation=30, ha="right")
    ax.set_yticks(range(M), [_short(name) for name in facts.names])
    ax.grid(visible=False)
    ax.set_title("Images that show both classes")
    if M <= ANNOTATED:
        for (row, column), n in np.ndenumerate(both):
            dark = n / alone[row, 0] > 0.55
            ax.text(column, row, f"{n:,}", ha="center", va="center", fontsize=7.5,
                    color="white" if dark else "black")  # fmt: skip


def combinations(facts: Facts, ax: Axes) -> None:
    """Plot the most frequent combinations of classes."""
    shown = facts.combinations[:COMBINATIONS]
    names = [_short(facts.named(c.classes), 34) for c in shown]
    of_class = colours(len(facts.names))
    tints = [
        NO_DEFECT if not c.classes else of_class[c.classes[0]] if len(c.classes) == 1 else "#555555"
        for c in shown
    ]
    counts = [len(c.rows) for c in shown]
    _bars(ax, names, counts, [f"{n:,}" for n in counts], tints)
    more = len(facts.combinations) - len(shown)
    ax.set_title("Combinations of classes" + (f" (and {more} rarer ones)" if more else ""))
    ax.set_xlabel("images")


def region_sizes(facts: Facts, ax: Axes) -> None:
    """Plot the sizes of each class's regions on a logarithmic axis."""
    M, regions = len(facts.names), facts.survey.regions
    largest = max((int(areas.max()) for areas in regions if len(areas)), default=0)
    if not largest:
        empty(ax, "no defect in these images")
        return
    edges = np.geomspace(0.8, max(10, 1.25 * largest), BINS + 1)
    for m, (areas, colour) in enumerate(zip(regions, colours(M), strict=True)):
        place = M - 1 - m  # the first class on top
        if not len(areas):
            ax.text(edges[0], place + 0.1, "  none", color="#555555", fontsize=7.5)
            continue
        counts, _ = np.histogram(areas, edges)
        ax.stairs(place + 0.78 * counts / counts.max(), edges, baseline=place, fill=True,
                  facecolor=colour, edgecolor="#333333", linewidth=0.5)  # fmt: skip
        low, middle, high = np.percentile(areas, (25, 50, 75))
        ax.plot([low, high], [place - 0.05] * 2, color="black", linewidth=2, solid_capstyle="butt")
        ax.plot([middle], [place - 0.05], "o", color="#D00000", markersize=4)
    ax.set_yticks(range(M), [_short(name) for name in reversed(facts.names)])
    ax.set_ylim(-0.3, M)
    ax.set_xscale("log")
    ax.set_xlim(edges[0], edges[-1])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.grid(visible=False, axis="y")
    ax.set_title("Sizes of defect regions")
    ax.set_xlabel("pixels (logarithmic); bar: interquartile range, red: median")


def split_balance(facts: Facts, ax: Axes) -> None:
    """Plot the fraction of each part of the split that shows a class; equal is good."""
    if facts.summary.split is None:
        empty(ax, "no split: too few images")
        return
    names = [*facts.names, "no defect"]
    labels = facts.survey.labels
    labels = np.column_stack([labels, ~labels.any(1)])
    for part in PARTS:
        marker, colour = PART_MARKS[part]
        shares = 100 * labels[facts.summary.part(part)].mean(0)
        ax.plot(shares, range(len(names)), marker, markerfacecolor="none", markersize=6,
                markeredgewidth=1.2, color=colour)  # fmt: skip
    ax.set_yticks(range(len(names)), [_short(name) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlim(left=0)
    ax.set_title("Images with a class, per split")
    ax.set_xlabel("% of the images in the split")
    handles: list[Any] = [
        Line2D([], [], marker=marker, color=colour, linestyle="none", markerfacecolor="none",
               label={"train": "training", "val": "validation", "test": "test"}[part])
        for part, (marker, colour) in PART_MARKS.items()
    ]  # fmt: skip
    ax.legend(handles=handles, loc="best")


def _bars(
    ax: Axes, names: list[str], values: list[Any], texts: list[str], tints: list[str]
) -> None:
    places = range(len(names))
    ax.barh(places, values, color=tints, height=0.72)
    ax.set_yticks(places, [_short(name, 34) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(0, 1.45 * max([*values, 1e-9]))  # room for the numbers
    ax.grid(visible=False, axis="y")
    for place, value, text in zip(places, values, texts, strict=True):
        ax.annotate(text, (value, place), (3, 0), textcoords="offset points", va="center",
                    fontsize=7.5)  # fmt: skip


def percent(share: float) -> str:
    """Format a fraction as a percentage.

    >>> percent(0.41), percent(0.0196), percent(0.00004)
    ('41%', '2.0%', '0.004%')
    """
    value = 100 * share
    form = ".0f" if value >= 10 else ".1f" if value >= 1 else ".2g"
    return f"{value:{form}}%"


def _short(name: str, most: int = 20) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
