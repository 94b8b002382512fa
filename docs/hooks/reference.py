"""The page of what ``from tlunet import …`` gives, from the docstrings, without importing it."""

from pathlib import Path

import tlunet

_INTRODUCTION = """\
# Every name

What `from tlunet import …` gives. [Three lines each](python.md) shows them at work; further names
are where [every module](modules.md) says.
"""


def page(root: Path) -> str:
    """The page in Markdown: mkdocstrings fills it in."""
    names = [f"::: {tlunet._HOME_OF[name]}.{name}" for name in sorted(tlunet.__all__)]
    return "\n\n".join([_INTRODUCTION, *names]) + "\n"
