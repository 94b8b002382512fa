"""A run folder: its state, its lock and its metadata."""

import json
import os
import socket
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tlunet.errors import DataError
from tlunet.machine import jobs
from tlunet.machine.files import example_of, locked, read_json, write_json


def lock(folder: Path) -> AbstractContextManager[bool]:
    """Lock the cell while the context is open; yields whether this process may run it."""
    return locked(folder / ".lock", wait=False)


def set_state(folder: Path, state: str, error: str | None = None) -> None:
    """Write ``status.json``: state (``running``, ``finished``, ``failed``), time, host, process."""
    status = {
        "state": state,
        "error": error,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "job": jobs.current(),
    }
    write_json(folder / "status.json", status)


def mark_dead(folder: Path) -> None:
    """Mark a running cell as failed if its process died; keep the host, process and job."""
    status = read_json(folder / "status.json")
    if status.get("state") != "running":
        return
    with lock(folder) as is_mine:
        if is_mine:
            error = "its process died (killed, out of memory, or its host is lost); run the "
            error += "same command to resume from the last checkpoint"
            write_json(folder / "status.json", status | {"state": "failed", "error": error})


def state_of(folder: Path) -> str:
    """``running``, ``finished``, ``failed``, or ``missing`` if the cell was never started."""
    return str(read_json(folder / "status.json").get("state", "missing"))


def is_finished(folder: Path) -> bool:
    """Whether the cell is finished."""
    return state_of(folder) == "finished"


def read_meta(run: Path) -> dict[str, Any]:
    """Read a run's ``meta.json``.

    Raises:
        DataError: it cannot be read, or has no size.
    """
    path = run / "meta.json"
    try:
        meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        height, width = meta["size"]
        return meta | {"size": (int(height), int(width))}
    except FileNotFoundError:
        inside = example_of(run, path.name)
        raise DataError(f"{path}: missing; expected the folder of a finished run{inside}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: cannot be read ({type(error).__name__}); it contains the image size that "
            "the network was trained at"
        ) from error


def check_finished(run: Path) -> None:
    """Raise DataError if a run's ``status.json`` exists and does not say ``finished``."""
    path = run / "status.json"
    if not path.exists():
        return
    try:
        state = json.loads(path.read_text(encoding="utf-8"))["state"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({type(error).__name__})") from None
    if state != "finished":
        raise DataError(
            f"{run}: its state is {state!r}, not finished; run the command that started it to "
            f"resume, or pass {run / 'best.ckpt'} to use its best epoch so far"
        )
