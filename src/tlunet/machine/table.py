"""Tables that fit the terminal: columns are left out before a number is cut."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

GAP = 2  # characters between two columns


@dataclass(frozen=True)
class Column:
    """One column of a table for the console.

    Attributes:
        heading: name; a newline breaks it into lines.
        entries: one text per row.
        foot: text of the row below the others, if the table has one.
        rank: columns are left out from the highest rank down until the table fits; columns of
            rank 0 are always shown.
        is_text: left-aligned instead of right-aligned.
        folds: whether an entry may continue on a second line if the columns of rank 0 do not fit.
    """

    heading: str
    entries: Sequence[str]
    foot: str = ""
    rank: int = 0
    is_text: bool = False
    folds: bool = False

    @property
    def width(self) -> int:
        """Characters of the widest line."""
        return max(map(cell_len, (*self.heading.split("\n"), *self.entries, self.foot)))

    @property
    def name(self) -> str:
        """The heading in one line."""
        return self.heading.replace("-\n", "-").replace("\n", " ")


def leave_out_constant(columns: Sequence[Column]) -> tuple[list[Column], str]:
    """Leave out the columns with the same entry in all of several rows.

    Returns:
        The other columns, and the entries left out, such as "init random, seed 0".
    """
    constant = [c for c in columns if len(c.entries) > 1 and len(set(c.entries)) == 1]
    told = [f"{c.name} {c.entries[0]}" for c in constant if c.entries[0].strip("–")]
    return [c for c in columns if c not in constant], ", ".join(told)


def fit(columns: Sequence[Column], width: int) -> list[Column]:
    """Choose the columns that fit, in the given order.

    Args:
        columns: the columns, all with the same number of entries.
        width: characters that are available.
    """
    kept = list(columns)
    while sum(c.width + GAP for c in kept) - GAP > width and any(c.rank for c in kept):
        kept.remove(max(kept, key=lambda c: c.rank))
    return kept


def lay_out(columns: Sequence[Column]) -> Table:
    """Lay out the columns from :func:`fit`."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for column in columns:
        table.add_column(
            column.heading,
            justify="left" if column.is_text else "right",
            vertical="top",
            no_wrap=not column.folds,
            overflow="fold",
            min_width=None if column.folds else column.width,
        )
    for row in zip(*(column.entries for column in columns), strict=True):
        table.add_row(*map(Text, row))  # plain text, not markup
    if any(column.foot for column in columns):
        table.add_section()
        table.add_row(*(Text(column.foot) for column in columns))
    return table
