"""Copy what a repository keeps of a study."""

import shutil
from pathlib import Path

import pandas as pd

from tlunet.errors import DataError
from tlunet.machine.command_line import tlunet_command

RECORDED = (
    "results.csv", "scores.csv", "comparisons.csv", "label_worth.csv", "flags.csv", "claims.csv",
    "answer.md",
)  # fmt: skip


def record(study: Path, experiment: Path) -> list[Path]:
    """Copy the files of a study that a repository keeps: tables, answer and figures.

    Figures that show images are copied for procedural strips only: other images may not be free
    to share.

    Args:
        study: the study folder, with a report.
        experiment: the target folder, ``experiments/<name>``.

    Returns:
        The files written.

    Raises:
        DataError: the study has no report.
    """
    if not (study / "report.html").exists():
        command = tlunet_command("report", study)
        raise DataError(f"{study}: no report.html; write it first: {command}")
    datasets = set(pd.read_csv(study / "results.csv")["dataset"])
    figures = sorted((study / "figures").glob("*.png"))
    if datasets != {"synthetic"}:
        figures = [figure for figure in figures if "figure_7" not in figure.name]
    shutil.rmtree(experiment / "figures", ignore_errors=True)
    (experiment / "figures").mkdir(parents=True)
    written = []
    for file in [*(study / name for name in RECORDED if (study / name).exists()), *figures]:
        written.append(experiment / file.relative_to(study))
        shutil.copyfile(file, written[-1])
    return written
