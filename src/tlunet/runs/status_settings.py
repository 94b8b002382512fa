"""What distinguishes the cells of a study next to encoder, initialisation, fraction and seed."""

import json
from collections.abc import Sequence
from typing import Any, Protocol

#: Keys of ``science`` with a column of their own, or of no interest to a person.
ELSEWHERE = {
    *("encoder", "init", "frac", "seed", "version"),
    *("start", "data", "split", "precision", "device"),
}
#: Values of keys that are stored only if they differ from the default.
DEFAULTS = {"budget": "epochs"}


class Named(Protocol):
    """A row with a place for its settings."""

    settings: str


def name_settings(cells: Sequence[tuple[Named, dict[str, Any]]]) -> None:
    """Write into each row the settings that differ between the cells; none if all are equal.

    Args:
        cells: each row with ``science`` from its ``meta.json``; an empty one is unknown.
    """
    known = [science for _, science in cells if science]
    keys = list(dict.fromkeys(key for science in known for key in science if key not in ELSEWHERE))
    differing = [k for k in keys if len({_plain(DEFAULTS | s, k) for s in known}) > 1]
    for row, science in cells:
        if science:
            own = DEFAULTS | science
            row.settings = ", ".join(f"{k}={_spoken(own, k, known)}" for k in differing)


def _plain(science: dict[str, Any], key: str) -> str:
    return json.dumps(science.get(key), sort_keys=True)


def _spoken(science: dict[str, Any], key: str, cells: Sequence[dict[str, Any]]) -> str:
    """Format a value: a class by its name only, unless cells with this class differ."""
    value = science.get(key)
    target = _target(value)
    alike = {_plain(other, key) for other in cells if _target(other.get(key)) == target}
    if target and len(alike) == 1:
        return target.rpartition(".")[2]
    return value if isinstance(value, str) else _plain(science, key)


def _target(value: Any) -> str:
    return str(value.get("_target_", "")) if isinstance(value, dict) else ""
