"""Checks the texts of a figure as drawn: overlapping, cut off, or too small."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from typing import Any
from unittest import mock

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from tlunet.report.figures.style import MIN_FONT_SIZE

TOUCHING = 0.5  # pixels that boxes may overlap


def text_problems(figure: Figure) -> list[str]:
    """One line per text that overlaps another, leaves the figure, or is too small to read."""
    canvas = FigureCanvasAgg(figure)
    with drawn_texts() as texts:
        figure.draw_without_rendering()
    renderer = canvas.get_renderer()
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
    assert boxes, "no text was drawn"
    page = figure.bbox.padded(TOUCHING)
    return [
        *(f"{a!r} overlaps {b!r}" for (a, one), (b, two) in combinations(boxes, 2)
          if overlap(one, two)),
        *(f"{text!r} is cut off at the figure's edge" for text, box in boxes
          if Bbox.intersection(page, box) is None
          or tuple(Bbox.intersection(page, box).extents) != tuple(box.extents)),  # type: ignore[union-attr]
        *(f"{text.get_text()!r} is set in {text.get_fontsize()} points" for text in texts
          if text.get_fontsize() < MIN_FONT_SIZE),
    ]  # fmt: skip


def overlap(one: Bbox, two: Bbox) -> bool:
    """Whether two boxes share more than an edge."""
    return (
        min(one.x1, two.x1) - max(one.x0, two.x0) > TOUCHING
        and min(one.y1, two.y1) - max(one.y0, two.y0) > TOUCHING
    )


@contextmanager
def drawn_texts() -> Iterator[list[Text]]:
    """Record the texts drawn in the context, once each (without ticks outside their axis)."""
    texts: list[Text] = []
    draw = Text.draw

    def record(self: Text, *args: Any, **kwargs: Any) -> None:
        if self.get_visible() and self.get_text().strip() and self not in texts:
            texts.append(self)
        draw(self, *args, **kwargs)

    with mock.patch.object(Text, "draw", record):
        yield texts
