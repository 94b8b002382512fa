"""A login node names cells by its own hardware, their jobs by theirs."""

import json
import os
from pathlib import Path

import pytest

from tlunet.study.sweep.locate import PlannedCell, last_changes, locate

SCIENCE = {"version": 1, "encoder": "resnet18", "seed": 0, "optimizer": {"lr": 5e-4}}


def run(study: Path, name: str, state: str = "finished", **machine: object) -> Path:
    folder = study / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meta.json").write_text(json.dumps({"science": SCIENCE | machine}))
    (folder / "status.json").write_text(json.dumps({"state": state}))
    return folder


@pytest.fixture
def asked(tmp_path: Path) -> PlannedCell:
    return PlannedCell(tmp_path / "login", SCIENCE | {"device": "cpu", "precision": "32-true"})


GPU = {"device": "cuda", "precision": "bf16-mixed"}


def test_a_cell_is_found_by_all_but_its_machine(tmp_path: Path, asked: PlannedCell) -> None:
    assert locate([asked], {}) == [asked.folder]  # no folders: this machine's name
    run(tmp_path, "other", seed=1, **GPU)
    assert locate([asked], {}) == [asked.folder]
    gpu = run(tmp_path, "gpu", **GPU, processes=4)
    assert locate([asked, asked], {}) == [gpu, gpu]
    (tmp_path / "other" / "meta.json").write_text("{")  # damaged: belongs to no cell
    assert locate([asked], {}) == [gpu]


def test_the_folder_of_this_command_comes_first(tmp_path: Path, asked: PlannedCell) -> None:
    here = run(tmp_path, "login", "failed", device="cpu", precision="32-true")
    gpu = run(tmp_path, "gpu", **GPU)
    before = last_changes([tmp_path])
    assert locate([asked], before) == [here]  # no change: the exact folder
    run(tmp_path, "gpu", "failed", **GPU)
    os.utime(gpu / "status.json", ns=(1, 1))
    assert locate([asked], before) == [gpu]  # the folder a job has just written, even if failed


def test_of_two_strange_ones_the_finished_one(tmp_path: Path, asked: PlannedCell) -> None:
    run(tmp_path, "z", "failed", **GPU)
    done = run(tmp_path, "a", "finished", device="mps", precision="32-true")
    assert locate([asked], last_changes([tmp_path])) == [done]
