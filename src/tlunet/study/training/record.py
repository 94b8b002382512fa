"""What a run folder says of its run besides the scores: state, facts, lock."""

import fcntl
import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from tlunet.machine import jobs
from tlunet.machine.console import complain
from tlunet.machine.files import read_json, write_json, write_text, write_whole
from tlunet.runs.results import state_of
from tlunet.study.training.resolve import Cell

PACKAGES = (
    "tlunet", "torch", "torchvision", "pytorch-lightning", "timm", "segmentation-models-pytorch",
    "torchmetrics", "hydra-core", "numpy", "pandas", "scipy", "pillow",
)  # fmt: skip


@contextmanager
def lock(folder: Path) -> Iterator[bool]:
    """Whether this process may run the cell; the lock dies with its holder."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def set_state(folder: Path, state: str, error: str | None = None) -> None:
    """Write ``status.json``: ``running``, ``finished`` or ``failed``, when, and who says so."""
    status = {
        "state": state,
        "error": error,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "job": jobs.current(),
    }
    write_json(folder / "status.json", status)


def give_up(folder: Path) -> None:
    """Say of a running cell that it failed, if its process is gone; where it ran stays known."""
    status = read_json(folder / "status.json")
    if status.get("state") != "running":
        return
    with lock(folder) as is_mine:
        if is_mine:
            error = "its process is gone (killed, out of memory, or its machine is); the same "
            error += "command goes on from the last checkpoint"
            write_json(folder / "status.json", status | {"state": "failed", "error": error})


def begin(cell: Cell) -> None:
    """Clear the folder if the cell starts over, and write down what is about to be run."""
    folder = cell.folder
    known = read_json(folder / "meta.json")
    attempt = int(known.get("attempt", 0))
    if cell.config["force"]:
        attempt += 1
        for path in folder.iterdir():
            if path.name != ".lock":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        known = {}
    for leftover in folder.glob(".*.*"):  # of a process that was killed while it wrote
        leftover.unlink()
    _warn_of_other_versions(known.get("versions", {}))
    _forget_failed_kin(cell)
    meta = _facts(cell) | {"attempt": attempt, "starting_weights": known.get("starting_weights")}
    split = cell.data.split
    set_state(folder, "running")
    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(cell.config)))
    write_whole(folder / "split.csv", lambda path: split.to_csv(path, index=False))
    write_json(folder / "meta.json", meta)


def _facts(cell: Cell) -> dict[str, Any]:
    """What is known of a run before it starts."""
    data, machine = cell.data, cell.hardware
    return {
        "study": cell.study,
        "dataset": cell.dataset,
        "encoder": cell.encoder,
        "init": cell.init,
        "frac": cell.frac,
        "seed": cell.seed,
        "digest": cell.digest,
        "kin": cell.kin,
        "science": cell.science,
        "split_fingerprint": cell.split_fingerprint,
        "data_fingerprint": data.pack.fingerprint,
        "left_out": data.pack.left_out,
        "size": list(data.pack.size),
        "classes": list(data.pack.classes),
        "mean": data.mean,
        "std": data.std,
        **{f"{subset}_images": len(rows) for subset, rows in data.rows.items()},
        "threshold": cell.config["threshold"],
        "accelerator": machine.accelerator,
        "hardware": machine.name,
        "threads": machine.threads,
        "precision": machine.precision,
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        **commit(),
    }


def commit() -> dict[str, Any]:
    """The commit of this code, and whether it was changed since; null outside a checkout."""

    def git(*args: str) -> str:
        here = Path(__file__).parent
        done = subprocess.run(["git", *args], cwd=here, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        changed = git("status", "--porcelain", "--untracked-files=no")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changed)}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def _warn_of_other_versions(known: dict[str, str]) -> None:
    changed = [
        f"{name} {then} → {now}" for name, then in known.items() if (now := version(name)) != then
    ]
    if changed:
        complain(f"warning: this run began with other versions: {', '.join(changed)}")


def _forget_failed_kin(cell: Cell) -> None:
    """Remove this cell's folders that failed for want of weights before they trained at all."""
    for status in cell.folder.parent.glob("*/status.json"):
        folder = status.parent
        if (
            folder != cell.folder
            and state_of(folder) == "failed"
            and read_json(folder / "meta.json").get("kin") == cell.kin
            and not (folder / "last.ckpt").exists()
        ):
            shutil.rmtree(folder)
