"""The data of a run are found from any folder."""

import os
import shutil
from pathlib import Path

import pytest
import yaml
from deploy.networks import write_run

from tlunet.errors import DataError
from tlunet.runs.data import open_data


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with relative paths, as the command line gives them."""
    folder = write_run(tmp_path / "there")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["data"]["root"] = os.path.relpath(config["data"]["root"], tmp_path / "there")
    config["paths"] = {"runs": "runs", "data": "data"}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def test_from_the_folder_it_was_trained_in_and_from_others(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, elsewhere = tmp_path / "there", tmp_path / "elsewhere"
    elsewhere.mkdir()
    for cwd in (there, elsewhere, run):
        monkeypatch.chdir(cwd)
        data = open_data(Path(os.path.relpath(run)))
        assert Path(data.dataset.root).resolve().is_relative_to(there / "data")
        assert data.pack.folder.resolve().is_relative_to(there / "data" / "packs")
    assert not list(elsewhere.iterdir())


def test_a_run_that_was_moved_is_opened_beside_its_data(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    monkeypatch.chdir(tmp_path / "there")
    assert open_data(moved).rows["test"].size
    config = yaml.safe_load((moved / "config.yaml").read_text())
    config["data"] |= {"name": "severstal", "root": "data/severstal"}
    (moved / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(DataError) as caught:
        open_data(moved)
    assert caught.value.lines == (
        f"{moved}: its images are not in {tmp_path}/there/data/severstal; run this where it was "
        "trained",
    )
