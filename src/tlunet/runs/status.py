"""State of a study at a glance, during and after it runs.

Reads only small text files, without torch or pandas, so that it is fast on a cluster's login node.
"""

import csv
import math
import os
import socket
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from tlunet.errors import DataError
from tlunet.machine import jobs
from tlunet.machine.files import read_json
from tlunet.runs.cell import epochs_for
from tlunet.runs.settings import read_settings, what_differs

#: In the order of the summary line. ``queued``: its job waits to start or restart; ``missing``:
#: the cell was defined but never started.
STATES = ("finished", "running", "queued", "failed", "interrupted", "missing", "unreadable")
SIGNS_OF_LIFE = ("history.csv", "last.ckpt", "best.ckpt", "status.json", "meta.json")


@dataclass
class Row:
    """One cell, as stored in its folder; ``None`` if unknown."""

    folder: str
    encoder: str | None = None
    init: str | None = None
    frac: float | None = None
    seed: int | None = None
    settings: str = ""  # those that differ between the study's cells, as typed
    state: str = "missing"  # one of STATES
    epoch: int = 0  # epochs trained so far
    epochs: int | None = None  # epochs requested; early stopping may end sooner
    val_loss: float | None = None  # of the last epoch
    val_dice: float | None = None
    best_epoch: int | None = None  # counted from 1; by early_stopping.monitor
    best_val_loss: float | None = None
    best_val_dice: float | None = None  # of that epoch
    seconds: float | None = None  # training time, including validation
    epoch_seconds: float | None = None  # median, including validation
    seconds_left: float | None = None  # of training, upper bound; running cells only
    host: str | None = None
    job: str | None = None  # slurm 4711_3, ray 02000000
    silent_seconds: float | None = None  # since a running cell last wrote a file
    note: str = ""  # why it failed, or which file cannot be read


def read_study(study: Path) -> list[Row]:
    """Read one row per cell, in the order of ``results.csv``.

    Args:
        study: a study folder, such as ``runs/synthetic``.

    Raises:
        DataError: not a folder, or no run folder in it.
    """
    if not study.is_dir():
        what = "not a folder" if study.exists() else "no such folder"
        raise DataError(f"{study}: {what}; expected a study, such as runs/synthetic")
    signs = ("status.json", "meta.json", ".lock")
    folders = {path.parent for sign in signs for path in study.glob(f"*/{sign}")}
    if not folders:
        raise DataError(f"{study}: no run folder in it; expected a study, such as runs/synthetic")
    held = _held_locks()
    read = [_read_run(folder) for folder in sorted(folders)]
    _name_settings(study, [row for row, *_ in read])
    queue = jobs.queue(
        {row.job for row, *_ in read if row.job and row.state in ("running", "failed")}
    )
    rows = []
    for row, status, notes in read:
        _judge(study / row.folder, row, status, held, queue, notes)
        row.note = "; ".join(notes)
        rows.append(row)
    rows.sort(key=lambda row: (row.init or "", row.seed or 0, row.folder))
    rows.sort(key=lambda row: row.settings)
    rows.sort(key=lambda row: (row.encoder or "", row.frac or 0), reverse=True)  # sorting is stable
    return rows


def _name_settings(study: Path, rows: Sequence[Row]) -> None:
    """Write into each row the settings in which cells differ; an unreadable file has none."""
    known = []
    for row in rows:
        with suppress(OSError, ValueError, YAMLError, OmegaConfBaseException):
            known.append((row, read_settings(OmegaConf.load(study / row.folder / "config.yaml"))))
    words = what_differs([settings for _, settings in known])
    for (row, _), differing in zip(known, words, strict=True):
        row.settings = ", ".join(differing)


def _read_run(folder: Path) -> tuple[Row, dict[str, Any], list[str]]:
    """Read a run folder: its row, ``status.json``, and notes."""
    row = Row(folder.name)
    notes: list[str] = []
    status = _object(folder / "status.json", notes)
    meta = _object(folder / "meta.json", notes)
    science = _known(meta, "science", dict) or {}
    row.encoder, row.init = _known(meta, "encoder", str), _known(meta, "init", str)
    row.frac, row.seed = _known(meta, "frac", (float, int)), _known(meta, "seed", int)
    row.epochs = _epochs(science, row.frac)
    row.host, row.job = _known(status, "host", str), _known(status, "job", str)
    if (folder / "status.json").exists():
        row.state = _known(status, "state", str) or "unreadable"
    if status.get("error"):
        notes.insert(0, " ".join(str(status["error"]).split()))
    stopping = _known(science, "early_stopping", dict) or {}
    monitor = _known(stopping, "monitor", str) or "val_loss"
    _read_history(folder / "history.csv", row, monitor, notes)
    return row, status, notes


def _object(path: Path, notes: list[str]) -> dict[str, Any]:
    """Read a JSON file's object; if that fails, return an empty one and add a note."""
    if not path.exists():
        notes.append(f"{path.name}: no such file")
        return {}
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        notes.append(f"{path.name}: cannot be read ({' '.join(str(error).split())})")
        return {}
    if not isinstance(content, dict):
        notes.append(f"{path.name}: not a JSON object")
        return {}
    return content


def _known(content: dict[str, Any], key: str, kind: type | tuple[type, ...]) -> Any:
    """A value, or ``None`` if it is missing or has another type."""
    value = content.get(key)
    return value if isinstance(value, kind) else None


def _epochs(science: dict[str, Any], frac: float | None) -> int | None:
    epochs = _known(science, "epochs", int)
    if epochs is None or frac is None or not 0 < frac <= 1:
        return epochs
    return epochs_for(epochs, frac, _known(science, "budget", str))


def _read_history(path: Path, row: Row, monitor: str, notes: list[str]) -> None:
    if not path.exists():  # written at the end of the first epoch
        if row.state == "finished":
            notes.append("history.csv: no such file")
        return
    try:
        with path.open(encoding="utf-8", newline="") as file:
            epochs = list(csv.DictReader(file))
        if not epochs:
            return
        last = epochs[-1]
        row.epoch = int(last["epoch"]) + 1
        row.val_loss, row.val_dice = _finite(last["val_loss"]), _finite(last["val_dice"])
        seconds = [float(epoch["seconds"]) for epoch in epochs]
        row.seconds, row.epoch_seconds = sum(seconds), statistics.median(seconds)
        known = [epoch for epoch in epochs if _finite(epoch["val_loss"]) is not None]
        if known:
            best = min(known, key=_order(monitor))
            row.best_epoch = int(best["epoch"]) + 1
            row.best_val_loss, row.best_val_dice = map(
                _finite, (best["val_loss"], best["val_dice"])
            )
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        notes.append(f"history.csv: cannot be read ({type(error).__name__}: {error})")


def _order(monitor: str) -> Callable[[dict[str, str]], tuple[float, float]]:
    """How good an epoch is, as ``early_stopping.monitor`` has it; the smallest is the best."""
    if monitor == "val_dice":
        return lambda epoch: (-(_finite(epoch["val_dice"]) or 0.0), float(epoch["val_loss"]))
    return lambda epoch: (float(epoch["val_loss"]), 0.0)


def _finite(text: str) -> float | None:
    """Parse a number; ``None`` for an empty field (undefined) and for infinity or NaN."""
    return value if text and math.isfinite(value := float(text)) else None


def _judge(
    folder: Path,
    row: Row,
    status: dict[str, Any],
    held: set[int] | None,
    queue: dict[str, str] | None,
    notes: list[str],
) -> None:
    """Check whether a running cell still runs, since when it is silent, and its remaining time.

    The batch system is asked first, then the processes of this host. For a cell on another host,
    only the time it last wrote a file is known.
    """
    is_told = queue is not None and (row.job or "").startswith("slurm ")
    job = (queue or {}).get(row.job or "")
    if job in jobs.WAITING and row.state in ("running", "failed"):
        row.state = "queued"
        notes.append(f"{row.job}: {job.lower()}")
    if row.state != "running":
        return
    is_ours = row.host == socket.gethostname()
    if (is_told and not job) or (is_ours and not _is_alive(folder, status, held)):
        row.state = "interrupted"
        notes.append("run the same command to resume from its last checkpoint")
        return
    now = time.time()
    written = []
    for name in SIGNS_OF_LIFE:
        with suppress(OSError):
            written.append((folder / name).stat().st_mtime)
    row.silent_seconds = max(now - max(written), 0) if written else None
    if row.epochs and row.epoch_seconds and row.epoch:
        since = now - (folder / "history.csv").stat().st_mtime
        # An epoch that takes longer than usual does not shorten the ones after it.
        whole = row.epochs - row.epoch
        row.seconds_left = whole * row.epoch_seconds - min(max(since, 0), row.epoch_seconds)
        row.seconds_left = max(row.seconds_left, 0)


def _is_alive(folder: Path, status: dict[str, Any], held: set[int] | None) -> bool:
    """Whether a process holds the cell's lock or, if locks cannot be listed, its process exists."""
    try:
        if held is not None:
            return (folder / ".lock").stat().st_ino in held
        os.kill(int(status["pid"]), 0)
    except PermissionError:
        return True  # another user's process
    except (OSError, KeyError, ValueError, TypeError):
        return False
    return True


def _held_locks() -> set[int] | None:
    """Inodes locked with ``flock`` by a process of this host; ``None`` if they cannot be listed.

    Taking the lock as a test would be wrong: even a shared lock, held for a moment, would make a
    cell that starts at that moment assume that another process runs it, and give up
    (:func:`tlunet.runs.folder.lock` does not wait). Linux lists all locks in ``/proc/locks``, and
    reading that takes none. On other systems the process id in ``status.json`` is checked. Neither
    covers other hosts: a cell of another host that is in no queue stays ``running``, with the time
    since it last wrote a file.

    The device number is not compared, on purpose: on btrfs and overlayfs, ``stat`` reports a
    different one than the kernel's list.
    """
    if sys.platform != "linux":
        return None
    try:
        lines = Path("/proc/locks").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    # "1: FLOCK  ADVISORY  WRITE 4242 08:01:131073 0 EOF"; "1: -> FLOCK …" is waiting
    fields = [line.split() for line in lines]
    return {int(f[5].rpartition(":")[2]) for f in fields if len(f) > 5 and f[1] == "FLOCK"}


def summary(rows: Sequence[Row]) -> str:
    """Count the cells in each state.

    >>> summary([Row("a", state="finished"), Row("b", state="failed"), Row("c", state="failed")])
    '3 cells: 1 finished, 2 failed'
    """
    counts = Counter(row.state for row in rows)
    known = [state for state in STATES if counts[state]]
    known += sorted(set(counts) - set(STATES))  # states of another version of this program
    cells = "1 cell" if len(rows) == 1 else f"{len(rows)} cells"
    return f"{cells}: " + ", ".join(f"{counts[state]} {state}" for state in known)


def as_dicts(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows for ``--json``: plain values, with the field names of :class:`Row`."""
    return [asdict(row) for row in rows]
