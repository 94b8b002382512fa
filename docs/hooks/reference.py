"""The page of what ``from tlunet import …`` gives, from the docstrings, without importing it."""

from pathlib import Path

import tlunet

_INTRODUCTION = """\
# API reference

The names available with `from tlunet import …`. For usage, see [Python examples](python.md). The
[module reference](modules.md) lists the remaining modules.
"""


def page(root: Path) -> str:
    """Return the page in Markdown; mkdocstrings fills it in."""
    names = [f"::: {getattr(tlunet, name).__module__}.{name}" for name in sorted(tlunet.__all__)]
    return "\n\n".join([_INTRODUCTION, *names]) + "\n"
