"""``tlunet <verb>``: everything beside training. A verb imports heavy libraries itself."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tlunet.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="TLU-Net: how much does transfer learning help steel-defect segmentation and "
    "classification? Training is run.py's; see python run.py --help.",
)

Study = Annotated[Path, typer.Argument(help="Folder of a study, as runs/synthetic.")]


@app.callback()
def verbs() -> None:
    """Keep ``report`` a verb while it is the only one."""


@app.command()
def report(
    study: Study,
    claims: Annotated[
        Path | None,
        typer.Option(help="A claims.yaml to judge; without it the study's own, if it has one."),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Copy tables and figures to this folder, as experiments/my_study."),
    ] = None,
) -> None:
    """Write a study's report.html, report.md, figures and tables from its finished runs."""
    from tlunet.report.render import record as copy
    from tlunet.report.report import write_report

    print(f"report: {write_report(study, claims)}")
    if record:
        print(f"recorded: {len(copy(study, record))} files in {record}")


def main() -> None:
    """The command line; a user's mistake is one line and exit code 2."""
    try:
        app()
    except UserError as error:
        print(*error.lines, sep="\n", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
