"""``tlunet <command>``. Commands import heavy libraries only when they run."""

import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from tlunet.cli import bench, data, deploy, study, train
from tlunet.errors import UserError
from tlunet.machine.streams import make_patient

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(data.app, name="data", rich_help_panel="Data")
for title, verbs in (
    *(("Study", train.app), ("Study", study.app)),
    *(("Model", deploy.app), ("This machine", bench.app)),
):
    for command in verbs.registered_commands:
        command.rich_help_panel = command.rich_help_panel or title
    app.add_typer(verbs)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        print(f"tlunet {version('tlunet')}, Python {platform.python_version()}")
        raise typer.Exit


@app.callback()
def tlunet(
    show: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """How much does transfer learning help steel-defect segmentation and classification?"""


def main() -> None:
    """Run the command line; a user error prints one line and exits with code 2."""
    # A shell expands ~ at the start of a word only: in --out ~/found, but not in --out=~/found.
    sys.argv[1:] = [
        re.sub(r"^(--[\w-]+=)~(?=/|$)", lambda option: option[1] + str(Path.home()), word)
        for word in sys.argv[1:]
    ]
    make_patient()
    try:
        app()
    except UserError as error:
        print(*error.lines, sep="\n", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] == "tlunet":
            raise
        # Expected where only exported networks are used (docs/network.md).
        print(
            f"{error.name} is not installed; this command needs the full package (pip install . "
            "in a checkout), tlunet predict MODEL.onnx does not",
            file=sys.stderr,
        )
        sys.exit(2)
