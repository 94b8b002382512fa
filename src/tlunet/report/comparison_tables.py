"""Tables of comparisons: rows grouped by score, columns named after what is compared."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from tlunet.report.document.document import Column, Entry, Group, Table
from tlunet.report.values import TONES, entry, number, score, spoken, with_interval

#: How the two sides are called where the rows have different ones.
SIDES = {
    "init": ("pre-trained", "random"),
    "gain": ("gain with less data", "gain with most data"),
    "frac": ("most data", "less data"),
    "encoder": ("first", "second"),
    "protocol": ("setting", "reference"),
}


def comparison_table(
    title: str, comparisons: pd.DataFrame, factor: str, metrics: Sequence[str]
) -> Table | None:
    """Build the comparisons of a factor in some metrics; ``None`` if there are none.

    Args:
        title: of the table.
        comparisons: as in ``comparisons.csv``.
        factor: ``init``, ``gain``, ``frac``, ``encoder`` or ``protocol``.
        metrics: as in ``comparisons.csv``, in the order of the groups.
    """
    rows = comparisons[(comparisons["factor"] == factor) & comparisons["metric"].isin(metrics)]
    if rows.empty:
        return None
    names, labels = sides_and_labels(rows)
    columns = [
        Column("condition"), Column(names[0], True), Column(names[1], True),
        Column("difference", True, f"{names[0]} − {names[1]}, with its 95% interval"),
        Column("verdict", meaning="Whether the interval excludes zero"),
    ]  # fmt: skip
    order = [k for metric in metrics for k, m in enumerate(rows["metric"]) if m == metric]
    records = [rows.iloc[k] for k in order]
    groups = [
        Group(score(metric)[0], int((rows["metric"] == metric).sum()))
        for metric in metrics
        if (rows["metric"] == metric).any()
    ]
    body = tuple(_row(row, labels[k]) for k, row in zip(order, records, strict=True))
    over = ", ".join(sorted(set(rows["interval"])))
    of = "Gain over random initialisation, mean" if factor == "gain" else "Mean"
    notes = (
        f"{of} over seeds; differences paired by image and seed, 95% interval over {over}. "
        "The higher value is bold where the interval excludes zero.",
    )
    details = _details(records, [labels[k] for k in order], tuple(groups), factor)
    return Table(title, tuple(columns), body, notes=notes, groups=tuple(groups), details=details)


def sides_and_labels(rows: pd.DataFrame) -> tuple[tuple[str, str], list[str]]:
    """Name what comparisons of one factor compare: the two sides, and each row.

    Args:
        rows: of ``comparisons.csv``, at least one.

    Returns:
        The sides, which are those of every row or a word for them, and one label per row.
    """
    sides = [sides_of(text) for text in rows["difference_of"]]
    first, second = (
        _common(side) or SIDES[str(rows["factor"].iloc[0])][k]
        for k, side in enumerate(zip(*sides, strict=True))
    )
    return (first, second), _labels(rows, sides)


def _row(row: "pd.Series[Any]", label: str) -> tuple[Entry, ...]:
    difference = with_interval(row["difference"], row["low"], row["high"], "{:+.3f}")
    verdict = row["verdict"]
    return (
        Entry(label, label),
        entry(row["mean_a"])._replace(is_best=verdict == "higher"),
        entry(row["mean_b"])._replace(is_best=verdict == "lower"),
        Entry(difference, None if pd.isna(row["difference"]) else float(row["difference"])),
        Entry(verdict, verdict, TONES[verdict]),
    )


def _details(
    records: Sequence["pd.Series[Any]"],
    labels: Sequence[str],
    groups: tuple[Group, ...],
    factor: str,
) -> Table:
    """Show what is not needed at first sight: relative differences, single images, p."""
    is_gain = factor == "gain"
    is_paired = any(not pd.isna(row["improved"]) for row in records)
    columns = [Column("condition")]
    if not is_gain:
        columns.append(Column("relative", True, "difference / second value"))
    detectable = "Half the width of the interval: a smaller difference would not have been clear"
    columns.append(Column("detectable", True, detectable))
    if is_paired:
        columns += [
            Column("improved / tied / worse", True, "Percentage of image × seed pairs"),
            Column("p (Holm)", True, "Of the interval; corrected within the primary comparisons"),
        ]
    columns.append(Column("seeds", True))
    body = []
    for row, label in zip(records, labels, strict=True):
        cells = [Entry(label, label)]
        if not is_gain:
            cells.append(entry(row["relative"], "{:+.1%}"))
        cells.append(entry((row["high"] - row["low"]) / 2))
        if is_paired:
            shares = [number(100 * row[n], "{:.0f}") for n in ("improved", "tied", "worse")]
            known = not pd.isna(row["improved"])
            cells.append(Entry(" / ".join(shares), float(row["improved"])) if known else Entry("–"))
            cells.append(entry(row["p_holm"], "{:.2g}"))
        body.append((*cells, entry(row["n_seeds"], "{:.0f}")))
    note = (
        "Primary comparisons are those with random weights in Dice and MLA; only they have a p, "
        "corrected by Holm within the block. All others are exploratory."
    )
    notes = (note,) if is_paired else ()
    kept = {"relative difference": not is_gain, "detectable difference": True,
            "images improved": is_paired, "p": is_paired, "seeds": True}  # fmt: skip
    title = f"Details: {', '.join(name for name, is_shown in kept.items() if is_shown)}"
    return Table(title, tuple(columns), tuple(body), notes=notes, groups=groups)


def sides_of(text: str) -> tuple[str, str]:
    """Split ``a − b`` into the display names of a and b, without what both have in common.

    >>> sides_of("imagenet − random"), sides_of("d · loss=A − d · loss=B")
    (('ImageNet', 'random'), ('loss=A', 'loss=B'))
    >>> sides_of("d · recipe=production · ema=null − d · recipe=production")
    ('ema=null', 'recipe=production')
    """
    first, second = (part.split(" · ") for part in text.split(" − "))
    while len(first) > 1 and len(second) > 1 and first[0] == second[0]:
        first, second = first[1:], second[1:]
    names = (
        [part for part in own if part not in other] or own
        for own, other in ((first, second), (second, first))
    )
    return tuple(spoken(" · ".join(name)) for name in names)  # type: ignore[return-value]


def _common(names: Sequence[str]) -> str | None:
    return names[0] if len(set(names)) == 1 else None


def _labels(rows: pd.DataFrame, sides: Sequence[tuple[str, str]]) -> list[str]:
    """Name each row: its condition, and the sides that are not those of every row."""
    several = [_common(side) is None for side in zip(*sides, strict=True)]
    labels = []
    for text, both in zip(rows["at"], sides, strict=True):
        own = [name for name, is_several in zip(both, several, strict=True) if is_several]
        labels.append(" · ".join(filter(None, (" − ".join(own), spoken(text)))))
    return labels
