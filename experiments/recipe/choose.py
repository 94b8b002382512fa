"""Compare versions of the recipe by validation Dice, on which the choice rests.

cd experiments/recipe
python choose.py ../../runs/recipe_ablation ../../runs/recipe_strips_ablation --out validation.csv
"""

import argparse
from pathlib import Path

import pandas as pd

from tlunet.report.analysis.blocks import Block, collect

FRAC = {"neu_seg": 0.1, "synthetic": 1.0}
HEADINGS = {"neu_seg": "NEU-Seg, 10%", "synthetic": "strips"}


def validation_dice(block: Block) -> float:
    """Mean over seeds of the best epoch's validation Dice, with the fraction in question."""
    history = block.history[block.history["frac"] == FRAC[block.dataset]]
    return float(history.groupby("seed")["val_dice"].max().mean())


def name(block: Block) -> str:
    """How a version differs from the first one."""
    words = block.title.split(" · ")[1:]
    return " · ".join(word for word in words if word != "recipe=production") or "first version"


def main() -> None:
    """Write one row per version: validation Dice on each data set, and the mean where both are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    for study in args.study:
        for block in collect(study).blocks:
            column = HEADINGS[block.dataset]
            found.setdefault(name(block), {})[column] = validation_dice(block)
    table = pd.DataFrame.from_dict(found, orient="index").reindex(columns=list(HEADINGS.values()))
    table["mean"] = table.mean(axis=1, skipna=False)
    table = table.sort_values("mean", ascending=False, na_position="last").round(3)
    table.to_csv(args.out, index_label="version")


if __name__ == "__main__":
    main()
