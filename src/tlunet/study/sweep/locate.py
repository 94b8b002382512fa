"""A cell as this machine names it, and the folder in which it was run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tlunet.machine.files import read_json
from tlunet.runs.results import state_of

#: Parts of ``Cell.science`` that follow from the machine a cell runs on.
OF_THE_MACHINE = ("device", "precision", "processes")


class Asked(NamedTuple):
    """What a command line asks for."""

    folder: Path
    science: dict[str, Any]


def stamps(studies: Sequence[Path]) -> dict[Path, int]:
    """Each run folder's last change of state, to be compared with a later one."""
    return {
        status.parent: status.stat().st_mtime_ns
        for study in studies
        for status in study.glob("*/status.json")
    }


def find(asked: Sequence[Asked], before: dict[Path, int]) -> list[Path]:
    """Each cell's folder: a job elsewhere may have named its own, for another device or precision.

    Args:
        asked: the cells.
        before: :func:`stamps` as they were when nothing was launched.

    Returns:
        Of folders alike but for the machine: the one changed since, then the one this machine
        would name, then a finished one.
    """
    studies = list(dict.fromkeys(cell.folder.parent for cell in asked))
    now = stamps(studies)
    kin: dict[str, list[Path]] = {}
    for folder in now:
        kin.setdefault(_but_for_the_machine(_science(folder)), []).append(folder)

    def best(cell: Asked) -> Path:
        return max(
            kin.get(_but_for_the_machine(cell.science), [cell.folder]),
            key=lambda f: (now.get(f) != before.get(f), f == cell.folder, is_finished(f), f.name),
        )

    return [best(cell) for cell in asked]


def is_finished(folder: Path) -> bool:
    """Whether the cell's results are there."""
    return state_of(folder) == "finished"


def _science(folder: Path) -> dict[str, Any]:
    try:
        return dict(read_json(folder / "meta.json").get("science") or {})
    except (ValueError, AttributeError):  # a damaged file; nobody's cell
        return {}


def _but_for_the_machine(science: dict[str, Any]) -> str:
    return json.dumps({k: v for k, v in science.items() if k not in OF_THE_MACHINE}, sort_keys=True)
