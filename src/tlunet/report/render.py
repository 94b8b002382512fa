"""Render Markdown documents from recorded results, so that no number is typed by hand.

A block in a Markdown file is filled from the file it names (the path is relative to the document):

    <!-- results FILE.csv -->                     one row per cell
    <!-- scores FILE.csv dice_image,mla -->       means over seeds with their intervals
    <!-- comparisons FILE.csv init dice_image,mla -->   one factor's comparisons
    <!-- gap FILE.csv dice_image,mla -->      gains of settings as shares of the gain from all data
    <!-- flags FILE.csv 2,4 -->               images missed and falsely flagged, of these classes
    <!-- label_worth FILE.csv -->                 how many times the labels pre-training is worth
    <!-- claims FILE.csv -->                      the verdicts; from a .yaml: claims not measured
    <!-- table FILE.csv -->                       any table, unchanged
    <!-- text FILE.md -->                         a text, unchanged
    …
    <!-- end -->

If the file is missing, the block says "not measured".
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from tlunet.errors import UserError
from tlunet.machine.files import write_text
from tlunet.model.flags import ANY
from tlunet.report.analysis.claims import COLUMNS, read_claims
from tlunet.report.comparison_tables import comparison_table, sides_and_labels
from tlunet.report.document import markdown
from tlunet.report.document.document import Column, Entry, Group, Table, Text
from tlunet.report.labels import worth_parts
from tlunet.report.tables import claim_table, flag_table
from tlunet.report.values import number, score, with_interval
from tlunet.runs.results import SCORED, SHOWN, empty_predictor, texts

BLOCK = re.compile(r"(<!-- (\w+) (\S+)(?: ([^>]*?))? -->\n).*?(<!-- end -->)", re.S)


def render(path: Path, blocks: Mapping[str, Callable[..., str]] | None = None) -> str:
    """Fill every block of a Markdown file and return the text.

    Args:
        path: the Markdown file.
        blocks: for each kind of block the function that fills it, called with the file or folder
            that the block names and its remaining words; default: :data:`BLOCKS`.

    Raises:
        ValueError: a block has an unknown kind.
    """
    known = BLOCKS if blocks is None else blocks

    def fill(match: re.Match[str]) -> str:
        kind, file, words = match[2], path.parent / match[3], (match[4] or "").split()
        if kind not in known:
            raise ValueError(f"{path}: block {kind!r}; allowed: {', '.join(known)}")
        text = known[kind](file, *words) if file.exists() else "*Not measured.*\n"
        return f"{match[1]}{text}{match[5]}"

    return BLOCK.sub(fill, path.read_text(encoding="utf-8"))


def results(file: Path) -> str:
    """Render a results table, with a row for the predictor that never finds a defect.

    Args:
        file: a ``results.csv`` with finished cells of one data set and one split.

    Raises:
        ValueError: the cells come from several data sets or splits and cannot be compared.
    """
    cells = pd.read_csv(file)
    cells = cells[cells["state"] == "finished"]
    of_seed = cells.groupby("seed")["split_fingerprint"].nunique()  # each may have its own
    for name, values in (("data sets", cells["dataset"].nunique()), ("splits", of_seed.max())):
        if values != 1:
            raise ValueError(f"{file}: the cells have {values} {name} and cannot be compared")
    rules = ["---"] * SCORED + ["---:"] * (len(SHOWN) - SCORED)
    rows = [list(SHOWN), rules, *(texts(cell) for _, cell in cells.iterrows())]
    first = cells.iloc[0]
    empty = texts(empty_predictor(cells), "empty_")[SCORED:]
    rows.append(["*never finds a defect*", "", "", "", *empty])
    if cells["settings"].nunique() > 1:
        heads = ["settings", "---", *cells["settings"], ""]
        rows = [[head, *row] for head, row in zip(heads, rows, strict=True)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    hardware = ", ".join(
        f"{h} ({p})" for h, p in cells[["hardware", "precision"]].drop_duplicates().to_numpy()
    )
    seeds = ", ".join(map(str, sorted(cells["seed"].unique())))
    lines.append(
        f"\n{first['dataset']} data, {int(first['test_images'])} test images, seed {seeds}, "
        f"{hardware}, {cells['seconds'].sum():.0f} s of training in total."
    )
    return "\n".join(lines) + "\n"


def _by_block(table: pd.DataFrame, show: Callable[[pd.DataFrame], str]) -> str:
    """Render each block of a table below the settings that distinguish it from the others."""
    parts = dict(iter(table.groupby("block", sort=False)))
    if len(parts) < 2:
        return show(table)
    return "\n".join(
        f"**{markdown.escape(str(title).partition(' · ')[2] or str(title))}**\n\n{show(own)}"
        for title, own in parts.items()
    )


def scores(file: Path, metrics: str) -> str:
    """Render means over seeds with their 95% intervals, one row per encoder × init × frac.

    Args:
        file: a ``scores.csv``; the ``results.csv`` next to it holds the scores of the predictor
            that never finds a defect.
        metrics: names, separated by commas.
    """
    cells = pd.read_csv(file.with_name("results.csv"))
    of_empty = empty_predictor(cells[cells["state"] == "finished"])
    names = metrics.split(",")
    return _by_block(pd.read_csv(file), lambda table: _score_table(table, names, of_empty))


def _score_table(table: pd.DataFrame, names: list[str], of_empty: "pd.Series[Any]") -> str:
    columns = [Column(n) for n in ("encoder", "init", "frac", "seeds")]
    columns += [Column(score(name)[0], True, score(name)[1]) for name in names]
    rows = []
    for key, own in table.groupby(["encoder", "init", "frac"], sort=False):
        by_metric = own.set_index("metric")
        intervals = by_metric.loc[names, ["mean", "low", "high"]].to_numpy(float)
        row = [*map(str, tuple(key)), str(by_metric["n_seeds"].iloc[0])]
        rows.append(tuple(Entry(text) for text in (*row, *(with_interval(*f) for f in intervals))))
    over = ", ".join(table["interval"].unique())
    notes = (f"Mean over seeds; 95% interval over {over} in brackets.",)
    empty = [Entry("never finds a defect"), *[Entry("")] * 3]
    empty += [Entry(number(of_empty.get(f"empty_{name}"))) for name in names]
    return (
        markdown.render_table(Table("", tuple(columns), tuple(rows), (tuple(empty),), notes)) + "\n"
    )


def comparisons(file: Path, factor: str, metrics: str) -> str:
    """Render a factor's comparisons for the named metrics."""
    table = pd.read_csv(file)

    def show(own: pd.DataFrame) -> str:
        shown = comparison_table("", own, factor, metrics.split(","))
        return "*Not measured.*\n" if shown is None else markdown.render_table(shown) + "\n"

    return _by_block(table[table["factor"] == factor], show)


def gap(file: Path, metrics: str) -> str:
    """Render what settings gain with little data, next to the gain from all data.

    The share that the first is of the second is given where both intervals are above zero.
    """
    table = pd.read_csv(file)
    more, gains = (table[table["factor"] == factor] for factor in ("frac", "protocol"))
    fractions = more["difference_of"].str.split(" − ", expand=True).astype(float)
    more = more.assign(frac=fractions[1])[fractions[0] == 1.0]
    gains = gains.assign(label=sides_and_labels(gains)[1])
    gains["block"] = gains["difference_of"].str.split(" − ").str[1]  # the reference
    keys = ["block", "encoder", "init", "frac", "metric"]
    both = gains.merge(more, on=keys, suffixes=("", "_more"))
    columns = [Column("condition"), Column("gain", True), Column("gain from all data", True)]
    rows, groups = [], []
    for metric in metrics.split(","):
        own = both[both["metric"] == metric]
        groups.append(Group(score(metric)[0], len(own)))
        for _, row in own.iterrows():
            numbers = [[row[f"{n}{end}"] for n in ("difference", "low", "high")]
                       for end in ("", "_more")]  # fmt: skip
            is_clear = all(low > 0 for _, low, _ in numbers)
            share = f"{numbers[0][0] / numbers[1][0]:.0%}" if is_clear else "–"
            texts = [with_interval(x, low, high, "{:+.3f}") for x, low, high in numbers]
            rows.append(tuple(Entry(text) for text in (row["label"], *texts, share)))
    shown = Table("", (*columns, Column("share", True)), tuple(rows), groups=tuple(groups))
    return markdown.render_table(shown) + "\n"


def flags(file: Path, classes: str = "") -> str:
    """Render images missed and falsely flagged, for any class and for the named ones (``2,4``)."""
    table = pd.read_csv(file)
    names = tuple(f"class {number} " for number in classes.split(",") if number)
    kept = table["class"].map(lambda name: name == ANY or name.startswith(names))
    return markdown.render_table(replace(flag_table(table[kept]), title="")) + "\n"


def label_worth(file: Path) -> str:
    """Render the sentences and the table of label-worth."""

    def show(own: pd.DataFrame) -> str:
        texts = (
            markdown.render_table(part) if isinstance(part, Table) else markdown.escape(part.text)
            for part in worth_parts(own.reset_index(drop=True))
            if isinstance(part, Table | Text)
        )
        return "\n\n".join(texts) + "\n"

    return _by_block(pd.read_csv(file), show)


def text(file: Path, paragraphs: str = "") -> str:
    """Render a text, or the paragraphs with these numbers (``1,3``), counted from 1."""
    whole = file.read_text(encoding="utf-8")
    if not paragraphs:
        return whole
    parts = whole.strip().split("\n\n")
    return "\n\n".join(parts[int(number) - 1] for number in paragraphs.split(",")) + "\n"


def claims(file: Path) -> str:
    """Render claims and verdicts; claims read from a ``claims.yaml`` are not measured."""
    if file.suffix == ".yaml":
        table = pd.DataFrame(read_claims(file)).reindex(columns=COLUMNS)
        table["direction"] = table["size"] = "not measured"
        table["size"] = table["size"].where(table["number"].notna())
        return markdown.render_table(claim_table(table)) + "\n"
    table = pd.read_csv(file)
    is_measured = table["direction"] != "not measured"
    elsewhere = table["id"].isin(table["id"][is_measured])  # in another block of the study
    is_repeated = table.duplicated("id")
    table = table[is_measured | ~(elsewhere | is_repeated)]
    return _by_block(table, lambda own: markdown.render_table(claim_table(own)) + "\n")


def plain(file: Path) -> str:
    """Render any table unchanged."""
    table = pd.read_csv(file)
    is_number = [pd.api.types.is_numeric_dtype(table[name]) for name in table]
    columns = tuple(Column(str(n), yes) for n, yes in zip(table, is_number, strict=True))

    def row(values: tuple[object, ...]) -> tuple[Entry, ...]:
        both = zip(values, is_number, strict=True)
        texts = (number(v, "{:g}") if yes else str(v) for v, yes in both)
        return tuple(Entry("" if text == "nan" else text) for text in texts)

    rows = tuple(row(values) for values in table.itertuples(index=False, name=None))
    return markdown.render_table(Table("", columns, rows)) + "\n"


BLOCKS: dict[str, Callable[..., str]] = {
    "results": results, "scores": scores, "comparisons": comparisons, "claims": claims,
    "flags": flags, "gap": gap, "label_worth": label_worth,
    "table": plain, "text": text,
}  # fmt: skip


def main(blocks: Mapping[str, Callable[..., str]] | None = None) -> int:
    """Run ``python -m tlunet.report.render [--check] FILE.md…``.

    Args:
        blocks: see :func:`render`.
    """
    parser = argparse.ArgumentParser(description="Fill the blocks of Markdown documents.")
    parser.add_argument("file", type=Path, nargs="+")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if a file is stale"
    )
    args = parser.parse_args()
    try:
        texts = {file: render(file, blocks) for file in args.file}
        stale = [file for file, text in texts.items() if text != file.read_text(encoding="utf-8")]
    except (OSError, ValueError, KeyError, UserError) as error:
        print(error, file=sys.stderr)
        return 2
    for file in stale:
        print(f"{file}: {'is stale' if args.check else 'rendered'}")
        if not args.check:
            write_text(file, texts[file])
    return int(args.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
