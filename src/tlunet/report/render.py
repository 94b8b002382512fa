"""Tables in Markdown files, rendered from recorded results: nobody types a number.

A block between ``<!-- results FILE.csv -->`` and ``<!-- end -->`` holds the table of that file
(its path is relative to the Markdown file).
"""

import argparse
import re
import sys
from pathlib import Path

import pandas as pd

from tlunet.study.results import SCORED, SHOWN, texts

BLOCK = re.compile(r"(<!-- results (\S+) -->\n).*?(<!-- end -->)", re.S)


def table(results: Path) -> str:
    """A results table in Markdown, with the row of the predictor that never finds a defect.

    Args:
        results: a ``results.csv`` with finished cells of one data set and one split.

    Raises:
        ValueError: cells of several data sets or splits, which must not be compared.
    """
    cells = pd.read_csv(results)
    cells = cells[cells["state"] == "finished"]
    for key in ("dataset", "split_fingerprint"):
        if cells[key].nunique() != 1:
            raise ValueError(f"{results}: cells of {cells[key].nunique()} values of {key}")
    rules = ["---"] * SCORED + ["---:"] * (len(SHOWN) - SCORED)
    rows = [list(SHOWN), rules, *(texts(cell) for _, cell in cells.iterrows())]
    first = cells.iloc[0]
    rows.append(["*never finds a defect*", "", "", "", *texts(first, "empty_")[SCORED:]])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    hardware = ", ".join(
        f"{h} ({p})" for h, p in cells[["hardware", "precision"]].drop_duplicates().to_numpy()
    )
    seeds = ", ".join(map(str, sorted(cells["seed"].unique())))
    lines.append(
        f"\n{first['dataset']} data, {int(first['test_images'])} test images, seed {seeds}, "
        f"{hardware}, {cells['seconds'].sum():.0f} s of training in all."
    )
    return "\n".join(lines) + "\n"


def render(markdown: Path) -> str:
    """The text of a Markdown file with every results block filled anew."""

    def fill(match: re.Match[str]) -> str:
        return f"{match[1]}{table(markdown.parent / match[2])}{match[3]}"

    return BLOCK.sub(fill, markdown.read_text(encoding="utf-8"))


def main() -> int:
    """``python -m tlunet.report.render [--check] FILE.md…``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("file", type=Path, nargs="+")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if one is stale")
    args = parser.parse_args()
    stale = [f for f in args.file if render(f) != f.read_text(encoding="utf-8")]
    for file in stale:
        print(f"{file}: {'is stale' if args.check else 'rendered'}")
        if not args.check:
            file.write_text(render(file), encoding="utf-8")
    return int(args.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
