"""The table of ``tlunet status``: rows of run folders, laid out for the console."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from tlunet.machine.table import Column, fit, lay_out, leave_out_constant
from tlunet.runs.names import condition, init_name, percent
from tlunet.runs.status import Row


def show(rows: Sequence[Row], width: int) -> RenderableType:
    """Lay out the rows for the console, with one line per note below the table.

    Args:
        rows: from :func:`read_study`.
        width: characters that are available. Condition, state and validation Dice are always
            shown, the other columns where they fit; one with the same entry in all rows is left
            out.
    """
    named, same = leave_out_constant(_condition(rows))
    state, dice, *others = _progress(rows)
    others, same_other = leave_out_constant([c for c in others if any(map(_is_known, c.entries))])
    columns = fit([*named, state, dice, *others], width)
    same = ", ".join(text for text in (same, same_other) if text)
    notes = [
        f"Same in all rows: {same}." if same else "",
        "val Dice: on the validation set, at the epoch with the lowest validation loss, or the "
        "highest Dice (early_stopping.monitor). Test scores are in results.csv.",
        *_remarks(rows),
    ]
    return Group(lay_out(columns), *(Text(note) for note in notes if note))


def _condition(rows: Sequence[Row]) -> list[Column]:
    """Build the columns that identify a cell; an unreadable one has only its folder."""
    encoders = [row.encoder or row.folder for row in rows]
    inits = [init_name(row.init) if row.init else "–" for row in rows]
    return [
        Column("encoder", encoders, is_text=True, folds=True),
        Column("init", inits, is_text=True, folds=True),
        Column("data", ["–" if row.frac is None else percent(row.frac) for row in rows]),
        Column("seed", ["–" if row.seed is None else str(row.seed) for row in rows]),
    ]


def _progress(rows: Sequence[Row]) -> list[Column]:
    """Build the other columns: state and validation Dice, then those that may be left out."""
    left = ["–" if r.seconds_left is None else f"≤ {duration(r.seconds_left)}" for r in rows]
    wrote = [
        "–" if row.silent_seconds is None else f"{duration(row.silent_seconds)} ago" for row in rows
    ]
    return [
        Column("state", [row.state for row in rows], is_text=True),
        Column("val\nDice", [_number(row.best_val_dice, ".3f") for row in rows]),
        Column("epoch", [f"{row.epoch} of {row.epochs or '?'}" for row in rows], rank=1),
        Column("left", left, rank=2),
        Column("last\nwrite", wrote, rank=3),
        Column("best\nepoch", [_number(row.best_epoch, "d") for row in rows], rank=4),
        Column("training", [_time(row.seconds) for row in rows], rank=5),
        Column("best\nval loss", [_number(row.best_val_loss, ".4g") for row in rows], rank=6),
        Column("job", [row.job or "–" for row in rows], rank=7, is_text=True),
        Column("host", [row.host or "–" for row in rows], rank=8, is_text=True),
    ]


def _remarks(rows: Sequence[Row]) -> list[str]:
    """Say why cells failed or cannot be read; a remark of several cells is one line."""
    of_rows: dict[str, list[Row]] = {}
    for row in rows:
        if row.note:
            of_rows.setdefault(f"{row.state}: {row.note}", []).append(row)
    return [
        f"{_name(own[0]) if len(own) == 1 else f'{len(own)} cells'} {remark}"
        for remark, own in of_rows.items()
    ]


def _is_known(text: str) -> bool:
    return text != "–"


def _name(row: Row) -> str:
    if row.encoder is None:
        return row.folder
    return condition(row.encoder, row.init, row.frac, row.seed)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _time(seconds: float | None) -> str:
    return "–" if seconds is None else duration(seconds)


def duration(seconds: float) -> str:
    """Format seconds in at most two units.

    >>> duration(7.6), duration(754), duration(8040), duration(2e5)
    ('8 s', '12 min 34 s', '2 h 14 min', '2 d 7 h')
    """
    s = round(seconds)
    if s < 60:
        return f"{s} s"
    for size, unit, below, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if s >= size:
            return f"{s // size} {unit} {s % size // below} {part}"
    return f"{s // 60} min {s % 60} s"
