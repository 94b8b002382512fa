"""Style and saving of all figures.

Colour encodes the initialisation, repeated by hatch (areas) and open markers (lines) for print in
greyscale. Line style and marker encode the encoder. Classes have separate colours.
"""

import io
from collections.abc import Callable, Sequence
from functools import wraps
from math import ceil
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tlunet.data.colours import CLASS_COLOURS
from tlunet.machine.files import write_text, write_whole
from tlunet.report.figures.fonts import FAMILIES, settle
from tlunet.report.figures.marks import Grid, marks
from tlunet.report.figures.text import FONT_SIZE, text_width, wrap
from tlunet.runs.names import condition

P = ParamSpec("P")

WIDTH = 7.2  # inches, width of a page without its margins
TITLE_SIZE = 8.5
MIN_FONT_SIZE = 7.0
STYLE = {
    "font.family": FAMILIES,
    "font.size": FONT_SIZE,
    "axes.titlesize": TITLE_SIZE,
    "axes.labelsize": TITLE_SIZE,
    "figure.labelsize": TITLE_SIZE,
    "xtick.labelsize": FONT_SIZE,
    "ytick.labelsize": FONT_SIZE,
    "legend.fontsize": FONT_SIZE,
    "legend.frameon": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.5,
    "hatch.linewidth": 0.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "svg.fonttype": "path",
    "text.parse_math": False,  # a class may be named $x^$
}
RED = "#D00000"
COLOURS = CLASS_COLOURS  # of the classes, in order


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Make a function draw in the project's style, whatever the user's matplotlibrc."""

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.style.context(["default", STYLE]):
            return draw(*args, **kwargs)

    return inside


def save(figure: Figure, stem: Path) -> str:
    """Write `stem.svg` and `stem.png` (160 dpi) atomically; equal figures give equal bytes.

    Args:
        figure: from any function of this package; its layout becomes fixed.
        stem: path without suffix.

    Returns:
        The SVG from `<svg` on, to embed in a page.
    """
    svg, png = (stem.with_name(f"{stem.name}.{suffix}") for suffix in ("svg", "png"))
    drawing = _svg(figure)
    save_png(figure, png)
    write_text(svg, drawing)
    return drawing[drawing.index("<svg") :]


def drawn(figure: Figure) -> str:
    """Return the SVG of a figure from `<svg` on, as `save` does, without writing a file."""
    drawing = _svg(figure)
    return drawing[drawing.index("<svg") :]


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG (160 dpi) atomically; its layout becomes fixed."""
    with matplotlib.style.context(["default", STYLE]):
        _lay_out(figure)
        figure.set_dpi(160)
        # Print the canvas directly: Figure.savefig would first draw everything again.
        canvas = FigureCanvasAgg(figure)
        write_whole(path, lambda new: canvas.print_png(new, metadata={"Software": None}))


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    with matplotlib.style.context(["default", STYLE, {"svg.hashsalt": "tlunet"}]):
        _lay_out(figure)
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue()


def _lay_out(figure: Figure) -> None:
    """Run the layout only once: it is slow, and repeated runs give slightly different results."""
    settle(figure)
    if engine := figure.get_layout_engine():
        engine.execute(figure)
    figure.set_layout_engine("none")


def subplots(rows: int, columns: int, height: float, **kwargs: Any) -> tuple[Figure, Any]:
    """Create a figure of page width (wider from five columns on) and its (rows, columns) axes.

    Args:
        rows: number of rows.
        columns: number of columns.
        height: height of a row in inches.
        kwargs: passed to `Figure.subplots`.
    """
    figure = Figure(figsize=(max(WIDTH, 1.7 * columns), height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **kwargs)


def headers(
    axes: Sequence[Axes], texts: Sequence[str], width: float = 100.0, align: str = "center"
) -> None:
    """Write a header above each column of panels.

    Args:
        axes: the first panel of each column, with its title already set.
        texts: one per panel; they are wrapped.
        width: inches per panel.
        align: left or center, like the titles.
    """
    titles = [ax.get_title(loc=align) for ax in axes]  # type: ignore[arg-type]
    above = 6 + 1.3 * TITLE_SIZE * max(len(title.splitlines()) for title in titles)  # points
    for ax, text in zip(axes, texts, strict=True):
        ax.annotate(
            wrap(text, width, TITLE_SIZE, "bold"), (0.5 if align == "center" else 0, 1),
            (0, above), xycoords="axes fraction", textcoords="offset points", ha=align,
            va="bottom", fontsize=TITLE_SIZE, fontweight="bold",
        )  # fmt: skip


def row_header(ax: Axes, text: str, height: float) -> None:
    """Write a header to the left of a row of panels.

    Args:
        ax: the first panel.
        text: the header; it is wrapped.
        height: height of the row in inches.
    """
    ax.set_ylabel(wrap(text, height, TITLE_SIZE, "bold"), fontweight="bold")


def row_major(handles: Sequence[Any], columns: int) -> list[Any]:
    """Reorder handles so that a legend, which fills its columns first, reads row by row.

    >>> row_major("abcde", 3)
    ['a', 'd', 'b', 'e', 'c']
    """
    return [handle for column in range(columns) for handle in handles[column::columns]]


def legend(
    figure: Figure, handles: Sequence[Any], title: str = "", above: bool = False, group: int = 1
) -> None:
    """Add a legend below (or above) all panels; the figure grows by its height.

    Args:
        figure: the figure.
        handles: labelled handles, row by row.
        title: a line above the handles.
        above: whether to put the legend at the top of the figure.
        group: number of consecutive entries to keep in one row.
    """
    width = figure.get_figwidth() - 0.3
    labels = [wrap(str(handle.get_label()), width - 0.7) for handle in handles]
    fitting = int(
        width / (0.65 + max(map(text_width, labels)))
    )  # 0.65: the line sample and the gaps
    columns = min(len(handles), max(1, fitting))
    if columns < len(handles):
        columns -= columns % group if columns > group else 0
    rows = ceil(len(handles) / columns)
    title = wrap(title, width)
    lines = rows * (1 + max(label.count("\n") for label in labels))
    lines += title.count("\n") + 1 if title else 0
    figure.set_figheight(figure.get_figheight() + 0.1 + 0.17 * lines)
    figure.legend(
        row_major(handles, columns), row_major(labels, columns), ncols=columns,
        loc="outside upper center" if above else "outside lower center",
        handlelength=3, columnspacing=1.5, title=title or None, title_fontsize=7.5,
    )  # fmt: skip


def pair_lines(grid: Grid) -> list[Any]:
    """Return a handle for the legend per encoder and initialisation."""
    return [Line2D([], [], **marks(*p, grid), label=condition(*p)) for p in grid.pairs]


def gap(ax: Axes, x: float, text: str) -> None:
    """Write at `x` why nothing is drawn there."""
    ax.text(
        x, 0.03, text, transform=ax.get_xaxis_transform(), rotation=90, fontsize=7,
        ha="center", va="bottom", color="#555555",
    )  # fmt: skip


def empty(ax: Axes, text: str) -> None:
    """Write in the middle of a panel why it is empty."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color="#555555")
