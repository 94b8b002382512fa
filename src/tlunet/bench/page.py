"""Fills the tables of ``benchmarks/README.md`` from its recorded results.

A block names the folder of the records, relative to the document:

    <!-- training results -->     training speed, and ratios to the plain recipe
    <!-- evaluation results -->   speed without gradients
    <!-- inference results -->    the predictor
    <!-- exported results -->     the predictor and ONNX Runtime
    <!-- stages results -->       time per stage of a step
    <!-- variants results -->     alternatives to the default path
    <!-- packs results -->        pack building
    <!-- commands results -->     commands that should respond immediately
    <!-- machines results -->     hardware and versions
    <!-- table results/FILE.json rows -->  a list of rows in a JSON file, unchanged
    <!-- end -->
"""

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tlunet.bench.bench import AMP, OURS, PLAIN
from tlunet.report.render import main

Record = dict[str, Any]
SIDES = ("eager", "predict", "onnxruntime")  # of benchmarks/inference.py


def records(folder: Path) -> list[Record]:
    """Read the records of ``tlunet bench`` in a folder, sorted by device, encoder and size."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    found = [record for record in found if "sides" in record]
    return sorted(found, key=lambda r: (r["hardware"]["name"], r["encoder"], r["size"]))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Format a Markdown table; all but the first `left` columns are right-aligned."""
    rules = ["---"] * left + ["---:"] * (len(heads) - left)
    lines = [heads, rules, *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def training(folder: Path) -> str:
    """Training: one row per record with images/s, hardware use, and ratios to the plain recipe."""
    heads = [
        "encoder, strips, batch", "images/s", "Mpixel/s", "TFLOP/s", "of peak", "waiting",
        "peak memory", "plain recipe images/s", "ratio", "ratio (recipe with AMP)",
    ]  # fmt: skip
    rows = []
    for r in records(folder):
        others = r["sides"]
        rows.append(
            [
                _what(r),
                f"{r['images_per_second']:.3g}",
                f"{r['mpixel_per_second']:.3g}",
                f"{r['tflop_per_second']:.3g}",
                f"{r['share_of_peak']:.0%}",
                f"{r['waiting']:.1%}",
                f"{r['peak_memory'] / 2**30:.1f} GiB",
                _speed(others.get(PLAIN), "images_per_second"),
                _ratio(others.get(PLAIN), "ours_faster"),
                _ratio(others.get(AMP), "ours_faster"),
            ]
        )
    return table(heads, rows)


def evaluation(folder: Path) -> str:
    """Evaluation: one row per record with images/s without gradients, including metrics."""
    heads = ["encoder, strips, batch", "images/s", "plain recipe images/s", "ratio"]
    rows = []
    for r in records(folder):
        other = r["sides"].get(PLAIN)
        rows.append(
            [
                f"{_cell(r)}, {r['eval_batch_size']}",
                f"{r['eval_images_per_second']:.3g}",
                _speed(other, "eval_images_per_second"),
                _ratio(other, "ours_faster_in_evaluation"),
            ]
        )
    return table(heads, rows)


def inference(folder: Path) -> str:
    """Inference: one row per record, predictor vs. unchanged library network."""
    heads = ["encoder, strips, batch", "predictor strips/s", "eager smp strips/s", "ratio"]
    rows = []
    for r in records(folder):
        if found := r.get("inference"):
            ours, theirs = (statistics.median(found[k]) for k in ("predictor", "eager_smp"))
            ratio = _ratio(found, "predictor_faster")
            rows.append([_what(r), f"{ours:.3g}", f"{theirs:.3g}", ratio])
    return table(heads, rows)


def exported(folder: Path) -> str:
    """Export: one row per record of ``benchmarks/inference.py``: torch, predictor, ONNX Runtime."""
    heads = [
        "encoder, strips, batch", "eager smp strips/s", "predictor strips/s", "ratio",
        "ONNX Runtime strips/s", "ratio",
    ]  # fmt: skip
    rows = []
    for path in sorted(folder.glob("inference-*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        what = f"{record['encoder']}, {record['size'].replace('x', '×')}, {record['batch_size']}"
        eager, ours, theirs = (f"{record['median'][name]:.3g}" for name in SIDES)
        _, one, other = (
            f"**{ratio['median']:.2f}** ({ratio['least']:.2f}–{ratio['most']:.2f})"
            for ratio in (record["times_eager"][name] for name in SIDES)
        )
        rows.append([what, eager, ours, one, theirs, other])
    return table(heads, rows)


def stages(folder: Path) -> str:
    """Stages: one row per stage of each record, with its measured time and hardware floor."""
    heads = [
        "encoder, strips, batch", "stage", "GFLOP", "GB", "measured ms", "of step", "floor ms",
        "limited by",
    ]  # fmt: skip
    rows = []
    for r in records(folder):
        total = sum(stage["seconds"] for stage in r["stages"])
        for stage in r["stages"]:
            arithmetic = stage["gflop"] / (r["matrix_peak_tflop"] * 1e3)
            rows.append(
                [
                    _what(r),
                    stage["name"],
                    f"{stage['gflop']:.4g}",
                    f"{stage['gbyte']:.3g}",
                    f"{1e3 * stage['seconds']:.3g}",
                    f"{stage['seconds'] / total:.0%}",
                    f"{1e3 * stage['floor']:.3g}",
                    "arithmetic" if arithmetic >= stage["floor"] * (1 - 1e-9) else "memory",
                ]
            )
    return table(heads, rows, left=2)


def variants(folder: Path) -> str:
    """Variants: one row per variant, with the speed-up of the default path over it."""
    heads = ["encoder, strips, batch", "variant", "images/s", "speed-up of default"]
    rows = [
        [_what(r), name, _speed(side, "images_per_second"), _ratio(side, "ours_faster")]
        for r in records(folder)
        for name, side in r["sides"].items()
        if name not in (OURS, PLAIN, AMP)
    ]
    return table(heads, rows, left=2)


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
    heads = ["machine", "threads", "precision", "matrix peak", "copy", "versions", "date"]
    rows: dict[str, list[str]] = {}
    for r in records(folder):
        machine, versions = r["hardware"], r["versions"]
        name = f"{machine['name']} ({machine['cuda'] or machine['cpu_capability']})"
        said = (f"{p} {versions[p]}" for p in ("torch", "pytorch-lightning", "torchvision"))
        rows[name] = [
            name,
            str(machine["threads"]),
            machine["precision"],
            f"{r['matrix_peak_tflop']:.3g} TFLOP/s",
            f"{r['copy_gbyte']:.3g} GB/s",
            ", ".join([f"Python {r['python']}", *said]),
            r["date"],
        ]
    return table(heads, list(rows.values()))


def plain_rows(file: Path, key: str) -> str:
    """Format a list of rows in a JSON file as a table."""
    rows = json.loads(file.read_text(encoding="utf-8"))[key]
    heads = list(rows[0])
    texts = [[_text(row.get(head)) for head in heads] for row in rows]
    return table([head.replace("_", " ") for head in heads], texts)


def _cell(record: Record) -> str:
    height, width = record["size"]
    return f"{record['encoder']}, {height}×{width}"


def _what(record: Record) -> str:
    return f"{_cell(record)}, {record['batch_size']}"


def _speed(side: Record | None, key: str) -> str:
    return f"{statistics.median(side[key]):.3g}" if side else "not measured"


def _ratio(side: Record | None, key: str) -> str:
    if side is None:
        return "not measured"
    found = side[key]
    return f"**{found['median']:.2f}** ({found['min']:.2f}–{found['max']:.2f})"


def _text(value: Any) -> str:
    if value is None:
        return "not measured"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


BLOCKS: dict[str, Callable[..., str]] = {
    "training": training, "evaluation": evaluation, "inference": inference,
    "exported": exported, "stages": stages,
    "variants": variants, "packs": packs, "commands": commands, "machines": machines,
    "table": plain_rows,
}  # fmt: skip


if __name__ == "__main__":  # python -m tlunet.bench.page [--check] FILE.md…
    sys.exit(main(BLOCKS))
