"""Metadata of a run in its folder: state, facts, configuration and split."""

import platform
import shutil
import socket
from importlib.metadata import version
from typing import Any

from omegaconf import OmegaConf

from tlunet.machine.console import complain
from tlunet.machine.files import read_json, write_json, write_text, write_whole
from tlunet.machine.versions import PACKAGES, commit
from tlunet.runs.cell import Cell
from tlunet.runs.folder import set_state, state_of


def begin(cell: Cell) -> None:
    """Clear the folder if the cell starts over, and record what is about to run."""
    folder = cell.folder
    known = read_json(folder / "meta.json")
    attempt = int(known.get("attempt", 0))
    if cell.config["force"]:
        attempt += 1
        for path in folder.iterdir():
            if path.name != ".lock":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        known = {}
    for leftover in folder.glob(".*.*"):  # from a process that was killed while writing
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
    """Facts known about a run before it starts."""
    data, machine = cell.data, cell.hardware
    return {
        "study": cell.study,
        "dataset": cell.dataset,
        "encoder": cell.encoder,
        "init": cell.init,
        "frac": cell.frac,
        "seed": cell.seed,
        "digest": cell.digest,
        "kin": cell.digest_without_start,
        "science": cell.science,
        "split_fingerprint": cell.split_fingerprint,
        "data_fingerprint": data.pack.fingerprint,
        "left_out": data.pack.left_out,
        "size": list(data.pack.size),
        "fit": data.pack.fit,
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


def _warn_of_other_versions(known: dict[str, str]) -> None:
    changed = [
        f"{name} {then} → {now}" for name, then in known.items() if (now := version(name)) != then
    ]
    if changed:
        complain(f"warning: this run started with different versions: {', '.join(changed)}")


def _forget_failed_kin(cell: Cell) -> None:
    """Remove folders of this cell that failed before training because weights were missing."""
    for status in cell.folder.parent.glob("*/status.json"):
        folder = status.parent
        if (
            folder != cell.folder
            and state_of(folder) == "failed"
            and read_json(folder / "meta.json").get("kin") == cell.digest_without_start
            and not (folder / "last.ckpt").exists()
        ):
            shutil.rmtree(folder)
