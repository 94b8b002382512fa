import io
import json
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
from rich.cells import cell_len
from rich.console import Console
from segmentation_models_pytorch.encoders import encoders

from studies import make_truth, set_state, write_run
from tlunet.machine.console import UNLIMITED
from tlunet.machine.files import write_json
from tlunet.runs import results

TRUTH = make_truth(20)


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


def printed(study: Path, folders: set[str] | None = None, width: int = 200) -> str:
    """The table of some cells (default: all), as printed in a terminal of this width."""
    gathered = results.gather(study)
    console = Console(width=width, file=io.StringIO())
    console.print(results.show(gathered, folders or set(gathered["folder"]), width))
    return console.file.getvalue()


def test_the_console_table_names_failures_and_dead_classes(study: Path) -> None:
    text = printed(study)
    assert "failed" in text
    assert "* class 2 not found (pooled Dice below 0.01): random\n" in text
    assert "empty predictor" in text
    assert "failed" not in printed(study, {"resnet-random-1.0-s0-abc"})
    text = printed(study, {"resnet-imagenet-1.0-s0-abc"})
    assert "empty predictor" not in text  # and no row for it
    assert "none" not in text


@pytest.mark.parametrize("width", [60, 80, 100, 120, UNLIMITED])
def test_a_narrow_terminal_drops_columns_and_cuts_no_number(tmp_path: Path, width: int) -> None:
    longest = max(encoders, key=len)
    for encoder, init, frac in product((longest, "densenet"), ("random", "imagenet"), (1.0, 0.5)):
        write_run(tmp_path, TRUTH, encoder=encoder, init=init, frac=frac, dead=(2,))
    for folder in tmp_path.glob(f"{longest}-imagenet-*"):
        set_state(folder, "failed", "out of memory")
    text = printed(tmp_path, width=width)
    lines = text.splitlines()
    assert max(map(cell_len, lines)) <= width
    table = pd.read_csv(tmp_path / "results.csv")
    rows = lines[lines.index(next(x for x in lines if set(x.strip()) == {"─"})) + 1 :]
    for row, (_, cell) in zip(rows, table.iterrows(), strict=False):
        encoder, init, frac, dice, *_, state = row.split()
        assert encoder == cell["encoder"]
        assert init == {"random": "random", "imagenet": "ImageNet"}[cell["init"]]
        assert frac == f"{100 * cell['frac']:g}%"
        assert state == ("failed" if cell["state"] == "failed" else "finished*")
        assert dice == ("–" if cell["state"] == "failed" else f"{cell['dice_image']:.3f}")
    said = " ".join(text.split())
    assert "Same in all rows: seed 0, best epoch 3, training s 30." in said
    assert "* class 2 not found (pooled Dice below 0.01): " in said
    assert ("MLA" in text) == (width > 60)
    assert ("AUC" in text) == ("Kaggle-" in text) == (width > 80)
    assert "…" not in text


def test_with_the_narrowest_columns_a_name_continues_on_the_next_line(tmp_path: Path) -> None:
    write_run(tmp_path, TRUTH, encoder="a" * 30, init="imagenet")
    write_run(tmp_path, TRUTH, encoder="b" * 30, frac=0.5, seed=1)
    lines = printed(tmp_path, width=44).splitlines()
    assert max(map(cell_len, lines)) <= 44
    names = [line.partition(" ")[0] for line in lines]
    for letter in "ab":
        assert sum(len(name) for name in names if set(name) == {letter}) == 30
    for dice in results.gather(tmp_path)["dice_image"]:
        assert f"{dice:.3f}" in "".join(lines)


def test_the_best_epoch_counts_from_one(study: Path) -> None:
    row = results.gather(study).iloc[0]
    assert row["best_epoch"] == 3  # in the file, from zero
    assert dict(zip(results.SHOWN, results.texts(row), strict=True))["best epoch"] == "4"


def test_settings_that_differ_are_told_apart(tmp_path: Path) -> None:
    for init, arch in (("random", "unet"), ("imagenet", "fpn")):
        config = {"arch": {"name": arch}, "epochs": 3, "loss": {"_target_": "tlunet.x.PaperLoss"}}
        (cell(tmp_path, init) / "config.yaml").write_text(json.dumps(config))
    told = results.gather(tmp_path).set_index("init")["settings"].to_dict()
    assert told == {"random": "arch=unet", "imagenet": "arch=fpn"}
    assert "arch=fpn" in printed(tmp_path)


def test_no_cell_at_all(tmp_path: Path) -> None:
    gathered = results.gather(tmp_path)
    assert len(gathered) == 0
    assert str(results.show(gathered, set(), 80)) == "Test scores: no cell"


def test_files_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
