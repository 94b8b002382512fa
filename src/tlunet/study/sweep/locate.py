"""Finding the run folder of each cell, which the machine that ran it may have named differently."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tlunet.machine.files import read_json
from tlunet.runs.folder import is_finished

#: Keys of ``Cell.science`` that depend on the machine a cell runs on.
OF_THE_MACHINE = ("device", "precision", "processes")


class PlannedCell(NamedTuple):
    """A cell requested by a command line."""

    folder: Path
    science: dict[str, Any]


def last_changes(studies: Sequence[Path]) -> dict[Path, int]:
    """Return when each run folder last changed its state, for comparison with a later call."""
    return {
        status.parent: status.stat().st_mtime_ns
        for study in studies
        for status in study.glob("*/status.json")
    }


def locate(asked: Sequence[PlannedCell], before: dict[Path, int]) -> list[Path]:
    """Find the folder of each cell; its name depends on the device and precision that ran it.

    Args:
        asked: the cells.
        before: result of :func:`last_changes` before the launch.

    Returns:
        One folder per cell. Among folders that differ only in the machine, the one changed since
        ``before`` comes first, then the one this machine would name, then a finished one.
    """
    studies = list(dict.fromkeys(cell.folder.parent for cell in asked))
    now = last_changes(studies)
    kin: dict[str, list[Path]] = {}
    for folder in now:
        kin.setdefault(_but_for_the_machine(_science(folder)), []).append(folder)

    def best(cell: PlannedCell) -> Path:
        return max(
            kin.get(_but_for_the_machine(cell.science), [cell.folder]),
            key=lambda f: (now.get(f) != before.get(f), f == cell.folder, is_finished(f), f.name),
        )

    return [best(cell) for cell in asked]


def _science(folder: Path) -> dict[str, Any]:
    try:
        return dict(read_json(folder / "meta.json").get("science") or {})
    except (ValueError, AttributeError):  # a damaged file belongs to no cell
        return {}


def _but_for_the_machine(science: dict[str, Any]) -> str:
    return json.dumps({k: v for k, v in science.items() if k not in OF_THE_MACHINE}, sort_keys=True)
