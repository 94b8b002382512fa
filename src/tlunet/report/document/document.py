"""Content of a report, independent of its format: html.py and markdown.py render it."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Tone = Literal["", "good", "bad", "unsure", "muted"]


class Entry(NamedTuple):
    """One entry of a table.

    Attributes:
        text: the displayed text.
        value: sort key; ``None`` sorts last in both directions.
        tone: good, bad, unsure or muted; never shown by colour alone.
    """

    text: str
    value: float | str | None = None
    tone: Tone = ""


class Column(NamedTuple):
    """A heading, whether its entries are numbers (right-aligned), and its meaning."""

    name: str
    is_number: bool = False
    meaning: str = ""


@dataclass(frozen=True)
class Text:
    """A paragraph of plain text."""

    text: str


@dataclass(frozen=True)
class Alarm:
    """A warning in one line of plain text."""

    text: str


@dataclass(frozen=True)
class Table:
    """A sortable table.

    Attributes:
        title: what the table shows.
        columns: the headings.
        rows: one entry per column each.
        foot: rows that stay at the end regardless of sorting.
        notes: conventions in plain text, one line each.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]
    foot: tuple[tuple[Entry, ...], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        name: stem of the files ``figures/<name>.svg`` and ``.png``.
        title: what the figure shows.
        caption: how to read it: metric, convention, interval.
        svg: the drawing.
    """

    name: str
    title: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Sample:
    """One test image of the browser.

    Attributes:
        image_id: name of the image.
        jpeg: the image.
        size: (height, width) of the masks.
        truth: a run-length encoded mask per class (`tlunet.data.rle`): 1-based, column-major.
        predictions: the same for each cell, by the cell's name.
        scores: Dice of the image for each cell; ``None`` if the image has no defect.
        shown: (height, width) of the image; masks of another size are stretched over it.
    """

    image_id: str
    jpeg: bytes
    size: tuple[int, int]
    truth: tuple[str, ...]
    predictions: dict[str, tuple[str, ...]]
    scores: dict[str, float | None]
    shown: tuple[int, int]


@dataclass(frozen=True)
class Browser:
    """Test images with ground truth and two predictions, sorted by the difference in Dice.

    Attributes:
        title: what the browser shows.
        pairs: (name, first cell, second cell); the difference is second - first.
        classes: M names.
        colours: M colours, ``#rrggbb``.
        images: the images.
        note: how the images were chosen.
    """

    title: str
    pairs: tuple[tuple[str, str, str], ...]
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    images: tuple[Sample, ...]
    note: str


class Tile(NamedTuple):
    """One image of a gallery, with masks to overlay.

    Attributes:
        name: name of the image.
        note: the classes in the image.
        jpeg: the image.
        masks: a PNG with the same aspect ratio, transparent where there is no mask.
        size: (height, width) of the original image.
    """

    name: str
    note: str
    jpeg: bytes
    masks: bytes
    size: tuple[int, int]


class Row(NamedTuple):
    """A titled row of related images."""

    title: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Gallery:
    """Rows of images whose masks can be hidden.

    Attributes:
        rule: how the images were chosen.
        classes: M names.
        colours: M colours, ``#rrggbb``.
        rows: the images.
    """

    rule: str
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    rows: tuple[Row, ...]


Part = Text | Alarm | Table | Picture | Browser | Gallery


@dataclass(frozen=True)
class Section:
    """A titled sequence of parts; a ``folded`` section is closed until the reader opens it."""

    title: str
    parts: tuple[Part, ...]
    folded: bool = False


@dataclass(frozen=True)
class Document:
    """A whole report.

    Attributes:
        title: the study and its data.
        subtitle: one line: number of cells, images, seeds.
        answer: the headline, one sentence per item.
        alarms: warnings below the answer.
        sections: the content.
    """

    title: str
    subtitle: str
    answer: tuple[str, ...]
    alarms: tuple[Alarm, ...] = ()
    sections: tuple[Section, ...] = field(default=())
