"""What a report says, apart from how it is written down: page.py and markdown.py do that."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Tone = Literal["", "good", "bad", "unsure", "muted"]


class Entry(NamedTuple):
    """One entry of a table.

    Attributes:
        text: as it is shown.
        value: what the column is sorted by; ``None`` sorts last, whichever way.
        tone: what it means to the reader; never said by colour alone.
    """

    text: str
    value: float | str | None = None
    tone: Tone = ""


class Column(NamedTuple):
    """A heading, whether its entries are numbers (set flush right), and what it means."""

    name: str
    is_number: bool = False
    meaning: str = ""


@dataclass(frozen=True)
class Text:
    """A paragraph of plain text."""

    text: str


@dataclass(frozen=True)
class Alarm:
    """What the reader must not miss, in one line of plain text."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table that sorts.

    Attributes:
        title: what it shows.
        columns: its headings.
        rows: as many entries each as there are columns.
        foot: rows that stay at the end however the table is sorted.
        notes: conventions, a line each, in plain text.
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
        name: stem of its files ``figures/<name>.svg`` and ``.png``.
        title: what it shows.
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
        image_id: its name.
        jpeg: the picture, in the masks' proportions.
        size: (height, width) that the masks are in.
        truth: per class a mask in run-length code (`tlunet.data.rle`): 1-based, column-major.
        predictions: the same per cell, by the cell's name.
        scores: the image's Dice per cell; ``None`` where the image has no defect.
    """

    image_id: str
    jpeg: bytes
    size: tuple[int, int]
    truth: tuple[str, ...]
    predictions: dict[str, tuple[str, ...]]
    scores: dict[str, float | None]


@dataclass(frozen=True)
class Browser:
    """Test images with their truth and two predictions, sorted by the difference of their Dice.

    Attributes:
        title: what it shows.
        pairs: (name, first cell, second cell); the difference is second - first.
        classes: M names.
        colours: M colours, ``#rrggbb``.
        images: what can be paged through.
        note: how they were chosen.
    """

    title: str
    pairs: tuple[tuple[str, str, str], ...]
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    images: tuple[Sample, ...]
    note: str


class Tile(NamedTuple):
    """One image of a gallery, and its masks to be laid over it.

    Attributes:
        name: of the image.
        note: what is in it.
        jpeg: the picture.
        masks: a PNG of the same proportions, see-through where there is no mask.
        size: (height, width) of the image itself.
    """

    name: str
    note: str
    jpeg: bytes
    masks: bytes
    size: tuple[int, int]


class Row(NamedTuple):
    """Images that belong together, and what they have in common."""

    title: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Gallery:
    """Rows of images whose masks can be taken away.

    Attributes:
        rule: how they were chosen.
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
    """A titled run of parts; ``folded`` ones are closed until the reader opens them."""

    title: str
    parts: tuple[Part, ...]
    folded: bool = False


@dataclass(frozen=True)
class Document:
    """A whole report.

    Attributes:
        title: the study and its data.
        subtitle: one line: how many cells, images, seeds.
        answer: the headline, one sentence an item.
        alarms: what the reader must not miss.
        sections: the rest.
    """

    title: str
    subtitle: str
    answer: tuple[str, ...]
    alarms: tuple[Alarm, ...] = ()
    sections: tuple[Section, ...] = field(default=())
