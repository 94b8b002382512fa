"""Files of a run folder as W&B artifacts: what a cell was made from, and what came of it.

A cell's files stay where they are, none is copied: a record holds their paths. Artifacts of one
name and the same content are one version, whoever logs them; so a report's inputs are its cells'
outputs.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import wandb

#: Of a run folder: all that a report is made from.
RESULTS = (
    "metrics.json", "test_images.parquet", "test_masks.parquet", "history.csv", "config.yaml",
)  # fmt: skip


def split_artifact(folder: Path) -> "wandb.Artifact":
    """``split.csv``; one artifact a split, a version a fraction."""
    about = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    fingerprint = about["split_fingerprint"]
    facts = {"fingerprint": fingerprint, "dataset": about["dataset"], "frac": about["frac"]}
    return _artifact(folder, f"split-{fingerprint[:8]}", "split", ["split.csv"], facts)


def checkpoint_artifact(folder: Path, scores: dict[str, Any]) -> "wandb.Artifact":
    """``best.ckpt``, its scores beside it."""
    return _artifact(folder, f"checkpoint-{folder.name}", "model", ["best.ckpt"], scores)


def results_artifact(folder: Path) -> "wandb.Artifact":
    """What a report reads of a finished cell."""
    return _artifact(folder, f"results-{folder.name}", "results", RESULTS, {})


def report_artifact(study: Path) -> "wandb.Artifact":
    """A study's report, its tables and figures; copied, since the next report replaces them."""
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
    """Log an artifact as what a run was made from.

    ``run.use_artifact`` refuses offline, since it may have to look one up; this one is at hand, and
    the record can say what it is.
    """
    run._log_artifact(artifact, is_user_created=True, use_after_commit=True)
