"""A study's report in W&B: its figures, its tables, and the cells that it was made from."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from tlunet.machine.console import say
from tlunet.runs.results import state_of
from tlunet.tracking.wandb.artifacts import report_artifact, results_artifact, use
from tlunet.tracking.wandb.connection import (
    close_run,
    first_line,
    open_run,
    planned_mode,
    tear_down,
    upload,
)

if TYPE_CHECKING:
    import wandb

TABLES = ("results", "scores", "comparisons", "claims")


def log_report(study: Path, logger: Mapping[str, Any]) -> None:
    """Log a written report as a run of its own in the study's group; nothing here can fail.

    It is written to an offline record first, as a cell's test is, and then uploaded. Its inputs
    are the results of the study's finished cells, its output the report.

    Args:
        study: folder of the study.
        logger: as a cell's configuration has it; nothing is done unless that is W&B.
    """
    if logger["name"] != "wandb":
        return
    name, title = study.resolve().name, f"report {study}"
    content = hashlib.sha256((study / "report.html").read_bytes()).hexdigest()
    try:
        mode = planned_mode(logger["mode"])
        if mode not in ("online", "offline"):
            return
        run = open_run(
            title, "offline", study,
            project=logger["project"], group=name, name=f"report-{name}", job_type="report",
            id=hashlib.sha256(f"{name}|report|{content}".encode()).hexdigest()[:16],
            tags=["report"], config={"study": name},
        )  # fmt: skip
        if run is None:
            return
        _tell(run, study)
        close_run(run, 0)
        if mode == "online":
            upload(run, title)
    except Exception as error:
        say(f"  {title}: W&B's client failed ({first_line(error)}); the report is in {study}")
    finally:
        tear_down()


def _tell(run: "wandb.Run", study: Path) -> None:
    import wandb

    figures = sorted(study.glob("figures/*.png"))
    shown: dict[str, Any] = {f"figures/{path.stem}": wandb.Image(str(path)) for path in figures}
    for table in TABLES:
        if (path := study / f"{table}.csv").exists():
            rows = pd.read_csv(path).astype(object)
            data = rows.where(rows.notna(), None).to_numpy()
            names: list[str | int] = [*rows.columns]
            shown[f"tables/{table}"] = wandb.Table(names, data, allow_mixed_types=True)
    run.log(shown, step=0, commit=True)
    run.summary["answer"] = (study / "answer.md").read_text(encoding="utf-8")
    for cell in sorted(path.parent for path in study.glob("*/metrics.json")):
        if state_of(cell) == "finished":
            use(run, results_artifact(cell))
    run.log_artifact(report_artifact(study))
