"""Generate the configuration page from the files in ``conf/`` and their comments."""

from pathlib import Path

from omegaconf import OmegaConf

from tlunet.study.config.keys import Key, groups, read_keys
from tlunet.study.config.values import check

_INTRODUCTION = """\
# Configuration

Set a key with `key=value`; with `-m` it can have several comma-separated values:

    python run.py encoder=densenet optimizer.lr=1e-4
    python run.py -m frac=1.0,0.5 seed=0,1,2

Text with spaces, commas, `=`, brackets, quotes or letters beyond ASCII needs quotes for Hydra
inside those of the shell; a leading `~` in a path is expanded:

    python run.py data=severstal "data.root='~/steel (1)'"

An invalid key or value gives a one-line error and exit code 2 before training starts.
`python run.py --help` lists the same keys and choices. This page is generated from the
files in `conf/`.
"""


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
    parts += [_group(name, files) for name, files in groups(root / "conf").items()]
    return "\n".join(parts)


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


def _group(name: str, files: list[Path]) -> str:
    """Return a group's files, one tab per file."""
    tabs = []
    for file in files:
        body = file.read_text(encoding="utf-8").rstrip("\n").replace("\n", "\n    ")
        tabs.append(f'=== "{file.stem}"\n\n    ```yaml\n    {body}\n    ```\n')
    return f"### {name}\n\n" + "\n".join(tabs)
