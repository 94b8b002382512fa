"""``tlunet <command>``: all but training. Commands import heavy libraries only when they run."""

import sys

import typer

from tlunet.cli import bench, data, deploy, study
from tlunet.errors import UserError
from tlunet.machine.streams import make_patient

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="TLU-Net: how much does transfer learning help steel-defect segmentation and "
    "classification? To train: python run.py (see python run.py --help).",
)
app.add_typer(data.app, name="data")
for verbs in (study.app, deploy.app, bench.app):
    app.add_typer(verbs)


def main() -> None:
    """Run the command line; a user error prints one line and exits with code 2."""
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
