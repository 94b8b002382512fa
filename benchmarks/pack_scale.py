"""Measures time and memory of packing as the data set grows, and the cost of a full-size strip.

    python benchmarks/pack_scale.py [--n 10000 30000 100000] [--size 32 64] [--out FILE.json]

Draws each number of strips, like `data=synthetic`, and packs them in a separate process on all
cores. Then measures the cost of one 256×1600 strip, and estimates that of 12,568 strips.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

FULL = (256, 1600)
SEVERSTAL = 12_568  # number of images in the real data set
CORES = 16  # cores assumed in the estimate


def peak(process: int | str = "self") -> float:
    """Peak memory of a process so far in MB (`ru_maxrss` would include its parent's)."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))


def pack(root: Path) -> dict[str, Any]:
    """Pack a data set in this process and measure it.

    Returns:
        Seconds, total and for finding near-duplicates; megabytes of this process before the
        listing, of the listing, and at the peak; of the largest worker; and of the pack's index.
    """
    from tlunet.data.grouping import duplicates
    from tlunet.data.pack.pack import open_pack
    from tlunet.data.readers import severstal

    grouping, group = [0.0], duplicates.group

    def timed(thumbnails: Any) -> Any:
        start = time.perf_counter()
        groups = group(thumbnails)
        grouping[0] = time.perf_counter() - start
        return groups

    workers = [0.0]

    def look(_: str, done: int, total: int) -> None:
        if done % 1000 == 0 or done == total:
            workers.extend(peak(worker.pid) for worker in active_children() if worker.pid)

    duplicates.group = timed
    start, before = time.perf_counter(), peak()
    source = severstal.read(root)
    listed = peak()
    made = open_pack(source, root.parent / "packs", progress=look)
    seconds = time.perf_counter() - start
    return {
        "packing_s": round(seconds, 1),
        "of_it_grouping_s": round(grouping[0], 1),
        "images_per_s": round(len(made) / seconds),
        "start_mb": round(before),
        "listing_mb": round(listed - before),
        "peak_mb": round(peak()),
        "peak_of_a_worker_mb": round(max(workers)),
        "index_mb": round(made.index.memory_usage(deep=True).sum() / 1e6),
        "pack_mb": round((made.images.nbytes + made.masks.nbytes) / 1e6),
    }


def measure(n: int, size: tuple[int, int], folder: Path) -> dict[str, Any]:
    """Draw strips and pack them in a new process."""
    from tlunet.data.synthetic.generate import generate

    root = folder / "strips"
    start = time.perf_counter()
    generate(root, n=n, size=size, seed=0)
    drawing = time.perf_counter() - start
    command = [sys.executable, __file__, "--pack", str(root)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    for path in (root, root.parent / "packs"):
        shutil.rmtree(path)
    size_text = f"{size[0]}×{size[1]}"
    return {"strips": n, "size": size_text, "drawing_s": round(drawing, 1)} | json.loads(
        done.stdout
    )


def exponents(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Fit slopes of log seconds over log number: 1 is linear, 2 quadratic."""
    n = np.log([row["strips"] for row in rows])
    packing = np.array([row["packing_s"] for row in rows])
    grouping = np.array([row["of_it_grouping_s"] for row in rows])
    times = {
        "drawing": np.array([row["drawing_s"] for row in rows]),
        "packing": packing,
        "packing_without_grouping": packing - grouping,
        "grouping": grouping,
    }
    return {
        name: round(float(np.polyfit(n, np.log(np.maximum(seconds, 0.05)), 1)[0]), 2)
        for name, seconds in times.items()
    }


def full_size(n: int, folder: Path) -> dict[str, Any]:
    """Measure the cost of a 256×1600 strip on one core, and the part that is not parallel.

    Args:
        n: number of strips to measure.
        folder: folder for the strips.

    Returns:
        Core-milliseconds per strip for drawing, for decoding, and for the main process, which more
        cores do not reduce: its own work and its waiting for the disk.
    """
    from tlunet.data.pack import build as packing
    from tlunet.data.pack import place as decoding
    from tlunet.data.readers import severstal
    from tlunet.data.synthetic.generate import generate

    root = folder / "full"
    start = time.process_time()
    generate(root, n=n, size=FULL, seed=0, balance="severstal", workers=1)
    drawing = time.process_time() - start

    source = severstal.read(root)
    form = decoding.Form(*FULL, channels=1, classes=len(source.classes))
    part = folder / "full.part"
    packing._lay_out(part, n, form)
    start = time.process_time()
    for i in range(0, n, 8):
        decoding.place(i, source.records[i : i + 8], folder=part, form=form, strict=True)
    decoding = time.process_time() - start

    # The cost proportional to the number of strips: the difference between few and many.
    packing.PROCESSES_FROM = 0  # so that this process does not decode
    spent = []
    for k, few in enumerate((8, n // 4, n)):  # the first run only triggers imports
        some = replace(source, records=source.records[:few])
        start = time.process_time()
        packing.build(some, folder / f"full-{k}", size=None, on_error="stop", progress=None)
        spent.append(time.process_time() - start)
    serial = (spent[2] - spent[1]) / (n - n // 4)
    shutil.rmtree(root)
    return {
        "strips": n,
        "drawing_core_ms": round(1e3 * drawing / n, 2),
        "decoding_core_ms": round(1e3 * decoding / n, 2),
        "in_charge_core_ms": round(1e3 * serial, 2),
    }


def estimate(costs: dict[str, Any]) -> dict[str, Any]:
    """Estimate the time to draw and pack a data set of Severstal's size on many cores like these.

    Assumes that the main process and the workers take turns, which they do not. Worker processes
    start twice, in about 2 s. The disk is not included: 5 GB of images and 5 GB of masks.
    """
    drawing = SEVERSTAL * costs["drawing_core_ms"] / 1e3 / CORES
    decoding = SEVERSTAL * costs["decoding_core_ms"] / 1e3 / CORES
    serial = SEVERSTAL * costs["in_charge_core_ms"] / 1e3
    return {
        "estimate_not_measured": f"{SEVERSTAL} strips of 256×1600 on {CORES} cores like these",
        "drawing_s": round(drawing, 1),
        "decoding_s": round(decoding, 1),
        "in_charge_s": round(serial, 1),
        "in_all_s": round(2 * 2 + drawing + decoding + serial),
    }


def machine() -> dict[str, Any]:
    """Describe the machine."""
    models = [
        line.partition(": ")[2]
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    packages = ("numpy", "scipy", "pandas", "pyarrow", "pillow")
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
    }


def main() -> dict[str, Any]:
    """Measure each number of strips, print a table, and save it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--n", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--size", type=int, nargs=2, default=[32, 64], metavar=("H", "W"))
    parser.add_argument("--full", type=int, default=256, help="256×1600 strips to measure")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--pack", type=Path, help="only pack these strips and measure it")
    args = parser.parse_args()
    if args.pack:
        found = pack(args.pack)
        print(json.dumps(found))
        return found
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(n, tuple(args.size), Path(folder)) for n in args.n]
        costs = full_size(args.full, Path(folder))
    record = machine() | {"rows": rows}
    if len(rows) > 1:
        record["exponents"] = exponents(rows)
    record |= {"full_size": costs, "full_size_estimate": estimate(costs)}
    print(pd.DataFrame(rows).T.to_string(header=False))
    for name in ("exponents", "full_size", "full_size_estimate"):
        print(f"\n{name}", *(f"  {k}: {v}" for k, v in record.get(name, {}).items()), sep="\n")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(record, indent=2) + "\n")
    return record


if __name__ == "__main__":
    main()
