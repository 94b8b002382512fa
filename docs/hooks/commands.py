"""The page of every command, from the command line itself."""

import re
from pathlib import Path

import typer
from typer.cli import get_docs_for_click

from tlunet.cli import app

_INTRODUCTION = """\
# Every command

Training is `run.py`'s: its line says which cells to run, [every key](configuration.md) what they
are.

    python run.py encoder=densenet init=imagenet          # one cell
    python run.py -m encoder=resnet,densenet seed=0,1,2   # all combinations
    python run.py -cd experiments/neu_seg -cn sweep       # a study's file

Everything beside it is `tlunet <verb>`. `tlunet --install-completion` teaches your shell the verbs
and options. Exit codes, of both: 0 done, 1 a part failed and the rest is done, 2 the command, the
configuration or the data is wrong.
"""


#: What a group says of its verbs: they follow, each with all of its help.
_LIST = re.compile(r"\*\*Commands\*\*:\n\n(?:\* .*\n)+\n")


def page(root: Path) -> str:
    """The page in Markdown; the command line is imported, nothing heavy with it."""
    command = typer.main.get_command(app)
    with command.make_context("tlunet", [], resilient_parsing=True) as context:
        text = get_docs_for_click(obj=command, ctx=context, indent=1, name="tlunet")
    return f"{_INTRODUCTION}\n{_LIST.sub('', text)}"
