"""Generate the configuration page from the files in ``conf/`` and their comments."""

import re
from pathlib import Path
from typing import NamedTuple

from omegaconf import OmegaConf

from tlunet.study.config.values import check

#: Keys of config.yaml that belong to Hydra.
_HYDRAS = ("defaults", "hydra")
_LINE = re.compile(
    r"(?P<indent> *)(?P<key>\w+):(?: +(?P<value>[^#\n]*?))? *(?:# *(?P<comment>.*))?"
)
_INTRODUCTION = """\
# Configuration

Set a key with `key=value`; with `-m` it can have several comma-separated values:

    python run.py encoder=densenet optimizer.lr=1e-4
    python run.py -m frac=1.0,0.5 seed=0,1,2

An invalid key or value gives a one-line error and exit code 2 before training starts.
`python run.py --help` shows the same keys with their defaults. This page is generated from the
files in `conf/`.
"""


class Key(NamedTuple):
    """A key of a configuration file, or a section, which has no default."""

    name: str  # as on the command line: data.root
    default: str
    comment: str


def page(root: Path) -> str:
    """Return the page in Markdown.

    Args:
        root: root folder of the repository.
    """
    keys = read_keys((root / "conf/config.yaml").read_text(encoding="utf-8"))
    parts = [_INTRODUCTION, "## The run\n", _table([k for k in keys if "." not in k.name])]
    for holder in (key for key in keys if not key.default):
        own = [key for key in keys if key.name.startswith(f"{holder.name}.")]
        parts.append(f"## {holder.name}\n\n{holder.comment}\n\n{_table(own)}")
    parts.append("## Choices\n\nEach choice is a file; add a file next to them to add a choice.\n")
    folders = sorted({path.parent for path in (root / "conf").rglob("*.yaml")} - {root / "conf"})
    parts += [_group(folder, folder.relative_to(root / "conf").as_posix()) for folder in folders]
    return "\n".join(parts)


def read_keys(text: str) -> list[Key]:
    r"""Return all keys except Hydra's, with their comments and those in the lines above.

    >>> [tuple(key) for key in read_keys("a: 1  # one\nb:  # of two\n  # the\n  c: null  # part\n")]
    [('a', '1', 'one'), ('b', '', 'of two'), ('b.c', 'null', 'the part')]
    """
    keys, holder, above = [], "", ""
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            above = f"{above} {line.lstrip()[1:].strip()}".lstrip()
            continue
        match = _LINE.fullmatch(line)
        if match and not match["indent"]:
            holder = match["key"]
        if match and holder not in _HYDRAS:
            name = f"{holder}.{match['key']}" if match["indent"] else holder
            comment = f"{above} {match['comment'] or ''}".strip()
            keys.append(Key(name, match["value"] or "", comment))
        above = ""
    return keys


def _table(keys: list[Key]) -> str:
    lines = ["| key | default | description | allowed |", "| --- | --- | --- | --- |"]
    for key in keys:
        if key.default:
            cells = (f"`{key.name}`", f"`{key.default}`", key.comment, _allowed(key.name))
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _allowed(name: str) -> str:
    """Return the expected values, from the error message for an invalid value."""
    cell = OmegaConf.create()
    OmegaConf.update(cell, name, {})
    return "".join(fault.partition(": expected ")[2] for fault in check(cell))


def _group(folder: Path, name: str) -> str:
    """Return a group's files, one tab per file."""
    tabs = []
    for file in sorted(folder.glob("*.yaml")):
        body = file.read_text(encoding="utf-8").rstrip("\n").replace("\n", "\n    ")
        tabs.append(f'=== "{file.stem}"\n\n    ```yaml\n    {body}\n    ```\n')
    return f"### {name}\n\n" + "\n".join(tabs)
