"""Reads a run's offline record.

A ``.wandb`` file is a LevelDB log: blocks of 32 KiB, and records in one or more pieces, each after
a header of checksum, length and kind. W&B adds seven bytes before the first block and uses zlib's
CRC-32 as checksum. A record is a protobuf message.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32 * 1024
HEADER = struct.Struct("<IHB")  # checksum, length, kind
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
MAGIC = b":W&B" + struct.pack("<HB", 0xBEE1, 0)


def records(path: Path) -> Iterator[Record]:
    """Yield every record; skip a truncated one at the end, from a killed run."""
    content = path.read_bytes()
    assert content.startswith(MAGIC), content[:7]
    at, message = len(MAGIC), b""
    while at + HEADER.size <= len(content):
        left = BLOCK - at % BLOCK
        if left < HEADER.size:  # too small for a header: padding
            at += left
            continue
        checksum, length, kind = HEADER.unpack_from(content, at)
        at += HEADER.size
        piece = content[at : at + length]
        if len(piece) < length:
            return
        assert zlib.crc32(bytes([kind]) + piece) == checksum, f"damaged at byte {at}"
        assert kind in (FULL, FIRST, MIDDLE, LAST)
        at += length
        message = piece if kind in (FULL, FIRST) else message + piece
        if kind in (FULL, LAST):
            record = Record()
            record.ParseFromString(message)
            yield record


@dataclass
class OfflineRun:
    """The content of a record.

    Attributes:
        about: project, group, name, job type, tags, notes.
        config: plain values.
        history: rows in order, each with its ``_step``.
        summary: the last summary.
        axes: metric → the metric on its x axis.
        artifacts: type → [(name, aliases, file → path, whether it is an input)].
        exit_code: ``None`` if the run did not end.
    """

    about: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, list[tuple[str, list[str], dict[str, str], bool]]] = field(
        default_factory=dict
    )
    files: set[str] = field(default_factory=set)
    exit_code: int | None = None

    def column(self, name: str) -> list[Any]:
        """The values of a column, from rows that have it."""
        return [row[name] for row in self.history if name in row]


def read_record(path: Path) -> OfflineRun:
    """Read a ``.wandb`` file."""
    run = OfflineRun()
    for record in records(path):
        match record.WhichOneof("record_type"):
            case "run":
                told = record.run
                run.about = {
                    "project": told.project, "group": told.run_group, "name": told.display_name,
                    "job_type": told.job_type, "tags": list(told.tags), "id": told.run_id,
                    "notes": told.notes,
                }  # fmt: skip
                _fill(run.config, told.config.update)
            case "config":
                _fill(run.config, record.config.update)
            case "history":
                row: dict[str, Any] = {}
                _fill(row, record.history.item)
                run.history.append(row | {"_step": record.history.step.num})
            case "summary":
                _fill(run.summary, record.summary.update)
            case "metric":
                name = record.metric.name or record.metric.glob_name
                run.axes[name] = record.metric.step_metric
            case "artifact":
                told = record.artifact
                entries = {e.path: e.local_path for e in told.manifest.contents}
                found = told.name, list(told.aliases), entries, told.use_after_commit
                run.artifacts.setdefault(told.type, []).append(found)
            case "files":
                run.files |= {item.path for item in record.files.files}
            case "exit":
                run.exit_code = record.exit.exit_code
    return run


def _fill(values: dict[str, Any], items: Any) -> None:
    """Store items under their keys, which may be paths."""
    for item in items:
        *above, last = list(item.nested_key) or [item.key]
        place = values
        for key in above:
            place = place.setdefault(key, {})
        value = json.loads(item.value_json)
        if isinstance(value, dict) and isinstance(place.get(last), dict):
            value = place[last] | value  # W&B's own configuration arrives in pieces
        place[last] = value
