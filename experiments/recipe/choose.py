"""Compare versions of the recipe by validation Dice, on which the choice rests.

cd experiments/recipe
python choose.py ../../runs/recipe_ablation ../../runs/recipe_strips_ablation --out validation.csv
"""

import argparse
from pathlib import Path

import pandas as pd

from tlunet.report.analysis.blocks import Block, collect
from tlunet.runs.settings import read_settings
from tlunet.study.config.command import read_command

HERE = Path(__file__).parent
FRAC = {"neu_seg": 0.1, "synthetic": 1.0, "folder": 1.0}
HEADINGS = {"neu_seg": "NEU-Seg, 10%", "synthetic": "strips", "folder": "tiles"}
#: Settings that an arm may change, other than the length of training.
CHANGED = (
    "recipe", "loss", "augment", "transform", "lr", "betas", "optimizer", "weight_decay", "clip",
    "schedule", "warmup", "ema", "sampling", "monitor", "patience",
)  # fmt: skip


def validation_dice(block: Block, by: str) -> float:
    """Mean over seeds of the best epoch's validation Dice, with the fraction in question.

    Args:
        block: one version on one data set.
        by: ``Dice``: the epoch of the highest one; ``loss``: that of the lowest validation loss.
    """
    history = block.history[block.history["frac"] == FRAC[block.dataset]].reset_index(drop=True)
    seeds = history.groupby("seed")
    best = seeds["val_dice"].idxmax() if by == "Dice" else seeds["val_loss"].idxmin()
    return float(history.loc[best, "val_dice"].mean())


def arms() -> dict[tuple[str, ...], str]:
    """Name the version that each combination of settings is: a file of ``arm/``."""
    named = {}
    for file in sorted((HERE / "arm").glob("*.yaml")):
        line = ["-cd", str(HERE), "-cn", "ablation", f"arm={file.stem}", "hydra.mode=RUN"]
        [config] = read_command(line, HERE.parents[1] / "conf") or []
        settings = read_settings(config)
        named[tuple(settings[key] for key in CHANGED)] = file.stem
    return named


def main() -> None:
    """Write one row per version and one column per data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--by-loss", action="store_true", help="also of the epoch by loss")
    args = parser.parse_args()
    named = arms()
    found: dict[str, dict[str, float]] = {}
    for study in args.study:
        for block in collect(study).blocks:
            version = named[tuple(block.settings[key] for key in CHANGED)]
            name = HEADINGS[block.dataset]
            found.setdefault(version, {})[name] = validation_dice(block, "Dice")
            if args.by_loss:
                found[version][f"{name}, epoch by loss"] = validation_dice(block, "loss")
    table = pd.DataFrame.from_dict(found, orient="index")
    table = table[[name for first in HEADINGS.values() for name in table if name.startswith(first)]]
    first = [name for name in list(HEADINGS.values())[:2] if name in table]
    table["mean of NEU-Seg and strips"] = table[first].mean(axis=1, skipna=False)
    table = table.sort_values(
        "mean of NEU-Seg and strips", ascending=False, na_position="last"
    ).round(3)
    table.to_csv(args.out, index_label="version")


if __name__ == "__main__":
    main()
