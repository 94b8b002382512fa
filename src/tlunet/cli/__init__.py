"""``tlunet <verb>``: everything beside training. A verb imports heavy libraries itself."""

import sys

import typer

from tlunet.cli import bench, data, deploy, study
from tlunet.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="TLU-Net: how much does transfer learning help steel-defect segmentation and "
    "classification? Training is run.py's; see python run.py --help.",
)
app.add_typer(data.app, name="data")
for verbs in (study.app, deploy.app, bench.app):
    app.add_typer(verbs)


def main() -> None:
    """The command line; a user's mistake is one line and exit code 2."""
    try:
        app()
    except UserError as error:
        print(*error.lines, sep="\n", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] == "tlunet":
            raise
        # So it is where exported networks are used and nothing else (docs/network.md).
        print(
            f"{error.name} is not installed; without the whole package (pip install . in a "
            "checkout) tlunet predict MODEL.onnx works and little else",
            file=sys.stderr,
        )
        sys.exit(2)
