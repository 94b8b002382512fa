"""Creates a W&B workspace and report of a study from code.

Both are first built as specifications, without a network, and saved in a second step.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tlunet.errors import ConfigError, DataError, first_line
from tlunet.machine.files import read_json
from tlunet.tracking.wandb.connection import is_logged_in, knock
from tlunet.tracking.wandb.opening import Opening, read_opening

if TYPE_CHECKING:
    import wandb_workspaces.reports.v2 as reports
    import wandb_workspaces.workspaces as workspaces

INSTALL = "tlunet dashboard needs wandb-workspaces: pip install '.[dashboard]'"
#: Metrics of Figure 8, by the names that the cells log.
CONVERGENCE = {"val_loss": "loss", "val_dice": "Dice", "val_mla": "MLA"}
AXES = {"epoch": "epoch", "elapsed_seconds": "seconds of training"}
#: Scores of the grid, by their names in ``metrics.json``.
SCORES = {"dice_image": "Dice", "iou_image": "IoU", "mla": "MLA", "auc/mean": "AUC"}
COURSE = {
    "train_loss": "training loss",
    "gradient_norm": "gradient norm",
    "learning_rate": "learning rate",
    "images_per_second": "images/s",
    "waiting_share": "fraction of time waiting for data",
}
GRID = ("grid_encoder", "grid_init", "grid_frac")  # runs are grouped by these
COLUMNS = [
    "run:displayName",
    *(f"config:{name}.value" for name in (*GRID, "grid_seed")),
    *(f"summary:{name}" for name in SCORES),
]


@dataclass(frozen=True)
class Plan:
    """What the workspace and report show.

    Attributes:
        study: name of the study, W&B's group.
        project: W&B project of its runs.
        entity: W&B team or user; empty in a specification that is not saved.
        classes: names of the class ids 1…M.
        opening: the answer, the forest plots, and where the report is.
    """

    study: str
    project: str
    entity: str
    classes: tuple[str, ...]
    opening: Opening

    @classmethod
    def read(cls, study: Path, entity: str = "") -> "Plan":
        """Read the plan from a study's run folders.

        Raises:
            DataError: there are none, or they were not logged to W&B.
        """
        folders = sorted(path.parent for path in study.glob("*/config.yaml"))
        if not folders:
            raise DataError(
                f"{study}: no run folder in it; expected a study, such as runs/synthetic"
            )
        for folder in folders:
            try:
                config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
                logger = config["logger"]
                classes = tuple(map(str, read_json(folder / "meta.json")["classes"]))
                if logger["name"] == "wandb":
                    names = study.resolve().name, str(logger["project"]), entity
                    return cls(*names, classes, read_opening(study))
            except (KeyError, TypeError, ValueError, OSError, yaml.YAMLError):
                continue  # another cell may have it
        raise DataError(f"{study}: none of its cells was logged to W&B (logger=wandb)")


def panels(plan: Plan) -> dict[str, list[Any]]:
    """Create the panels of each section, the same in workspace and report."""
    import wandb_workspaces.reports.v2 as wr

    def line(y: list[str], x: str, title: str) -> Any:
        return wr.LinePlot(title=title, x=x, y=[*y], title_x=AXES[x])

    classes = range(1, len(plan.classes) + 1)
    sections: dict[str, list[Any]] = {
        "Test scores": [
            wr.BarPlot(title=name, metrics=[wr.SummaryMetric(key)]) for key, name in SCORES.items()
        ]
    }
    for axis, unit in AXES.items():
        sections[f"Convergence by {unit} (Figure 8)"] = [
            line([key], axis, f"validation {name}") for key, name in CONVERGENCE.items()
        ]
    # W&B can draw box plots, but its library does not support them; show the report's figures.
    sections["Distribution over test images (Figures 4, 5 and 9)"] = [
        wr.MediaBrowser(title=name.replace("_", " "), media_keys=[f"figures/{name}"], num_columns=1)
        for name in ("figure_4", "figure_5", "figure_9")
    ]
    sections["Test images"] = [wr.MediaBrowser(media_keys=["test/examples"], num_columns=2)]
    sections["Classes"] = [
        line([f"val_dice_class/{m}"], "epoch", f"validation Dice of {plan.classes[m - 1]}")
        for m in classes
    ]
    for key, name in (("test/roc", "ROC"), ("test/precision_recall", "precision and recall")):
        x, y = (
            ("false positive rate", "true positive rate")
            if key == "test/roc"
            else ("recall", "precision")
        )
        chart = wr.CustomChart.from_table(
            f"{key}_table", {"x": x, "y": y, "class": "class"}, {"title": name}
        )
        chart.chart_name = "wandb/area-under-curve/v0"
        sections["Classes"].append(chart)
    sections["Training curves"] = [line([key], "epoch", name) for key, name in COURSE.items()] + [
        wr.LinePlot(title="training loss by step", x="samples", y=["train_loss_step"])
    ]
    return sections


def _forest(plan: Plan) -> list[Any]:
    """Create the panel of the forest plots, as wide as the page; none if there are none."""
    import wandb_workspaces.reports.v2 as wr

    if not (keys := [*plan.opening.forests]):
        return []
    panel = wr.MediaBrowser(title="Differences with 95% intervals", media_keys=keys, num_columns=1)
    panel.layout = wr.Layout(w=24, h=12)
    return [panel]


def workspace(plan: Plan) -> "workspaces.Workspace":
    """Create a workspace: the answer, and runs grouped by encoder, init and fraction."""
    import wandb_workspaces.expr as expr
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    answer = [wr.MarkdownPanel(markdown=plan.opening.markdown), *_forest(plan)]
    return ws.Workspace(
        entity=plan.entity,
        project=plan.project,
        name=f"TLU-Net: {plan.study}",
        sections=[
            ws.Section(name=name, panels=drawn, is_open=True)
            for name, drawn in ({"Answer": answer} | panels(plan)).items()
        ],
        runset_settings=ws.RunsetSettings(
            filters=expr.And(expr.Config("study") == plan.study),
            groupby=[expr.Config(name) for name in GRID],
            order=[expr.Ordering(expr.Summary("dice_image"), ascending=False)],
            pinned_columns=COLUMNS,
        ),
    )


def report(plan: Plan) -> "reports.Report":
    """Create a report: the answer, the forest plot, and the same panels and runs."""
    import wandb_workspaces.expr as expr
    import wandb_workspaces.reports.v2 as wr

    def grid(drawn: list[Any]) -> Any:
        # Without entity and project, runs come from the project of the report.
        runs = wr.Runset(
            name=plan.study,
            filters=expr.And(expr.Config("study") == plan.study),
            groupby=[f"config.{name}" for name in GRID],
            pinned_columns=COLUMNS,
            lock_columns=True,
        )
        return wr.PanelGrid(runsets=[runs], panels=drawn)

    first, *rest = plan.opening.answer
    blocks: list[Any] = [wr.H1(first)]
    blocks += [grid(forest)] if (forest := _forest(plan)) else []
    blocks += [
        *map(wr.P, rest),
        wr.P(plan.opening.where),
        wr.P(
            "Each run is a cell: encoder × initialisation × fraction of the training data × seed. "
            "Dice and IoU: mean over test images with a defect, classes pooled within the image."
        ),
        wr.TableOfContents(),
    ]
    for name, drawn in panels(plan).items():
        blocks += [wr.H2(name), grid(drawn)]
    return wr.Report(
        entity=plan.entity,
        project=plan.project,
        title=f"TLU-Net: {plan.study}",
        description="Created by tlunet dashboard.",
        blocks=blocks,
        width="fluid",
    )


def specification(plan: Plan) -> dict[str, Any]:
    """Build both specifications in W&B's format, without contacting W&B.

    Returns:
        ``workspace`` and ``report`` as plain values.

    Raises:
        ConfigError: wandb-workspaces is not installed.
    """
    try:
        made: dict[str, Any] = {"workspace": workspace(plan), "report": report(plan)}
    except ModuleNotFoundError as error:
        raise ConfigError(INSTALL) from error
    return {
        name: json.loads(view._to_model().model_dump_json(by_alias=True, exclude_none=True))
        for name, view in made.items()
    }


def save(study: Path, entity: str | None = None) -> dict[str, str]:
    """Save both to W&B.

    Args:
        study: folder of the study.
        entity: W&B team or user; by default the logged-in user or ``WANDB_ENTITY``.

    Returns:
        The URLs of ``workspace`` and ``report``.

    Raises:
        ConfigError: no login, no answer from W&B, or wandb-workspaces is not installed.
        DataError: not a study that was logged to W&B.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    plan = Plan.read(study)
    specification(plan)  # find errors before anything is saved
    settings = wandb.setup().settings
    if not is_logged_in(settings):
        raise ConfigError(
            "tlunet dashboard: W&B needs a login: run wandb login; --dry-run FILE needs none"
        )
    if trouble := knock(settings.base_url):
        raise ConfigError(f"tlunet dashboard: W&B {trouble}; --dry-run FILE needs no network")
    try:
        owner = entity or wandb.Api().default_entity or ""
        plan = Plan.read(study, owner)
        views = workspace(plan).save(), report(plan).save()
    except Exception as error:  # whatever the server answers
        raise ConfigError(f"tlunet dashboard: W&B refused it ({first_line(error)})") from error
    return dict(zip(("workspace", "report"), (view.url for view in views), strict=True))
