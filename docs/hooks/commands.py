"""Generate the CLI page from the command line itself."""

import re
from pathlib import Path

import typer
from typer.cli import get_docs_for_click

from tlunet.cli import app

_INTRODUCTION = """\
# CLI

To train, use `run.py`: the command selects the cells to run. [Configuration](configuration.md)
lists all keys.

    python run.py encoder=densenet init=imagenet          # one cell
    python run.py -m encoder=resnet,densenet seed=0,1,2   # all combinations
    python run.py -cd experiments/neu_seg -cn sweep       # a study from its file

`tlunet train` is the same command, from any folder. For everything else, use `tlunet <command>`.
`tlunet --install-completion` sets up shell completion.
Exit codes of both: 0 done; 1 partial failure, the rest is done; 2 the command, the configuration or
the data is invalid.
"""


#: A group's list of commands, omitted because their full help texts follow.
_LIST = re.compile(r"\*\*Commands\*\*:\n\n(?:\* .*\n)+\n")


def page(root: Path) -> str:
    """Return the page in Markdown; importing the command line loads no heavy library."""
    command = typer.main.get_command(app)
    with command.make_context("tlunet", [], resilient_parsing=True) as context:
        text = get_docs_for_click(obj=command, ctx=context, indent=1, name="tlunet")
    return f"{_INTRODUCTION}\n{_LIST.sub('', text)}"
