"""The stages of ``benchmarks/gpu.sh`` as tables."""

import json
from pathlib import Path
from typing import Any

from tlunet.bench.tables import NOTHING, Record, table

#: Not figures of a stage.
_ABOUT = ("stage", "ok", "seconds", "time", "code", "error")


def gpu(file: Path) -> str:
    """Stages: one row each, with outcome, seconds and figures; then the kinds of kernels."""
    lines = latest(file)
    if not lines:
        return NOTHING
    rows = [
        [line["stage"], "yes" if line["ok"] else "**no**", f"{line['seconds']:.1f}", _figures(line)]
        for line in lines
        if line["stage"] != "versions"
    ]
    about = next((_figures(line) for line in lines if line["stage"] == "versions"), "not recorded")
    stages = table(["stage", "passed", "seconds", "figures"], rows)
    return f"{about}.\n\n{stages}{_kinds(lines)}"


def latest(file: Path) -> list[Record]:
    """Read the stages, of each the last try; in the order of the first."""
    found: dict[str, Record] = {}
    for text in file.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        found[line["stage"]] = line
    return list(found.values())


def _kinds(lines: list[Record]) -> str:
    """Milliseconds per step by kind of kernel: one row per profiled way to run a step."""
    profiles = [line for line in lines if "milliseconds" in line]
    if not profiles:
        return ""
    kinds = list(dict.fromkeys(kind for p in profiles for kind in p["milliseconds"]))
    rows = [
        [p["stage"], *(f"{p['milliseconds'].get(kind, 0):.3g}" for kind in kinds)] for p in profiles
    ]
    heads = ["milliseconds per step", *kinds]
    return f"\n{table(heads, rows)}"


def _figures(line: Record) -> str:
    shown = {k: v for k, v in line.items() if k not in (*_ABOUT, "milliseconds")}
    if not line["ok"]:
        shown["error"] = line.get("error", "").strip().splitlines()[-1:] or "no message"
    return ", ".join(f"{k.replace('_', ' ')} {_text(v)}" for k, v in shown.items()) or "–"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " / ".join(_text(v) for v in value)
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|")
