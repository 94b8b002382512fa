import io
import json
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from tlunet.machine.files import write_json
from tlunet.runs import results


def cell(study: Path, init: str, state: str = "finished", **scores: object) -> Path:
    folder = study / f"resnet-{init}-1.0-s0-abc"
    meta = {"study": "s", "dataset": "d", "encoder": "resnet", "init": init, "frac": 1.0, "seed": 0}
    meta |= {"split_fingerprint": "f", "hardware": "h", "precision": "32-true", "test_images": 9}
    write_json(folder / "meta.json", meta | {"seconds": 12.0, "best_epoch": 3})
    write_json(
        folder / "status.json", {"state": state, "error": "why" if state != "finished" else None}
    )
    per_class = {"mean": 0.25, "per_class": {"1": 0.25, "2": None}}
    metrics = {"dice_image": 0.5, "mla": 0.75, "auc": per_class, "dead_classes": [2]}
    empty = {"dice_image": 0.0, "mla": 0.1, "auc": {"mean": 0.5, "per_class": {"1": 0.5}}}
    write_json(folder / "metrics.json", metrics | {"empty_predictor": empty} | scores)
    return folder


@pytest.fixture
def study(tmp_path: Path) -> Path:
    cell(tmp_path, "random")
    cell(tmp_path, "imagenet", "failed")
    (tmp_path / "not-a-cell").mkdir()
    return tmp_path


def test_one_row_a_cell_scores_of_finished_ones_only(study: Path) -> None:
    gathered = results.gather(study)
    written = pd.read_csv(study / "results.csv")
    assert list(written.columns) == list(gathered.columns)
    rows = written.set_index("init")
    assert rows["state"].to_dict() == {"random": "finished", "imagenet": "failed"}
    assert rows.loc["random", ["dice_image", "mla", "auc", "auc_1", "empty_auc"]].tolist() == [
        0.5, 0.75, 0.25, 0.25, 0.5,
    ]  # fmt: skip
    assert rows.loc["imagenet", ["dice_image", "mla", "auc"]].isna().all()
    assert rows.loc["imagenet", "error"] == "why"


def test_the_console_table_names_failures_and_dead_classes(study: Path) -> None:
    gathered = results.gather(study)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(results.show(gathered, set(gathered["folder"])))
    text = console.export_text()
    assert "failed" in text
    assert "class 2 not found" in text
    assert "Not found: pooled Dice below 0.01." in text
    assert "empty predictor" in text
    only = results.show(gathered, {"resnet-random-1.0-s0-abc"})
    console.print(only)
    assert "failed" not in console.export_text()
    [failed] = set(gathered["folder"]) - {"resnet-random-1.0-s0-abc"}
    console.print(results.show(gathered, {failed}))
    assert "empty predictor" not in console.export_text()  # and no row for it


def test_settings_that_differ_are_told_apart(tmp_path: Path) -> None:
    for init, arch in (("random", "unet"), ("imagenet", "fpn")):
        config = {"arch": {"name": arch}, "epochs": 3, "loss": {"_target_": "tlunet.x.PaperLoss"}}
        (cell(tmp_path, init) / "config.yaml").write_text(json.dumps(config))
    gathered = results.gather(tmp_path)
    told = gathered.set_index("init")["settings"].to_dict()
    assert told == {"random": "arch=unet", "imagenet": "arch=fpn"}
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(results.show(gathered, set(gathered["folder"])))
    assert "arch=fpn" in console.export_text()


def test_no_cell_at_all(tmp_path: Path) -> None:
    gathered = results.gather(tmp_path)
    assert len(gathered) == 0
    assert results.show(gathered, set()).row_count == 0


def test_files_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
