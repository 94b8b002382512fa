"""Measures what learning from images without masks, and pasting defects, cost per training step.

    python benchmarks/few_labels.py [--rounds 5] [--steps 20] [--size 64x400] [--out FILE.csv]

The sides train in turn in one process, all with averaged weights: EfficientNet-Lite0 on synthetic
strips, a tenth of them with masks, 16 of these per step and, where the side has any, 16 others.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from tlunet.bench.about import about
from tlunet.bench.sides import ours, strips
from tlunet.bench.turns import ratios, take_turns
from tlunet.data.augment import Augment
from tlunet.data.sampling.copy_paste import CopyPaste
from tlunet.machine.console import say
from tlunet.machine.device import choose
from tlunet.model.losses import BCEDiceLoss
from tlunet.model.rest.rest import Labels, MeanTeacher

ENCODER, BATCH, STRIPS, FRAC, EMA = "timm-tf_efficientnet_lite0", 16, 640, 0.1, 0.99
CLASSES = 4
#: Side → what its datamodule and its task differ in.
SIDES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "rest=none": ({}, {}),
    "rest=labels": ({"rest_batch_size": BATCH, "rest_labels": True}, {"rest": Labels()}),
    "rest=mean_teacher": ({"rest_batch_size": BATCH}, {"rest": MeanTeacher(CLASSES)}),
    "augment=copy_paste": ({"augment": CopyPaste()}, {}),
}


def measure(size: tuple[int, int], rounds: int, steps: int) -> pd.DataFrame:
    """Return one row per side: steps per second (median) and its ratio to the first side."""
    machine = choose()
    with tempfile.TemporaryDirectory() as cache:
        sides = []
        for name, (of_data, of_task) in SIDES.items():
            data = strips(
                Path(cache), STRIPS, size, BATCH, machine, **{"augment": Augment()} | of_data,
                frac=FRAC,
            )  # fmt: skip
            task = {"loss": BCEDiceLoss(), "ema": EMA} | of_task
            sides.append(ours(name, data, ENCODER, machine, **task))
        options = {"rounds": rounds, "steps": steps, "warmup": 5, "evaluates": False}
        take_turns(sides, **options, accelerator=machine.accelerator, progress=say)
    hardware = about(machine)["hardware"]
    rows = []
    for side in sides:
        ratio = ratios(side.images, sides[0].images)
        rows.append({
            "side": side.name,
            "steps per second": round(statistics.median(side.images) / BATCH, 3),
            "speed relative to rest=none": "{median:.2f} ({min:.2f} to {max:.2f})".format(**ratio),
            "hardware": f"{hardware['name']}, {machine.precision}, {machine.threads} threads",
        })  # fmt: skip
    return pd.DataFrame(rows)


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", default="64x400")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    height, width = map(int, args.size.split("x"))
    table = measure((height, width), args.rounds, args.steps)
    print(table.to_string(index=False))
    if args.out:
        table.to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
