"""How every figure looks, and how it is saved.

Colour says the initialisation; hatch (areas) and open markers (lines) say it again for print in
grey. Line style and marker say the encoder. Classes have colours of their own.
"""

import io
from collections.abc import Callable, Sequence
from functools import wraps
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from tlunet.data.colours import CLASS_COLOURS
from tlunet.report.blocks import display_order
from tlunet.study.files import write_text, write_whole

P = ParamSpec("P")

WIDTH = 7.2  # inches, a page between its margins
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
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
COLOURS = CLASS_COLOURS  # of the classes, one each in turn

# Okabe and Ito's colours, told apart by colour-blind readers; the baseline is black.
ENCODERS = ("resnet", "densenet")
INITS = ("random", "imagenet", "synthetic", "checkpoint")
INIT_COLOURS = ("#000000", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#E69F00", "#56B4E9")
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++", "----")
LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


class Grid(NamedTuple):
    """What a table holds, in order of display.

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
    """The encoders, initialisations and fractions of a table, in order of display.

    Raises:
        ValueError: the table has no rows.

    >>> order(pd.DataFrame({"encoder": ["b", "resnet"], "init": "random", "frac": [0.5, 1.0]}))[:3]
    (['resnet', 'b'], ['random'], [1.0, 0.5])
    """
    if table.empty:
        raise ValueError("the table has no rows, there is nothing to draw")
    present: list[Any] = table.groupby(["encoder", "init"], observed=True).size().index.tolist()
    encoders, inits = (display_order(names) for names in zip(*present, strict=True))
    pairs = [(e, i) for e in encoders for i in inits if (e, i) in present]
    return Grid(encoders, inits, sorted(table["frac"].unique().tolist(), reverse=True), pairs)


def _rank(name: str, known: Sequence[str], others: Sequence[str] = ()) -> int:
    """Where `name` stands: a known one always in the same place, the others after them."""
    rest = [other for other in others if other not in known]
    return known.index(name) if name in known else len(known) + [*rest, name].index(name)


def cells(table: pd.DataFrame) -> dict[tuple[str, str, float], pd.DataFrame]:
    """The rows of each (encoder, init, frac), sorted by seed, image, class and epoch.

    Sums of floats depend on their order: sorted, the same rows give the same figure.
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
    """An initialisation's colour, `#rrggbb`."""
    return INIT_COLOURS[_rank(init, INITS, grid.inits) % len(INIT_COLOURS)]


def marks(encoder: str, init: str, grid: Grid) -> dict[str, Any]:
    """How a cell's line looks: colour by init, line and marker by encoder; random is open."""
    own, place = colour(init, grid), _rank(encoder, ENCODERS, grid.encoders)
    return {
        "color": own,
        "linestyle": LINES[place % len(LINES)],
        "marker": MARKERS[place % len(MARKERS)],
        "markerfacecolor": "white" if init == "random" else own,
    }


def area(init: str, grid: Grid) -> dict[str, Any]:
    """How a cell's box or bar looks: a tint and a hatch, both by init."""
    own = colour(init, grid)
    tint = 0.7 + 0.3 * np.array(to_rgb(own))
    hatch = HATCHES[_rank(init, INITS, grid.inits) % len(HATCHES)]
    return {"facecolor": tuple(tint.tolist()), "edgecolor": own, "hatch": hatch, "linewidth": 0.8}


def cell_name(encoder: str, init: str) -> str:
    """As the paper writes it: `resnet (imagenet)`."""
    return f"{encoder} ({init})"


def share(frac: float) -> str:
    """A fraction in words: `50 % of the training data`."""
    return f"{100 * frac:.3g} % of the training data"


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the project's style whatever the user's own matplotlibrc says; nothing stays set."""

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.style.context(["default", STYLE]):
            return draw(*args, **kwargs)

    return inside


def save(figure: Figure, stem: Path) -> str:
    """Write `stem.svg` and `stem.png` (160 dpi), each whole; the same bytes for the same figure.

    Args:
        figure: of any function of this package; its layout is fixed from now on.
        stem: path without suffix.

    Returns:
        The drawing from `<svg` on, to be put into a page.
    """
    svg, png = (stem.with_name(f"{stem.name}.{suffix}") for suffix in ("svg", "png"))
    drawing = _svg(figure)
    save_png(figure, png)
    write_text(svg, drawing)
    return drawing[drawing.index("<svg") :]


def drawn(figure: Figure) -> str:
    """A figure as `save` draws it, from `<svg` on; no file is written."""
    drawing = _svg(figure)
    return drawing[drawing.index("<svg") :]


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG (160 dpi), whole; its layout is fixed from now on."""
    with matplotlib.style.context(["default", STYLE]):
        _lay_out(figure)
        figure.set_dpi(160)
        # The canvas itself: Figure.savefig would draw everything once more beforehand.
        canvas = FigureCanvasAgg(figure)
        write_whole(path, lambda new: canvas.print_png(new, metadata={"Software": None}))


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    with matplotlib.style.context(["default", STYLE, {"svg.hashsalt": "tlunet"}]):
        _lay_out(figure)
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue()


def _lay_out(figure: Figure) -> None:
    """Once: it is slow, and never quite the same again."""
    if engine := figure.get_layout_engine():
        engine.execute(figure)
    figure.set_layout_engine("none")


def subplots(rows: int, columns: int, height: float, **kwargs: Any) -> tuple[Figure, Any]:
    """A figure as wide as a page (wider from five columns on) and its (rows, columns) axes.

    Args:
        rows: how many.
        columns: how many.
        height: of one row, in inches.
        kwargs: to `Figure.subplots`.
    """
    figure = Figure(figsize=(max(WIDTH, 1.7 * columns), height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **kwargs)


def legend(figure: Figure, handles: Sequence[Any], title: str = "", above: bool = False) -> None:
    """A legend under (or over) all panels; the figure grows by its height."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = min(len(handles), int(figure.get_figwidth() / (0.7 + 0.056 * longest)))
    lines = ceil(len(handles) / columns) + bool(title)
    figure.set_figheight(figure.get_figheight() + 0.1 + 0.17 * lines)
    figure.legend(
        handles=handles, loc="outside upper center" if above else "outside lower center",
        ncols=columns, handlelength=3, columnspacing=1.5, title=title or None, title_fontsize=7.5,
    )  # fmt: skip


def gap(ax: Axes, x: float, text: str) -> None:
    """Say at `x` why nothing is drawn there."""
    ax.text(
        x, 0.03, text, transform=ax.get_xaxis_transform(), rotation=90, fontsize=7,
        ha="center", va="bottom", color="#555555",
    )  # fmt: skip


def empty(ax: Axes, text: str) -> None:
    """Say in the middle of a panel why nothing is drawn in it."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color="#555555")
