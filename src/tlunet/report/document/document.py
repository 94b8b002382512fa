"""Content of a report, independent of its format: html.py and markdown.py render it."""

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple

Tone = Literal["", "good", "bad", "unsure", "muted"]


class Entry(NamedTuple):
    """One entry of a table.

    Attributes:
        text: the displayed text.
        value: sort key; ``None`` sorts last in both directions.
        tone: good, bad, unsure or muted; never shown by colour alone.
        note: shown below the text, smaller.
        is_best: whether it is the best of its column or row; shown in bold.
    """

    text: str
    value: float | str | None = None
    tone: Tone = ""
    note: str = ""
    is_best: bool = False


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


class Group(NamedTuple):
    """A heading above some consecutive rows of a table."""

    title: str
    rows: int


@dataclass(frozen=True)
class Table:
    """A sortable table.

    Attributes:
        title: what the table shows.
        columns: the headings.
        rows: one entry per column each.
        foot: rows that stay at the end regardless of sorting.
        notes: conventions in plain text, one line each.
        groups: headings that divide the rows; together they cover all of them, or there are none.
        details: further columns of the same rows, shown on request.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]
    foot: tuple[tuple[Entry, ...], ...] = ()
    notes: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    details: "Table | None" = None

    @property
    def bodies(self) -> list[tuple[str, tuple[tuple[Entry, ...], ...]]]:
        """The rows of each group with its heading; without groups, all rows under no heading.

        Raises:
            ValueError: the groups do not cover the rows.
        """
        if not self.groups:
            return [("", self.rows)]
        ends = [0, *accumulate(group.rows for group in self.groups)]
        if ends[-1] != len(self.rows):
            raise ValueError(f"{self.title!r}: groups of {ends[-1]} rows for {len(self.rows)} rows")
        return [
            (group.title, self.rows[start:end])
            for group, (start, end) in zip(self.groups, pairwise(ends), strict=True)
        ]


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


@dataclass(frozen=True)
class Fold:
    """Parts behind a title, closed until the reader opens it."""

    title: str
    parts: tuple["Part", ...]


Part = Text | Alarm | Table | Picture | Browser | Gallery | Fold


@dataclass(frozen=True)
class Section:
    """A titled sequence of parts.

    Attributes:
        title: what it shows.
        parts: the content.
        folded: whether it is closed until the reader opens it.
        of: what it is about, if there are several such sections: a block of cells.
    """

    title: str
    parts: tuple[Part, ...]
    folded: bool = False
    of: str = ""


class Fact(NamedTuple):
    """A name and its value, in one line."""

    name: str
    text: str


@dataclass(frozen=True)
class Document:
    """A whole report.

    Attributes:
        title: the study and its data.
        subtitle: one line: number of cells, images, seeds.
        answer: the headline, one sentence per item.
        alarms: warnings below the answer, the most severe one first.
        sections: the content.
        scope: below the headline, in small type: what it is a mean over, with intervals.
        lead: shown on the first screen: the figure that shows the answer.
        facts: what was trained, on what, when and where.
        files: names of the tables next to the document.
    """

    title: str
    subtitle: str
    answer: tuple[str, ...]
    alarms: tuple[Alarm, ...] = ()
    sections: tuple[Section, ...] = ()
    scope: tuple[str, ...] = ()
    lead: tuple[Part, ...] = ()
    facts: tuple[Fact, ...] = ()
    files: tuple[str, ...] = ()
