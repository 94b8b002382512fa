"""Tabulate what `tlunet train` left in its run folders, as trained and with its tuned rules.

python experiments/recipe/folder.py runs/my_neu/* runs/tiles/* --out experiments/recipe/folder.csv

Further runs, such as those of a study, make further columns.
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tlunet.machine.files import read_json
from tlunet.runs.folder import read_meta

SCORES = {"dice_image": "Dice", "mla": "MLA", "dice_kaggle": "Kaggle-Dice"}
FLAGS = {
    "missed": ("defective", "images with a defect, missed"),
    "false": ("defect_free", "defect-free images, flagged"),
}


def column(runs: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Yield name and value of each row of the table.

    Args:
        runs: finished and tuned runs that differ in their seed alone.
    """
    metas = [read_meta(run) for run in runs]
    tuned = [read_json(run / "tuned.json") for run in runs]
    first = metas[0]
    steps = pd.read_csv(runs[0] / "history.csv")["step"].iloc[-1]
    yield "encoder", first["encoder"]
    yield "weights", {"imagenet": "ImageNet"}.get(first["init"], first["init"])
    yield "trainings", str(len(runs))
    yield "training images", f"{first['train_images']:,}"
    yield "test images", f"{first['test_images']:,}"
    yield "optimiser steps", f"{steps:,}"
    yield "CPU cores", str(first["threads"])
    yield "minutes of training", f"{np.mean([meta['seconds'] for meta in metas]) / 60:.1f}"
    for name, title in SCORES.items():
        own, fitted = (np.mean([one["test"][p + name] for one in tuned]) for p in ("", "tuned_"))
        yield title, f"{own:.3f} → {fitted:.3f}"
    for by, (name, (of, title)) in itertools.product(("masks", "labels"), FLAGS.items()):
        total = tuned[0]["flags"][0][of]
        own, fitted = (
            np.mean([one["flags"][0][f"{prefix}{name}_{by}"] for one in tuned])
            for prefix in ("", "tuned_")
        )
        digits = 0 if len(runs) == 1 else 1
        shown = f"{own:.{digits}f} → {fitted:.{digits}f} of {total:,}"
        yield f"{title} by {by}", shown if total else "–"


def heading(run: Path) -> str:
    """Name the data and the size that a run was trained at."""
    meta: dict[str, Any] = read_meta(run)
    height, width = meta["size"]
    return f"{meta['study']}, {height}×{width}"


def main() -> None:
    """Write one column per data set and size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    runs = [run for run in args.run if (run / "tuned.json").exists()]
    groups = itertools.groupby(runs, heading)
    columns = {name: dict(column(list(own))) for name, own in groups}
    pd.DataFrame(columns).rename_axis("as trained → tuned").to_csv(args.out)


if __name__ == "__main__":
    main()
