"""Measures time, memory and page size of a report as the number of test images grows.

    python benchmarks/report_scale.py [--images 1000 10000 100000] [--cells 40] [--out FILE.json]

Writes an artificial study of each size (2 encoders × 2 initialisations × 2 fractions × seeds, four
classes as frequent as Severstal's, a split.csv of a data set eight times as large), and its report
with the paper's claims in a separate process. The artificial runs have no masks, so the pictures of
at most 404 test images are not included.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

ROOT = Path(__file__).parent.parent
CLAIMS = ROOT / "experiments" / "tlunet_paper" / "claims.yaml"
CLASSES = ("1", "2", "3", "4")
SHARES = np.array([897, 247, 5150, 801]) / 12568  # fractions of Severstal's images
KEYS = list(product(("resnet", "densenet"), ("random", "imagenet"), (1.0, 0.5)))
EPOCHS = 10
#: Part → its functions in tlunet.report.report.
PARTS = {
    "read": ("collect",),
    "bootstrap": ("score_table", "compare", "judge"),
    "figures": ("figures", "pictures"),
    "page": ("to_html", "to_markdown"),
}


def write_study(folder: Path, images: int, cells: int) -> None:
    """Write an artificial study in the format of a real one.

    Args:
        folder: the study folder.
        images: N test images.
        cells: number of cells; 8 combinations of encoder × init × frac per seed.
    """
    rng = np.random.default_rng(0)
    ids = np.array([f"{name:09x}.jpg" for name in rng.permutation(8 * images)], dtype=object)
    groups = np.arange(len(ids))
    groups[1 : len(ids) // 50 : 2] -= 1  # 1 in 50 has a near-duplicate, next to it
    subset = np.repeat(["test", "val", "train"], [images, images, 6 * images])
    split = pd.DataFrame({"image_id": ids, "subset": subset, "group": groups})
    label = rng.random((images, len(CLASSES))) < SHARES  # (N, M)
    truth = np.where(label, rng.lognormal(8.5, 1.2, label.shape).astype(np.int64) + 30, 0)
    for k in range(cells):
        (encoder, init, frac), seed = KEYS[k % len(KEYS)], k // len(KEYS)
        fixed = {"encoder": encoder, "init": init, "frac": frac, "seed": seed}
        run = folder / f"{encoder}-{init}-{frac}-s{seed}-{k:08x}"
        run.mkdir(parents=True)
        skill = 0.6 + 0.1 * (init == "imagenet") * (2 - frac) + 0.01 * rng.normal()
        _write_run(run, fixed, split["image_id"].to_numpy()[:images], label, truth, skill)
        if k == 0:
            split.to_csv(run / "split.csv", index=False)
            first = run / "split.csv"
        else:
            shutil.copyfile(first, run / "split.csv")


def _write_run(
    run: Path, fixed: dict[str, Any], ids: Any, label: Any, truth: Any, skill: float
) -> None:
    from tlunet.model.scores import PixelCounts, per_image, summarise

    rng = np.random.default_rng(int(1e6 * skill))
    N, M = label.shape
    found = rng.random((N, M)) < 0.02 + 0.96 * label * skill
    both = np.where(found, rng.binomial(truth, np.clip(rng.normal(skill, 0.1, (N, M)), 0.1, 1)), 0)
    extra = np.where(found, rng.lognormal(7, 1, (N, M)).astype(np.int64), 0)
    logit = 4 * skill * label + rng.normal(-2, 1.3, (N, M))
    prob = (1 / (1 + np.exp(-logit))).astype(np.float32)
    counts = PixelCounts(np.arange(N), both, truth, both + extra, label, prob)
    per_image(counts, ids.tolist(), CLASSES).to_parquet(run / "test_images.parquet", index=False)
    meta = fixed | {
        "study": run.parent.name, "dataset": "severstal", "digest": run.name[-8:],
        "science": fixed | {"data": "d", "split": "s"}, "classes": CLASSES, "threshold": 0.5,
        "split_fingerprint": "5" * 64, "data_fingerprint": "6" * 64, "left_out": [],
        "size": (256, 1600), "accelerator": "cpu", "hardware": "none", "precision": "32-true",
        "versions": {}, "train_images": 6 * N, "test_images": N, "commit": None, "dirty": None,
        "epochs": EPOCHS, "best_epoch": EPOCHS - 1, "seconds": 30.0, "images_per_second": 10.0,
        "peak_memory": 2**30, "parameters": 14_000_000, "encoder_parameters": 11_000_000,
        "gflop_per_image": 67.8,
    }  # fmt: skip
    config = {"init": {"name": fixed["init"], "path": None}, "data": {"root": "nowhere"}}
    state = {"state": "finished", "error": None, "time": "2026-01-01T00:00:00"}
    (run / "meta.json").write_text(json.dumps(meta))
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    (run / "metrics.json").write_text(json.dumps(summarise(counts)))
    epochs = np.arange(EPOCHS)
    rising = {f"val_{name}": skill * (1 - 0.5**epochs) for name in ("dice", "iou", "mla", "auc")}
    falling = {f"{part}_loss": 2.0 - rising["val_dice"] for part in ("train", "val")}
    history = pd.DataFrame({"epoch": epochs, "seconds": 3.0} | falling | rising)
    history.to_csv(run / "history.csv", index=False)
    (run / "status.json").write_text(json.dumps(state))


def write_report(study: Path) -> dict[str, Any]:
    """Write a study's report in this process.

    Returns:
        Seconds, total and of each part; peak memory in GiB; size of the page in MB.
    """
    start = time.perf_counter()
    from tlunet.report import report

    seconds = {"imports": time.perf_counter() - start} | dict.fromkeys(PARTS, 0.0)

    def timed(function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            begin = time.perf_counter()
            result = function(*args)
            seconds[part] += time.perf_counter() - begin
            return result

        return call

    for part, names in PARTS.items():
        for name in names:
            setattr(report, name, timed(getattr(report, name), part))
    page = report.write_report(study, CLAIMS)
    total = time.perf_counter() - start
    drawings = sum(file.stat().st_size for file in (study / "figures").iterdir())
    return {
        "seconds": round(total, 2),
        **{f"seconds_{part}": round(spent, 2) for part, spent in seconds.items()},
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "page_mb": round(page.stat().st_size / 1e6, 2),
        "figures_mb": round(drawings / 1e6, 2),
    }


def measure(images: int, cells: int, folder: Path) -> dict[str, Any]:
    """Write a study, and its report in a new process."""
    study = folder / f"study_{images}"
    write_study(study, images, cells)
    command = [sys.executable, __file__, "--study", str(study)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    shutil.rmtree(study)
    return {"images": images, "cells": cells} | json.loads(done.stdout)


def machine() -> dict[str, Any]:
    """Describe the machine."""
    models = [
        line.partition(": ")[2]
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    packages = ("numpy", "scipy", "pandas", "pyarrow", "matplotlib")
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
    }


def main() -> dict[str, Any]:
    """Measure each size, print a table, and save it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--cells", type=int, default=40)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--study", type=Path, help="only write this study's report and measure it")
    args = parser.parse_args()
    if args.study:
        found = write_report(args.study)
        print(json.dumps(found))
        return found
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(images, args.cells, Path(folder)) for images in args.images]
    print(pd.DataFrame(rows).T.to_string(header=False))
    record = machine() | {"rows": rows}
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(record, indent=2) + "\n")
    return record


if __name__ == "__main__":
    main()
