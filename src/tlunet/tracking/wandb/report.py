"""A study's report in W&B: the answer, figures, tables, and the cells it is based on."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from tlunet.errors import first_line
from tlunet.machine.console import say
from tlunet.runs.folder import state_of
from tlunet.tracking.wandb.artifacts import report_artifact, results_artifact, use
from tlunet.tracking.wandb.connection import (
    close_run,
    open_run,
    planned_mode,
    tear_down,
    upload,
)
from tlunet.tracking.wandb.opening import FOREST, figure_key, read_opening

if TYPE_CHECKING:
    import wandb

TABLES = ("results", "scores", "comparisons", "label_worth", "claims")


def log_report(study: Path, logger: Mapping[str, Any]) -> None:
    """Log a report as a separate run in the study's group; never raises.

    Like a cell's test, it is written to an offline record first and then uploaded. The inputs of
    the run are the results of the finished cells, its output is the report.

    Args:
        study: folder of the study.
        logger: logger settings, as in a cell's configuration; does nothing unless it is W&B.
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
            project=logger["project"], entity=logger.get("entity"), group=name,
            name=f"report-{name}", job_type="report",
            id=hashlib.sha256(f"{name}|report|{content}".encode()).hexdigest()[:16],
            tags=["report"], config={"study": name}, notes=read_opening(study).markdown,
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

    opening = read_opening(study)
    figures = sorted(study.glob("figures/*.png"), key=lambda path: not path.stem.endswith(FOREST))
    shown: dict[str, Any] = {figure_key(path): wandb.Image(str(path)) for path in figures}
    for table in TABLES:
        if (path := study / f"{table}.csv").exists():
            rows = pd.read_csv(path).astype(object)
            data = rows.where(rows.notna(), None).to_numpy()
            names: list[str | int] = [*rows.columns]
            shown[f"tables/{table}"] = wandb.Table(names, data, allow_mixed_types=True)
    run.log(shown, step=0, commit=True)
    run.summary.update({"answer": " ".join(opening.answer), "report": opening.where})
    for cell in sorted(path.parent for path in study.glob("*/metrics.json")):
        if state_of(cell) == "finished":
            use(run, results_artifact(cell))
    run.log_artifact(report_artifact(study))
