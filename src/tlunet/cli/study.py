"""``tlunet <verb> STUDY``: what became of a sweep."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

Study = Annotated[Path, typer.Argument(help="Folder of a study, as runs/synthetic.")]


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


@app.command()
def status(
    study: Study,
    as_json: Annotated[bool, typer.Option("--json", help="The rows as JSON, for scripts.")] = False,
) -> None:
    """Show which of a study's cells are finished, running, failed or broken off.

    "left" is the time that training may still take at most: early stopping
    ends it sooner, the test comes after it. Running cells are not disturbed.
    """
    from tlunet.runs.status import as_dicts, read_study, show, summary

    rows = read_study(study)
    if as_json:
        print(json.dumps(as_dicts(rows), indent=2, allow_nan=False))
        return
    from rich.console import Console

    # A terminal cuts the last column; a log file or a pipe has it whole.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 1000)
    console.print(show(rows))
    print(summary(rows))


@app.command()
def dashboard(
    study: Study,
    dry_run: Annotated[
        Path | None,
        typer.Option(help="Write the specification to this file (JSON); no network, no login."),
    ] = None,
    entity: Annotated[
        str | None, typer.Option(help="Whose W&B project; without it your own.")
    ] = None,
) -> None:
    """Lay the study out in W&B: a workspace and a report.

    Test scores of the grid, convergence by epoch and by seconds (Figure 8),
    distributions over the test images, images with their masks, classes. The
    cells must have been logged there (logger=wandb, wandb sync).
    """
    from tlunet.machine.console import say
    from tlunet.machine.files import write_json
    from tlunet.tracking.wandb.dashboard import Plan, save, specification

    if dry_run:
        write_json(dry_run, specification(Plan.read(study, entity or "")))
        say(f"specification: {dry_run}")
        return
    for name, url in save(study, entity).items():
        say(f"{name}: {url}")
