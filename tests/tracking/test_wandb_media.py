"""W&B's content of a tested cell and a report: in the record, and after wandb sync."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from studies import CLASSES, write_grid
from tlunet.data.bits import class_masks
from tlunet.data.drawing import compared
from tlunet.model.curves import roc_points
from tlunet.model.scores import flatten, roc_auc
from tlunet.runs.masks import masks_of, read_masks
from tlunet.tracking.open import open_logger
from tlunet.tracking.wandb.media import choose
from tlunet.tracking.wandb.report import log_report
from wandb_cells import Cell, make_cell
from wandb_record import OfflineRun, read_record
from wandb_server import KEY, WandbServer, serve_wandb
from wandb_sync import sync

ROWS = [{"epoch": k, "step": 4 * k + 4, "val_loss": 1.0, "val_dice": 0.5} for k in range(2)]
POINT = {"step": 6, "samples": 96, "elapsed_seconds": 3.5, "train_loss_step": 2.0}
OFFLINE = {"name": "wandb", "project": "tlunet", "mode": "offline"}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def cell(environment: None, tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """A cell that was logged offline."""
    cell = make_cell(tmp_path_factory.mktemp("cell") / "runs", mode="offline")
    with open_logger(cell, 0) as logger:  # type: ignore[arg-type]
        assert logger
        for row in ROWS:
            logger.log_epoch(row, [POINT | {"epoch": 1}] if row["epoch"] else [])
        logger.log_test(cell)  # type: ignore[arg-type]
    return cell


@pytest.fixture(scope="module")
def record(cell: Cell) -> OfflineRun:
    [path] = cell.folder.glob("wandb/offline-run-*/*.wandb")
    return read_record(path)


@pytest.fixture(scope="module")
def study(environment: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cells and the files of a report, logged offline."""
    study = tmp_path_factory.mktemp("study") / "runs" / "grid"
    write_grid(study, n=20, encoders=["resnet"], fracs=[1.0], seeds=[0])
    for name in ("report.html", "report.md", "answer.md"):
        (study / name).write_text(f"of {name}")
    pd.DataFrame({"block": ["a"], "score": [0.5], "low": [None]}).to_csv(study / "scores.csv")
    (study / "figures").mkdir()
    for name in ("figure_4", "forest"):
        Image.new("RGB", (40, 20)).save(study / f"figures/{name}.png")
    log_report(study, OFFLINE)
    return study


def test_wandb_itself_prints_nothing(
    study: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    copy = shutil.copytree(study, tmp_path / "grid", ignore=shutil.ignore_patterns("wandb"))
    monkeypatch.delenv("WANDB_SILENT", raising=False)
    log_report(copy, OFFLINE)
    assert list(copy.glob("wandb/offline-run-*"))
    assert capfd.readouterr() == ("", "")


def media(cell: Cell, path: str) -> Path:
    [file] = cell.folder.glob(f"wandb/offline-run-*/files/{path}")
    return file


def pixels(cell: Cell, path: str) -> np.ndarray:
    with Image.open(media(cell, path)) as image:
        return np.asarray(image)


def test_rows_and_axes(record: OfflineRun) -> None:
    assert record.about["job_type"] == "cell"
    assert record.about["tags"] == ["synthetic", "resnet", "random", "frac 1.0"]
    assert record.config["seed"] == 0
    assert record.column("_step") == [4, 6, 8, 9]
    assert record.column("epoch") == [0, 1]
    [point] = [row for row in record.history if row["_step"] == 6]
    assert {k: point[k] for k in POINT if k != "epoch"} == {
        k: POINT[k] for k in POINT if k != "epoch"
    }
    assert record.axes["val_*"] == record.axes["learning_rate"] == "epoch"
    assert record.axes["train_loss_step"] == "samples"
    assert record.exit_code == 0


def test_the_summary_is_metrics_json(record: OfflineRun, cell: Cell) -> None:
    scores = flatten(json.loads((cell.folder / "metrics.json").read_text()))
    assert len(scores) > 50
    for name, value in scores.items():
        assert record.summary[name] == value, name
    assert {"dice_image", "auc/mean", "auc/per_class/1", "empty_predictor/mla"} <= set(scores)


def test_curves_are_those_of_the_test(record: OfflineRun, cell: Cell) -> None:
    table = pd.read_parquet(cell.folder / "test_images.parquet")
    for name, columns in (
        ("test/roc", ["class", "false positive rate", "true positive rate"]),
        ("test/precision_recall", ["class", "recall", "precision"]),
    ):
        told = record.summary[f"{name}_table"]
        content = json.loads(media(cell, told["path"]).read_text())
        assert content["columns"] == columns
        assert {row[0] for row in content["data"]} == set(CLASSES)
        curve = np.array([row[1:] for row in content["data"] if row[0] == "pits"])
        if name == "test/roc":
            part = table[table["class_name"] == "pits"]
            label, prob = part["label"].to_numpy(bool), part["prob"].to_numpy(np.float64)
            assert np.trapezoid(curve[:, 1], curve[:, 0]) == pytest.approx(roc_auc(label, prob))
            assert curve == pytest.approx(np.stack(roc_points(label, prob), axis=1))
        chart = record.config["_wandb"]["visualize"][name]
        assert chart["panel_config"]["fieldSettings"]["class"] == "class"


def test_images_have_masks_with_names(record: OfflineRun, cell: Cell) -> None:
    told = record.summary["test/images"]
    content = json.loads(media(cell, told["path"]).read_text())
    rows = [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]
    assert len(rows) == told["nrows"] == 4
    assert [row["chosen"] for row in rows] == ["every cell's"] * 2 + ["this cell's worst"] * 2
    assert [row["image_id"] for row in rows] == list(choose(_table(cell), 4))
    [examples] = record.column("test/examples")
    assert len(examples["filenames"]) == 2
    for path in examples["filenames"]:
        assert pixels(cell, path).shape == (16, 32)
    ids = cell.data.pack.index["image_id"].tolist()
    layers = examples["all_masks"]
    for row, kinds in zip(rows, layers, strict=False):
        truth = cell.data.pack.masks[ids.index(row["image_id"])]
        shown = pixels(cell, kinds["truth"]["path"])
        assert np.array_equal(shown == 0, truth == 0)
        assert "prediction" in kinds
        found = masks_of(read_masks(cell.folder) or {}, row["image_id"], 4, (16, 32))
        steel = np.asarray(cell.data.pack.images[ids.index(row["image_id"])])
        drawn = compared(steel, class_masks(truth, 4), found)
        assert drawn.shape == (256, 3 * 512 + 12, 3)
        differences = [np.abs(one.astype(int) - drawn).mean() for one in pictures_of(record)]
        assert min(d for d in differences) < 6  # a JPEG
        assert len(differences) == 4


def pictures_of(record: OfflineRun) -> list[np.ndarray]:
    """The images of the table with masks drawn on them."""
    entries = [files for *_, files, _ in record.artifacts["run_table"]]
    paths = [path for files in entries for name, path in files.items() if name.endswith(".jpg")]
    shown = [np.asarray(Image.open(name)) for name in paths]
    return [one for one in shown if one.shape == (256, 3 * 512 + 12, 3)]


def test_artifacts_are_the_files_of_the_run_folder(record: OfflineRun, cell: Cell) -> None:
    [(name, aliases, files, is_input)] = record.artifacts["model"]
    assert name == "checkpoint-a-cell"
    assert sorted(aliases) == ["best", "latest"]
    assert files == {"best.ckpt": str(cell.folder / "best.ckpt")}
    assert not is_input
    [(name, _, files, is_input)] = record.artifacts["split"]
    assert (name, is_input) == ("split-55555555", True)
    [(_, _, files, _)] = record.artifacts["results"]
    assert "test_images.parquet" in files
    # All files that `wandb sync` reads are in the run folder.
    for kind in record.artifacts.values():
        for _, _, entries, _ in kind:
            assert all(Path(path).is_relative_to(cell.folder) for path in entries.values())


def test_a_report_is_made_from_its_cells(study: Path) -> None:
    [path] = study.glob("wandb/offline-run-*/*.wandb")
    record = read_record(path)
    assert (record.about["group"], record.about["job_type"]) == ("grid", "report")
    assert {"figures/figure_4", "figures/forest", "tables/scores"} <= set(record.summary)
    assert record.summary["answer"] == "of answer.md"
    assert str(study.resolve() / "report.html") in record.summary["report"]
    assert record.about["notes"] == f"**of answer.md**\n\n{record.summary['report']}"
    assert len(record.artifacts["results"]) == 2
    assert all(is_input for *_, is_input in record.artifacts["results"])
    [(name, _, files, is_input)] = record.artifacts["report"]
    assert (name, is_input) == ("report-grid", False)
    assert {"report.html", "report.md", "scores.csv", "figures/figure_4.png"} <= set(files)
    copy = Path(files["report.html"])
    assert copy.read_bytes() == (study / "report.html").read_bytes()
    assert copy.is_relative_to(study / "wandb")  # the next report replaces the original


def test_wandb_sync_uploads_all_of_it(
    cell: Cell, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_wandb() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        for folder in (cell.folder, study):
            sync(*map(str, folder.glob("wandb/offline-run-*")))
        assert not server.unknown
        _check_uploads(server, cell, study)


def _check_uploads(server: WandbServer, cell: Cell, study: Path) -> None:
    [run_id, report_id] = server.runs
    run = server.runs[run_id]
    assert run.summary["test/images"]["nrows"] == 4
    assert sum(name.endswith(".mask.png") for name in run.uploads) >= 2
    assert run.summary["test/roc_table"]["path"] in run.uploads
    charts = json.loads(run.about["config"])["_wandb"]["value"]["visualize"]
    assert set(charts) == {"test/roc", "test/precision_recall"}
    [checkpoint] = server.named("checkpoint-a-cell")
    assert checkpoint.content("best.ckpt") == (cell.folder / "best.ckpt").read_bytes()
    assert checkpoint.aliases == {"best", "latest"}
    assert checkpoint.made_by == {run_id}
    [split] = server.of_type("split")
    assert split.used_by == {run_id}
    [images] = [a for a in server.of_type("run_table") if "test/images.table.json" in a.manifest]
    labels = {name for name in images.manifest if name.endswith(".classes.json")}
    [names] = [json.loads(images.content(name))["class_set"] for name in labels]
    assert [c["name"] for c in names][:5] == ["no defect", *CLASSES]
    assert "pits + lines" in [c["name"] for c in names]
    [report] = server.of_type("report")
    assert report.content("report.html") == (study / "report.html").read_bytes()
    assert report.made_by == {report_id}
    used = [a for a in server.of_type("results") if report_id in a.used_by]
    assert len(used) == 2


def test_half_of_the_images_are_the_same_in_every_cell(tmp_path: Path) -> None:
    study = write_grid(tmp_path / "s", n=40, encoders=["resnet"], fracs=[1.0], seeds=[0])
    tables = [pd.read_parquet(path) for path in sorted(study.glob("*/test_images.parquet"))]
    picked = [choose(table, 10) for table in tables]
    shared = [[k for k, why in p.items() if why == "every cell's"] for p in picked]
    assert shared[0] == shared[1]
    assert len(shared[0]) == 5
    for table, chosen in zip(tables, picked, strict=True):
        own = [k for k, why in chosen.items() if why != "every cell's"]
        sums = table.groupby("image_id")[["intersection", "truth_pixels", "predicted_pixels"]].sum()
        dice = 2 * sums["intersection"] / (sums["truth_pixels"] + sums["predicted_pixels"])
        others = dice.dropna().drop([*shared[0], *own])
        assert dice[own].max() <= others.min()
    assert len(choose(tables[0], 1)) == 1
    assert choose(tables[0], 0) == {}


def _table(cell: Any) -> pd.DataFrame:
    return pd.read_parquet(cell.folder / "test_images.parquet")
