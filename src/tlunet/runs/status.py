"""What a study's run folders say of it at a glance, while it runs and after.

Reads small text files alone, without torch and without pandas: on a cluster's login node it
answers at once.
"""

import csv
import math
import os
import socket
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from tlunet.errors import DataError
from tlunet.machine import jobs
from tlunet.machine.files import read_json

#: In the order of the summary line. ``queued``: its job waits to start, or to start again;
#: ``missing``: the cell was named and never begun.
STATES = ("finished", "running", "queued", "failed", "broken off", "missing", "unreadable")
SIGNS_OF_LIFE = ("history.csv", "last.ckpt", "best.ckpt", "status.json", "meta.json")


@dataclass
class Row:
    """One cell, as its folder has it; ``None`` where that is not known."""

    folder: str
    encoder: str | None = None
    init: str | None = None
    frac: float | None = None
    seed: int | None = None
    state: str = "missing"  # one of STATES
    epoch: int = 0  # trained so far
    epochs: int | None = None  # asked for; early stopping may end sooner
    val_loss: float | None = None  # of the last epoch
    val_dice: float | None = None
    best_epoch: int | None = None  # of lowest val_loss, counted from 1
    best_val_loss: float | None = None
    best_val_dice: float | None = None  # of that epoch
    seconds: float | None = None  # of training, with validation
    epoch_seconds: float | None = None  # median, with validation
    seconds_left: float | None = None  # of training, at most; running cells only
    host: str | None = None
    job: str | None = None  # slurm 4711_3, ray 02000000
    silent_seconds: float | None = None  # since a running cell last wrote a file
    note: str = ""  # why it failed, or what cannot be read


def read_study(study: Path) -> list[Row]:
    """A row a cell, in the order of ``results.csv``.

    Args:
        study: the study's folder, as ``runs/synthetic``.

    Raises:
        DataError: not a folder, or no run folder in it.
    """
    if not study.is_dir():
        what = "not a folder" if study.exists() else "no such folder"
        raise DataError(f"{study}: {what}; expected a study's folder, as runs/synthetic")
    signs = ("status.json", "meta.json", ".lock")
    folders = {path.parent for sign in signs for path in study.glob(f"*/{sign}")}
    if not folders:
        raise DataError(f"{study}: no run folder in it; expected a study's, as runs/synthetic")
    held = _held_locks()
    read = [_read_run(folder) for folder in folders]
    queue = jobs.queue(
        {row.job for row, *_ in read if row.job and row.state in ("running", "failed")}
    )
    rows = []
    for row, status, notes in read:
        _judge(study / row.folder, row, status, held, queue, notes)
        row.note = "; ".join(notes)
        rows.append(row)
    rows.sort(key=lambda row: (row.init or "", row.seed or 0, row.folder))
    rows.sort(key=lambda row: (row.encoder or "", row.frac or 0), reverse=True)  # sorting is stable
    return rows


def _read_run(folder: Path) -> tuple[Row, dict[str, Any], list[str]]:
    """What its files say, its ``status.json``, and what is to be remarked."""
    row = Row(folder.name)
    notes: list[str] = []
    status = _object(folder / "status.json", notes)
    meta = _object(folder / "meta.json", notes)
    science = _known(meta, "science", dict) or {}
    row.encoder, row.init = _known(meta, "encoder", str), _known(meta, "init", str)
    row.frac, row.seed = _known(meta, "frac", (float, int)), _known(meta, "seed", int)
    row.epochs = _known(science, "epochs", int)
    row.host, row.job = _known(status, "host", str), _known(status, "job", str)
    if (folder / "status.json").exists():
        row.state = _known(status, "state", str) or "unreadable"
    if status.get("error"):
        notes.insert(0, " ".join(str(status["error"]).split()))
    _read_history(folder / "history.csv", row, notes)
    return row, status, notes


def _object(path: Path, notes: list[str]) -> dict[str, Any]:
    """A JSON file's object; empty, and said so, where there is none to be read."""
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
    """A value, or ``None`` if it is missing or not of its kind."""
    value = content.get(key)
    return value if isinstance(value, kind) else None


def _read_history(path: Path, row: Row, notes: list[str]) -> None:
    if not path.exists():  # there is none before the end of the first epoch
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
        losses = [loss for epoch in epochs if (loss := _finite(epoch["val_loss"])) is not None]
        if losses:
            best = next(e for e in epochs if _finite(e["val_loss"]) == min(losses))
            row.best_epoch, row.best_val_loss = int(best["epoch"]) + 1, min(losses)
            row.best_val_dice = _finite(best["val_dice"])
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        notes.append(f"history.csv: cannot be read ({type(error).__name__}: {error})")


def _finite(text: str) -> float | None:
    """A number; ``None`` for what is undefined, which is an empty field, or has no end."""
    return value if text and math.isfinite(value := float(text)) else None


def _judge(
    folder: Path,
    row: Row,
    status: dict[str, Any],
    held: set[int] | None,
    queue: dict[str, str] | None,
    notes: list[str],
) -> None:
    """Whether a cell that says so runs still, since when it is silent, how long it may take.

    The batch system knows best; a process of this host is asked after; of another host's nothing
    is known but when it last wrote.
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
        row.state = "broken off"
        notes.append("the same command goes on from its last checkpoint")
        return
    now = time.time()
    written = []
    for name in SIGNS_OF_LIFE:
        with suppress(OSError):
            written.append((folder / name).stat().st_mtime)
    row.silent_seconds = max(now - max(written), 0) if written else None
    if row.epochs and row.epoch_seconds and row.epoch:
        since = now - (folder / "history.csv").stat().st_mtime
        # An epoch that takes longer than usual takes nothing off those that follow it.
        whole = row.epochs - row.epoch
        row.seconds_left = whole * row.epoch_seconds - min(max(since, 0), row.epoch_seconds)
        row.seconds_left = max(row.seconds_left, 0)


def _is_alive(folder: Path, status: dict[str, Any], held: set[int] | None) -> bool:
    """Whether a process holds the cell's lock; where nobody tells, whether its process is there."""
    try:
        if held is not None:
            return (folder / ".lock").stat().st_ino in held
        os.kill(int(status["pid"]), 0)
    except PermissionError:
        return True  # somebody else's process
    except (OSError, KeyError, ValueError, TypeError):
        return False
    return True


def _held_locks() -> set[int] | None:
    """Inodes on which a process of this host holds a ``flock``; ``None`` where nobody tells.

    Why not try the lock: even a shared one, held for a moment, would make a cell that starts in
    that moment believe that another process runs it, and give up (:func:`record.lock` does not
    wait). Linux lists all locks in ``/proc/locks``; reading that takes none. Elsewhere the
    process id in ``status.json`` is asked after. Neither knows of other hosts: a cell of another
    host that is in no queue stays ``running``, with the time since it last wrote.

    The device is left out of the comparison on purpose: btrfs and overlayfs report another one
    in ``stat`` than the kernel has in its list.
    """
    if sys.platform != "linux":
        return None
    try:
        lines = Path("/proc/locks").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    # "1: FLOCK  ADVISORY  WRITE 4242 08:01:131073 0 EOF"; "1: -> FLOCK …" waits for its turn
    fields = [line.split() for line in lines]
    return {int(f[5].rpartition(":")[2]) for f in fields if len(f) > 5 and f[1] == "FLOCK"}


def summary(rows: Sequence[Row]) -> str:
    """How many cells are in which state.

    >>> summary([Row("a", state="finished"), Row("b", state="failed"), Row("c", state="failed")])
    '3 cells: 1 finished, 2 failed'
    """
    counts = Counter(row.state for row in rows)
    known = [state for state in STATES if counts[state]]
    known += sorted(set(counts) - set(STATES))  # of another version of this program
    cells = "1 cell" if len(rows) == 1 else f"{len(rows)} cells"
    return f"{cells}: " + ", ".join(f"{counts[state]} {state}" for state in known)


def as_dicts(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows for ``--json``: plain values under the names of :class:`Row`."""
    return [asdict(row) for row in rows]


def show(rows: Sequence[Row]) -> Table:
    """The rows as a table for the console."""
    table = Table(show_edge=False, pad_edge=False)
    for heading in ("encoder", "init", "frac", "seed"):
        table.add_column(heading, no_wrap=True)
    table.add_column("state", no_wrap=True)
    for heading in ("epoch", "best loss", "Dice", "seconds", "left"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("host", "job"):
        table.add_column(heading, no_wrap=True)
    table.add_column("", no_wrap=True, overflow="ellipsis")
    for row in rows:
        known = (row.encoder, row.init, row.frac, row.seed)
        cells = (
            *("–" if value is None else str(value) for value in known),
            row.state,
            f"{row.epoch} of {'?' if row.epochs is None else row.epochs}",
            _number(row.best_val_loss, ".4g"),
            _number(row.best_val_dice, ".3f"),
            _number(row.seconds, ".0f"),
            "" if row.seconds_left is None else f"≤ {duration(row.seconds_left)}",
            row.host or "–",
            row.job or "–",
            _remark(row),
        )
        table.add_row(*map(Text, cells))  # text of a file is text, not markup
    return table


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _remark(row: Row) -> str:
    remarks = []
    if row.encoder is None:
        remarks.append(row.folder)
    if row.state == "running" and row.silent_seconds is not None:
        remarks.append(f"wrote {duration(row.silent_seconds)} ago")
    return "; ".join([*remarks, *([row.note] if row.note else [])])


def duration(seconds: float) -> str:
    """Seconds as a person says them, in two units at most.

    >>> duration(7.6), duration(754), duration(8040), duration(2e5)
    ('8 s', '12 min 34 s', '2 h 14 min', '2 d 7 h')
    """
    s = round(seconds)
    if s < 60:
        return f"{s} s"
    for size, unit, below, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if s >= size:
            return f"{s // size} {unit} {s % size // below} {part}"
    return f"{s // 60} min {s % 60} s"
