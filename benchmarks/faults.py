"""Injects faults at random moments of a real sweep and checks that no result is lost or wrong.

    python benchmarks/faults.py [--times 20] [--jobs 2]

A small study (two cells, one of them pre-trained, with its report) runs once without faults. Then
each fault interrupts the same study in a separate folder, the same command is run again until it
exits with 0, and the two are compared: weights, history except its wall-clock columns, scores,
predictions of every test image, split, and the W&B runs. *lost*: a trial that did not exit with 0,
or in which an epoch was missing or duplicated. *wrong*: a trial with any other difference.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from tlunet.study.training.callbacks.history import TIMED

ROOT = Path(__file__).parent.parent
LINE = (
    "-m", "init=random,synthetic", "data=synthetic", "data.n=48", "data.size=[32,64]", "epochs=3",
    "batch_size=4", "init.n=16", "init.epochs=1", "trainer=cpu", "trainer.threads=1",
    "checkpoint_minutes=0", "logger.mode=offline", "study=s",
)  # fmt: skip
OUT = ROOT / "benchmarks" / "results" / "faults.csv"
GRACE = 30.0  # seconds to exit after a signal
TYPED_AGAIN = 3  # maximum number of reruns


@dataclass
class Trial:
    """One trial: when the fault occurred, what the sweep was doing, and the outcome."""

    fault: str
    second: float
    moment: str
    grace: float | None  # seconds from the signal to the exit
    lost: str
    wrong: str


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start the command, as a user would, in a separate folder."""
    env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "run.py"), *LINE],
            cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def finish(folder: Path) -> str:
    """Run the command until it exits with 0; return the error otherwise."""
    for _ in range(TYPED_AGAIN):
        if (code := start(folder).wait()) == 0:
            return ""
    last = (folder / "log.txt").read_text(errors="replace").splitlines()[-1:]
    return f"exit code {code}: {' '.join(last)}"


def moment(folder: Path) -> str:
    """Determine what the sweep was doing from the existing files."""
    runs = sorted((folder / "runs/s").glob("*/status.json"), key=lambda p: p.stat().st_mtime)
    if not (folder / "data/packs").exists():
        return "before the data"
    if not runs:
        return "data"
    cell = runs[-1].parent
    state = json.loads(runs[-1].read_text())["state"]
    if state == "finished":
        return "report" if len(runs) == 2 else "between cells"
    if (cell / "metrics.json").exists():
        return "end of a cell"
    if not (cell / "last.ckpt").exists():
        return "start of a cell"
    epochs = len(pd.read_csv(cell / "history.csv")) if (cell / "history.csv").exists() else 0
    return "test" if epochs == 3 else f"epoch {epochs + 1}"


def contents(folder: Path) -> dict[str, dict[str, str]]:
    """Fingerprint the results: cell → part → fingerprint."""
    found = {}
    for run in sorted((folder / "runs/s").glob("*/")):
        if not (run / "metrics.json").exists():
            continue
        history = pd.read_csv(run / "history.csv")
        parts = {
            "history": history.drop(columns=list(TIMED)).to_csv(),
            "metrics": (run / "metrics.json").read_text(),
            "images": pd.read_parquet(run / "test_images.parquet").to_csv(),
            "masks": pd.read_parquet(run / "test_masks.parquet").to_csv(),
            "split": (run / "split.csv").read_text(),
            "wandb": str(sorted({p.name[-16:] for p in run.glob("wandb/offline-run-*")})),
        }
        for name in ("best", "last"):
            state = torch.load(run / f"{name}.ckpt", weights_only=True)["state_dict"]
            parts[name] = "".join(
                hashlib.sha256(v.contiguous().view(torch.uint8).numpy()).hexdigest()
                if v.ndim
                else str(v)
                for v in state.values()
            )
        found[run.name] = {k: hashlib.sha256(v.encode()).hexdigest() for k, v in parts.items()}
    return found


def compare(folder: Path, whole: dict[str, dict[str, str]], lost: str) -> tuple[str, str]:
    """Compare with the reference: (lost, wrong), each "" if there is nothing."""
    ours = contents(folder)
    wrong = [
        f"{cell}: {part}"
        for cell in whole
        for part in whole[cell]
        if ours.get(cell, {}).get(part) != whole[cell][part]
    ]
    for cell in whole:
        file = folder / "runs/s" / cell / "history.csv"
        epochs = pd.read_csv(file)["epoch"].tolist() if file.exists() else []
        if epochs != [0, 1, 2]:
            lost = lost or f"{cell}: epochs {epochs}"
    if not (folder / "runs/s/report.html").exists():
        lost = lost or "no report"
    return lost, "; ".join(wrong)


def kill(signum: int) -> Callable[[Path, float], tuple[str, float | None]]:
    """Send a signal after the given number of seconds."""

    def strike(folder: Path, second: float) -> tuple[str, float | None]:
        process = start(folder)
        with suppress(subprocess.TimeoutExpired):
            process.wait(second)
        at = moment(folder)
        struck = time.perf_counter()
        process.send_signal(signum)
        process.wait(2 * GRACE)
        return at, None if signum == signal.SIGKILL else time.perf_counter() - struck

    return strike


def damage(name: str) -> Callable[[Path, float], tuple[str, float | None]]:
    """Send SIGKILL once a running cell has this checkpoint, then truncate it at random."""

    def under_way(folder: Path) -> list[Path]:
        return [
            file
            for file in (folder / "runs/s").glob(f"*/{name}")
            if json.loads((file.parent / "status.json").read_text())["state"] == "running"
        ]

    def strike(folder: Path, second: float) -> tuple[str, float | None]:
        process = start(folder)
        wait = second % 5  # seconds after it exists
        while process.poll() is None and not under_way(folder):
            time.sleep(0.05)
        with suppress(subprocess.TimeoutExpired):
            process.wait(wait)
        at = moment(folder)
        process.kill()
        process.wait()
        files = under_way(folder)
        for file in files:
            os.truncate(file, random.Random(second).randrange(file.stat().st_size))
        return at if files else f"{at}: nothing to cut", None

    return strike


def twice(folder: Path, second: float) -> tuple[str, float | None]:
    """Start the same command a second time while the first is running."""
    first = start(folder)
    with suppress(subprocess.TimeoutExpired):
        first.wait(second)
    at = moment(folder)
    second_code = start(folder).wait()
    if first.wait() != 0 or second_code not in (0, 1):
        return f"{at}: exit codes {first.returncode}, {second_code}", None
    return at, None


def full_disk(folder: Path, second: float) -> tuple[str, float | None]:
    """Put the runs on a disk that is full after some megabytes, then enlarge it."""
    size = 40 + int(second * 5)  # about 400 are needed
    (folder / "runs").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(folder / "runs")]
    subprocess.run(mount, check=True)
    try:
        code = start(folder).wait()
        at = moment(folder) if code else "it was large enough"
        subprocess.run(["mount", "-o", "remount,size=2g", str(folder / "runs")], check=True)
        finish(folder)
        shutil.copytree(folder / "runs", folder / "kept")
    finally:
        subprocess.run(["umount", str(folder / "runs")], check=True)
    (folder / "runs").rmdir()
    (folder / "kept").rename(folder / "runs")
    return at, None


FAULTS: dict[str, tuple[Callable[[Path, float], tuple[str, float | None]], float]] = {
    "SIGKILL": (kill(signal.SIGKILL), 1.0),
    "SIGTERM": (kill(signal.SIGTERM), 0.25),
    "SIGINT (Ctrl+C)": (kill(signal.SIGINT), 0.15),
    "SIGKILL, then last.ckpt cut off": (damage("last.ckpt"), 0.15),
    "SIGKILL, then best.ckpt cut off": (damage("best.ckpt"), 0.1),
    "the same command twice at once": (twice, 0.1),
    "disk full": (full_disk, 0.15),
}


def counted(moments: pd.Series) -> str:
    """Count the moments, most frequent first."""
    return ", ".join(f"{moment} {n}" for moment, n in moments.value_counts().items())


def table(trials: pd.DataFrame) -> pd.DataFrame:
    """Summarise the trials, one row per fault."""
    rows = trials.groupby("fault", sort=False).agg(
        times=("second", "size"),
        moments=("moment", counted),
        longest_grace=("grace", "max"),
        lost=("lost", "count"),  # an empty field is a null
        wrong=("wrong", "count"),
    )
    return rows.round({"longest_grace": 1}).reset_index()


def main() -> None:
    """Run the trials, compare, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20, help="trials of SIGKILL; others fewer")
    parser.add_argument("--jobs", type=int, default=2, help="parallel trials")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    parser.add_argument("--only", nargs="*", help="run only these faults")
    parser.add_argument("--out", type=Path, default=OUT, help="CSV file, one row per fault")
    args = parser.parse_args()
    file = args.out.with_name(args.out.stem + "_trials.csv")
    done = pd.read_csv(file)["fault"].value_counts() if file.exists() else {}
    home = Path(tempfile.mkdtemp(prefix="faults-"))
    (home / "whole").mkdir()
    began = time.perf_counter()
    if lost := finish(home / "whole"):
        raise SystemExit(f"the run without faults fails: {lost}")
    seconds = time.perf_counter() - began
    whole = contents(home / "whole")
    print(f"without faults: {seconds:.0f} s, {len(whole)} cells", flush=True)
    draw = random.Random(f"{args.seed} {sum(done)}" if len(done) else args.seed)

    def trial(k: int, fault: str, second: float) -> Trial:
        folder = home / str(k)
        folder.mkdir()
        at, grace = FAULTS[fault][0](folder, second)
        found = Trial(fault, second, at, grace, *compare(folder, whole, finish(folder)))
        if grace is not None and grace > GRACE:
            found.lost = found.lost or f"{grace:.0f} s to end"
        print(found, flush=True)
        if not (found.lost or found.wrong):
            shutil.rmtree(folder)
        return found

    plan = [
        (fault, draw.uniform(1, seconds if args.jobs == 1 else 1.3 * seconds))
        for fault, (_, share) in FAULTS.items()
        if not args.only or fault in args.only
        for _ in range(max(1, round(share * args.times)) - int(done.get(fault, 0)))
    ]
    with ThreadPoolExecutor(args.jobs) as pool:
        # Written at once: the next start continues after them.
        for found in pool.map(lambda k: trial(k, *plan[k]), range(len(plan))):
            pd.DataFrame([found]).to_csv(file, mode="a", header=not file.exists(), index=False)
            rows = table(pd.read_csv(file))
            rows.to_csv(args.out, index=False)
    print(rows.to_string(index=False))
    if not rows[["lost", "wrong"]].to_numpy().any():
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
