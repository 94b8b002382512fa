"""Overview of a data set as a single PNG to share."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch

from tlunet.data.drawing import draw, enlarged, enlarged_image, zoom
from tlunet.report.dataset import plots
from tlunet.report.dataset.facts import Facts
from tlunet.report.dataset.page import headline, title
from tlunet.report.dataset.pictures import Example, chosen, colours, each, read, shrunk
from tlunet.report.figures.style import styled

WIDTH = 17.0  # inches
LEFT, RIGHT = 8.0, 9.0
PICTURES, REPEATED = 12, 4  # images, and near-duplicates (two of each group)
WIDE_PICTURES, WIDE_REPEATED = 8, 2  # the same for strips, which fill a whole row
ACROSS = 4  # images side by side, unless they are wide
WARNINGS = 3
PIXELS = 800  # width of an image


@styled
def sheet(facts: Facts) -> Figure:
    """Draw images with their masks on the left and statistics of the data set on the right.

    Raises:
        DataError: an image has changed since the survey.
    """
    facts = plots.with_drawable_names(facts)
    examples = [(name, shrunk(read(facts, row), PIXELS)) for name, row in _picked(facts)]
    columns, height = _grid([example for _, example in examples])
    rows = len(facts.names) + 1
    figure = Figure(
        figsize=(WIDTH, max(height + 1.6, 3 * max(2.6, plots.height_of(rows)) + 1.4)),
        layout="constrained",
    )
    lines = [
        f"{title(facts)}: {facts.summary.overview()}",
        *headline(facts),
        *facts.warnings[:WARNINGS],
    ]
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=10.5)
    halves = figure.subfigures(1, 2, squeeze=False, width_ratios=(LEFT, RIGHT))
    left, right = halves[0]
    _pictures(left, examples, columns, facts)
    panels = (
        plots.images_by_class, plots.pixels_by_class, plots.together, plots.combinations,
        plots.region_sizes, plots.split_balance,
    )  # fmt: skip
    for plot, axes in zip(panels, right.subplots(3, 2).ravel(), strict=True):
        plot(facts, axes)
    return figure


def _picked(facts: Facts) -> list[tuple[str, int]]:
    """Choose the images: the title and the row of each."""
    shown = chosen(facts)
    most, repeated = (WIDE_PICTURES, WIDE_REPEATED) if each(facts) == 2 else (PICTURES, REPEATED)
    # The first image of every combination, then others while there is room.
    places = [
        (k, c) for k in range(each(facts)) for c, (_, rows) in enumerate(shown) if k < len(rows)
    ]
    picked = [
        (facts.named(shown[c][0].classes), shown[c][1][k])
        for k, c in sorted(places[:most], key=lambda place: place[::-1])
    ]
    twice = [
        (f"near-duplicate: {facts.named_row(row)}", row)
        for repeat in facts.summary.repeats
        for row in repeat.rows[:2]
    ]
    return picked + twice[:repeated]


def _grid(examples: list[Example]) -> tuple[int, float]:
    """Return how many images are side by side, and the total height in inches."""
    height, width = examples[0].image.shape[:2]
    columns = 1 if width > 2 * height else ACROSS
    lines = -(-len(examples) // columns)
    return columns, lines * (LEFT / columns * height / width + 0.3)


def _pictures(
    figure: SubFigure, examples: list[tuple[str, Example]], columns: int, facts: Facts
) -> None:
    lines = -(-len(examples) // columns)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (name, example) in zip(grid, examples, strict=False):
        _picture(axes, example)
        axes.set_title(name, loc="left", fontsize=8, pad=2)
    for axes in grid:
        axes.set_axis_off()
    legend = zip(facts.names, colours(len(facts.names)), strict=True)
    handles = [Patch(color=colour, label=name) for name, colour in legend]
    figure.legend(handles=handles, loc="outside lower left", ncols=min(len(handles), 6))


def _picture(axes: Axes, example: Example) -> None:
    times = zoom(max(example.image.shape[:2]))
    axes.imshow(draw(enlarged_image(example.image, times), enlarged(example.masks, times)))
