"""Fills the tables of ``benchmarks/README.md`` from its recorded results.

A block names the folder of the records, relative to the document:

    <!-- training results -->     training speed, and ratios to the plain recipe
    <!-- evaluation results -->   speed without gradients
    <!-- inference results -->    the predictor
    <!-- exported results -->     the predictor and ONNX Runtime
    <!-- stages results -->       time per stage of a step
    <!-- kernels results -->      time per kind of kernel of a step
    <!-- variants results -->     alternatives to the default path
    <!-- packs results -->        pack building
    <!-- commands results -->     commands that should respond immediately
    <!-- starts results -->       first steps, and when compilation has paid for itself
    <!-- cells results -->        a whole cell, with callbacks and epoch ends
    <!-- gpu results/gpu.jsonl --> the stages of benchmarks/gpu.sh
    <!-- machines results -->     hardware and versions
    <!-- table results/FILE.json rows -->  a list of rows in a JSON file, unchanged
    <!-- end -->
"""

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from tlunet.bench.bench import AMP, OURS, PLAIN, TUNED
from tlunet.bench.gpu_page import gpu
from tlunet.bench.step_page import kernels, stages, starts
from tlunet.bench.tables import (
    NOTHING,
    Record,
    on,
    ratio,
    records,
    speed,
    strips,
    table,
    text,
    what,
)
from tlunet.report.render import main

SIDES = ("eager", "predict", "onnxruntime")  # of benchmarks/inference.py


def training(folder: Path) -> str:
    """Training: one row per record with images/s, hardware use, and ratios to the plain recipe."""
    heads = [
        "on", "encoder, strips, batch", "images/s", "Mpixel/s", "TFLOP/s", "MFU", "waiting",
        "peak memory", "plain recipe images/s", "ratio", "ratio (recipe with AMP)",
        "ratio (tuned recipe)",
    ]  # fmt: skip
    rows = []
    for r in records(folder):
        others = r["sides"]
        rows.append(
            [
                on(r),
                what(r),
                f"{r['images_per_second']:.3g}",
                f"{r['mpixel_per_second']:.3g}",
                f"{r['tflop_per_second']:.3g}",
                f"{r.get('model_flop_utilisation', r.get('share_of_peak')):.0%}",
                f"{r['waiting']:.1%}",
                f"{r['peak_memory'] / 2**30:.1f} GiB",
                speed(others.get(PLAIN), "images_per_second"),
                ratio(others.get(PLAIN), "ours_faster"),
                ratio(others.get(AMP), "ours_faster"),
                ratio(others.get(TUNED), "ours_faster"),
            ]
        )
    return table(heads, rows, left=2)


def evaluation(folder: Path) -> str:
    """Evaluation: one row per record with images/s without gradients, including metrics."""
    heads = ["on", "encoder, strips, batch", "images/s", "plain recipe images/s", "ratio"]
    rows = []
    for r in records(folder):
        if "eval_images_per_second" not in r:
            continue
        other = r["sides"].get(PLAIN)
        rows.append(
            [
                on(r),
                f"{strips(r)}, {r['eval_batch_size']}",
                f"{r['eval_images_per_second']:.3g}",
                speed(other, "eval_images_per_second"),
                ratio(other, "ours_faster_in_evaluation"),
            ]
        )
    return table(heads, rows, left=2)


def inference(folder: Path) -> str:
    """Inference: one row per record, predictor vs. unchanged library network."""
    heads = ["on", "encoder, strips, batch", "predictor strips/s", "eager smp strips/s", "ratio"]
    rows = []
    for r in records(folder):
        if found := r.get("inference"):
            ours, theirs = (statistics.median(found[k]) for k in ("predictor", "eager_smp"))
            speeds = f"{ours:.3g}", f"{theirs:.3g}"
            rows.append([on(r), what(r), *speeds, ratio(found, "predictor_faster")])
    return table(heads, rows, left=2)


def exported(folder: Path) -> str:
    """Export: one row per record of ``benchmarks/inference.py``: torch, predictor, ONNX Runtime."""
    heads = [
        "encoder, strips, batch", "eager smp strips/s", "predictor strips/s", "ratio",
        "ONNX Runtime strips/s", "ratio",
    ]  # fmt: skip
    rows = []
    for path in sorted(folder.glob("inference-*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        named = f"{record['encoder']}, {record['size'].replace('x', '×')}, {record['batch_size']}"
        eager, ours, theirs = (f"{record['median'][name]:.3g}" for name in SIDES)
        _, one, other = (
            f"**{times['median']:.2f}** ({times['least']:.2f}–{times['most']:.2f})"
            for times in (record["times_eager"][name] for name in SIDES)
        )
        rows.append([named, eager, ours, one, theirs, other])
    return table(heads, rows)


def variants(folder: Path) -> str:
    """Variants: one row per variant, with the speed-up of the default path over it."""
    heads = ["on", "encoder, strips, batch", "variant", "images/s", "speed-up of default"]
    rows = [
        [on(r), what(r), name, speed(side, "images_per_second"), ratio(side, "ours_faster")]
        for r in records(folder)
        for name, side in r["sides"].items()
        if name not in (OURS, PLAIN, AMP, TUNED)
    ]
    return table(heads, rows, left=3)


def cells(folder: Path) -> str:
    """Cells: one row per record, ``python run.py`` as a user runs it."""
    heads = [
        "on", "encoder, strips, batch", "training images", "command s", "first epoch s",
        "last epoch s", "images/s in it", "waiting", "beside training",
    ]  # fmt: skip
    rows = [
        [
            on(r),
            what(r),
            str(c["images"]),
            f"{c['seconds']:.0f}",
            f"{c['epoch_seconds'][0]:.3g}",
            f"{c['epoch_seconds'][-1]:.3g}",
            f"{c['images_per_second'][-1]:.3g}",
            f"{c['waiting'][-1]:.1%}",
            f"{c['beside_training']:.0%}",
        ]
        for r in records(folder)
        if (c := r.get("cell"))
    ]
    return table(heads, rows, left=2) if rows else NOTHING


def packs(folder: Path) -> str:
    """Packs: one row per strip size, with the speed and memory of building a pack."""
    heads = ["strips", "number", "packed images/s", "peak memory", "memory before"]
    found = {tuple(r["size"]): r["pack_building"] for r in records(folder) if "pack_building" in r}
    rows = [
        [
            f"{size[0]}×{size[1]}",
            str(p["images"]),
            f"{p['images_per_second']:.0f}",
            f"{p['peak_memory'] / 2**20:.0f} MiB",
            f"{p['memory_before'] / 2**20:.0f} MiB",
        ]
        for size, p in sorted(found.items())
    ]
    return table(heads, rows)


def commands(folder: Path) -> str:
    """Commands: one row per command, with its run time, the median over the records."""
    found: dict[str, list[float]] = {}
    for r in records(folder):
        for name, seconds in r.get("start_up", {}).items():
            found.setdefault(name, []).append(seconds)
    rows = [[f"`{name}`", f"{statistics.median(s):.2f} s"] for name, s in found.items()]
    return table(["command", "median"], rows)


def machines(folder: Path) -> str:
    """Machines: one row per machine that was measured."""
    heads = [
        "machine", "driver, settings", "threads", "precision", "matrix peak", "copy", "versions",
        "date",
    ]  # fmt: skip
    rows: dict[str, list[str]] = {}
    for r in records(folder):
        machine, versions = r["hardware"], r["versions"]
        name = f"{machine['name']} ({on(r)})"
        said = (f"{p} {versions[p]}" for p in ("torch", "pytorch-lightning", "torchvision"))
        rows[name] = [
            name,
            _settings(machine),
            str(machine["threads"]),
            machine["precision"],
            f"{r['matrix_peak_tflop']:.3g} TFLOP/s",
            f"{r['copy_gbyte']:.3g} GB/s",
            ", ".join([f"Python {r['python']}", *said]),
            r["date"],
        ]
    return table(heads, list(rows.values()), left=2)


def _settings(machine: Record) -> str:
    """What decides which kernels run: a GPU's driver and settings, a CPU's instructions."""
    if gpu := machine.get("gpu"):
        tf32 = [k for k in ("matmul", "cudnn") if gpu[f"tf32_{k}"]]
        return (
            f"driver {gpu['driver']}, CUDA {machine['cuda']}, cuDNN {gpu['cudnn']} (benchmark: "
            f"{gpu['cudnn_benchmark']}), TF32: {', '.join(tf32) or 'off'}"
        )
    return ", ".join(machine.get("cpu", {}).get("instructions", ())) or "not recorded"


def plain_rows(file: Path, key: str) -> str:
    """Format a list of rows in a JSON file as a table."""
    rows = json.loads(file.read_text(encoding="utf-8"))[key]
    heads = list(rows[0])
    texts = [[text(row.get(head)) for head in heads] for row in rows]
    return table([head.replace("_", " ") for head in heads], texts)


BLOCKS: dict[str, Callable[..., str]] = {
    "training": training, "evaluation": evaluation, "inference": inference,
    "exported": exported, "stages": stages, "kernels": kernels,
    "starts": starts, "cells": cells, "gpu": gpu,
    "variants": variants, "packs": packs, "commands": commands, "machines": machines,
    "table": plain_rows,
}  # fmt: skip


if __name__ == "__main__":  # python -m tlunet.bench.page [--check] FILE.md…
    sys.exit(main(BLOCKS))
