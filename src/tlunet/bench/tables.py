"""Records read, and the Markdown that all tables of benchmarks/README.md are made of."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]
NOTHING = "*Not measured.*\n"


def records(folder: Path) -> list[Record]:
    """Read the records of ``tlunet bench`` in a folder, sorted by device, encoder and size."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    found = [record for record in found if "sides" in record]
    return sorted(found, key=lambda r: (on(r), r["encoder"], r["size"]))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Format a Markdown table; all but the first `left` columns are right-aligned."""
    rules = ["---"] * left + ["---:"] * (len(heads) - left)
    lines = [heads, rules, *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def on(record: Record) -> str:
    """The machine in a word: a GPU's model, a CPU's instructions and precision."""
    machine = record["hardware"]
    if machine["accelerator"] != "cpu":
        return str(machine["name"])
    is_bf16 = machine["precision"] == "bf16-mixed"
    return machine["cpu_capability"] + (", bf16" if is_bf16 else "")


def strips(record: Record) -> str:
    """Encoder and size of the strips."""
    height, width = record["size"]
    return f"{record['encoder']}, {height}×{width}"


def what(record: Record) -> str:
    """Encoder, size of the strips and images per step."""
    return f"{strips(record)}, {record['batch_size']}"


def speed(side: Record | None, key: str) -> str:
    """Median images per second of a side."""
    return f"{statistics.median(side[key]):.3g}" if side and key in side else "not measured"


def ratio(side: Record | None, key: str) -> str:
    """Ratio over the rounds: median (min–max)."""
    if side is None or key not in side:
        return "not measured"
    found = side[key]
    return f"**{found['median']:.2f}** ({found['min']:.2f}–{found['max']:.2f})"


def text(value: Any) -> str:
    """A value of a table that is shown unchanged."""
    if value is None:
        return "not measured"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
