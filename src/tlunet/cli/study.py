"""``tlunet <command> STUDY``: status, report and W&B dashboard of a study."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

Study = Annotated[Path, typer.Argument(help="Study folder, such as runs/synthetic.")]


@app.command()
def report(
    study: Study,
    claims: Annotated[
        Path | None,
        typer.Option(help="Claims file to evaluate. Default: the study's own claims.yaml, if any."),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Copy tables and figures to this folder, such as experiments/my_study."),
    ] = None,
) -> None:
    """Write a study's report.html, report.md, figures and tables from its finished runs."""
    from tlunet.report.record import record as copy
    from tlunet.report.report import write_report

    print(f"report: {write_report(study, claims)}")
    if record:
        print(f"recorded: {len(copy(study, record))} files in {record}")


@app.command()
def status(
    study: Study,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Show which cells of a study are finished, running, failed or interrupted.

    "val Dice" is that of the validation set; test scores are in results.csv.
    "left" is the maximum remaining training time: early stopping may end it
    sooner, and the test follows it. Running cells are not affected.
    """
    from tlunet.runs.status import as_dicts, read_study, summary

    rows = read_study(study)
    if as_json:
        print(json.dumps(as_dicts(rows), indent=2, allow_nan=False))
        return
    from tlunet.machine import console
    from tlunet.runs.status_table import show

    console.show(partial(show, rows))
    console.say(summary(rows))


@app.command()
def dashboard(
    study: Study,
    dry_run: Annotated[
        Path | None,
        typer.Option(help="Write the specification to this JSON file; needs no network or login."),
    ] = None,
    entity: Annotated[str | None, typer.Option(help="W&B team or user (default: yours).")] = None,
) -> None:
    """Create a W&B workspace and report.

    They show the test scores of the grid, convergence by epoch and by seconds
    (Figure 8), distributions over the test images, images with masks, and
    classes. The cells must be logged there (logger=wandb, wandb sync).
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
