"""The keys of the configuration files, with the comments that explain them."""

import re
from pathlib import Path
from typing import NamedTuple

#: Keys of config.yaml that belong to Hydra.
_HYDRAS = ("defaults", "hydra")
_LINE = re.compile(
    r"(?P<indent> *)(?P<key>\w+):(?: +(?P<value>[^#\n]*?))? *(?:# *(?P<comment>.*))?"
)


class Key(NamedTuple):
    """A key of a configuration file, or a section, which has no default."""

    name: str  # as on the command line: data.root
    default: str
    comment: str


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


def describe_choice(file: Path) -> str:
    """Return the first comment of a group's file, without an example command."""
    text = file.read_text(encoding="utf-8").removeprefix("# @package _global_\n")
    _, _, comment = text.partition("#")
    first = comment.partition("\n")[0].strip().rstrip(".")
    return re.split(r":  +python ", first)[0]


def groups(conf: Path) -> dict[str, list[Path]]:
    """Return the files of each group of a configuration folder, sorted by group and choice."""
    files: dict[str, list[Path]] = {}
    for file in sorted(conf.glob("*/**/*.yaml")):
        files.setdefault(file.parent.relative_to(conf).as_posix(), []).append(file)
    return files
