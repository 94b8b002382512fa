"""The tables of benchmarks/README.md that look into a training step."""

import statistics
from pathlib import Path

from tlunet.bench.bench import COMPILED
from tlunet.bench.tables import NOTHING, on, records, table, what


def stages(folder: Path) -> str:
    """Stages: one row per stage of each record, with its measured time and hardware floor."""
    heads = [
        "on", "encoder, strips, batch", "stage", "GFLOP", "GB", "measured ms", "of step",
        "floor ms", "limited by",
    ]  # fmt: skip
    rows = []
    for r in records(folder):
        total = sum(stage["seconds"] for stage in r.get("stages", ()))
        for stage in r.get("stages", ()):
            arithmetic = stage["gflop"] / (r["matrix_peak_tflop"] * 1e3)
            rows.append(
                [
                    on(r),
                    what(r),
                    stage["name"],
                    f"{stage['gflop']:.4g}",
                    f"{stage['gbyte']:.3g}",
                    f"{1e3 * stage['seconds']:.3g}",
                    f"{stage['seconds'] / total:.0%}",
                    f"{1e3 * stage['floor']:.3g}",
                    "arithmetic" if arithmetic >= stage["floor"] * (1 - 1e-9) else "memory",
                ]
            )
    return table(heads, rows, left=3)


def kernels(folder: Path) -> str:
    """Kernels: one row per record, the share of a step's time by kind of kernel."""
    found = [r for r in records(folder) if "kernels" in r]
    spent = [r["kernels"]["milliseconds"] for r in found]
    kinds = sorted({k for s in spent for k in s}, key=lambda k: -sum(s.get(k, 0) for s in spent))
    rows = [
        [
            on(r),
            what(r),
            f"{r['kernels']['busy_ms']:.3g}",
            *(f"{s.get(kind, 0) / r['kernels']['busy_ms']:.1%}" for kind in kinds),
            f"{r['kernels']['convolution_utilisation']:.0%}",
        ]
        for r, s in zip(found, spent, strict=True)
    ]
    heads = ["on", "encoder, strips, batch", "step ms", *kinds, "convolutions, of the peak"]
    return table(heads, rows, left=2) if rows else NOTHING


def starts(folder: Path) -> str:
    """Starts: one row per record and side, with its first step and when compiling has paid off."""
    heads = [
        "on", "encoder, strips, batch", "side", "first step s", "next rounds s", "earned at step",
    ]  # fmt: skip
    rows = []
    for r in records(folder):
        for name, side in r["sides"].items():
            if not (first := side.get("first_step_seconds")):
                continue
            later = f"{statistics.median(first[1:]):.3g}" if first[1:] else "not measured"
            earned = "–"
            if name.startswith(COMPILED):
                step = side.get("earned_at_step")
                earned = "never" if step is None else f"{step}"
            rows.append([on(r), what(r), name, f"{first[0]:.3g}", later, earned])
    return table(heads, rows, left=3) if rows else NOTHING
