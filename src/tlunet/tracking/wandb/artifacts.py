"""Files of a run folder as W&B artifacts: the inputs and outputs of a cell.

A cell's files are not copied: the record contains their paths. Artifacts with the same name and
content are one version, regardless of the run that logs them, so a report's inputs are its cells'
outputs.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import wandb

#: The files of a run folder that a report reads.
RESULTS = (
    "metrics.json", "test_images.parquet", "test_masks.parquet", "history.csv", "config.yaml",
)  # fmt: skip


def split_artifact(folder: Path) -> "wandb.Artifact":
    """Create an artifact of ``split.csv``: one per split, one version per fraction."""
    about = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    fingerprint = about["split_fingerprint"]
    facts = {"fingerprint": fingerprint, "dataset": about["dataset"], "frac": about["frac"]}
    return _artifact(folder, f"split-{fingerprint[:8]}", "split", ["split.csv"], facts)


def checkpoint_artifact(folder: Path, scores: dict[str, Any]) -> "wandb.Artifact":
    """Create an artifact of ``best.ckpt``, with its scores as metadata."""
    return _artifact(folder, f"checkpoint-{folder.name}", "model", ["best.ckpt"], scores)


def results_artifact(folder: Path) -> "wandb.Artifact":
    """Create an artifact of the files that a report reads from a finished cell."""
    return _artifact(folder, f"results-{folder.name}", "results", RESULTS, {})


def report_artifact(study: Path) -> "wandb.Artifact":
    """Create an artifact of a report; its files are copied, since the next report replaces them."""
    tables = sorted(path.name for path in study.glob("*.csv"))
    figures = sorted(str(path.relative_to(study)) for path in study.glob("figures/*.png"))
    files = ["report.html", "report.md", *tables, *figures]
    return _artifact(study, f"report-{study.resolve().name}", "report", files, {}, copy=True)


def _artifact(
    folder: Path,
    name: str,
    kind: str,
    files: Sequence[str],
    facts: dict[str, Any],
    copy: bool = False,
) -> "wandb.Artifact":
    import wandb

    artifact = wandb.Artifact(re.sub(r"[^\w.-]", "-", name)[:128], type=kind, metadata=facts)
    for file in files:
        if (path := folder / file).exists():
            artifact.add_file(
                str(path.resolve()),
                name=file,
                policy="mutable" if copy else "immutable",
                skip_cache=True,
            )
    return artifact


def use(run: "wandb.Run", artifact: "wandb.Artifact") -> None:
    """Log an artifact as an input of a run.

    ``run.use_artifact`` refuses to work offline, since it may have to look the artifact up. Here
    the artifact is local, and the record can contain it.
    """
    run._log_artifact(artifact, is_user_created=True, use_after_commit=True)
