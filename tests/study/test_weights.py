"""Starting weights are looked up before anything is drawn, packed or trained."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from tlunet.errors import ConfigError, WeightsError
from tlunet.runs.folder import set_state
from tlunet.study.config.command import read_command
from tlunet.study.sweep import weights
from tlunet.study.sweep.weights import fetch_weights

CONF = Path(__file__).parents[2] / "conf"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of weights without any."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("TLUNET_WEIGHTS", "weights")
    return tmp_path


def cells(*line: str) -> list[DictConfig]:
    read = read_command(["-m", "data=synthetic", "encoder=resnet,densenet", *line], CONF)
    assert read
    return read


def test_one_cell_without_weights_draws_and_packs_nothing(
    run_here: Run, tiny: tuple[str, ...], empty: Path
) -> None:
    done = run_here("init=imagenet", *tiny, cwd=empty)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("weights: no weights for resnet18; looked for resnet18.imagenet/")
    assert sorted(path.name for path in empty.iterdir()) == ["weights"]


def test_in_a_sweep_each_missing_file_is_named_once(
    empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch_weights(cells("init=imagenet,random", "seed=0,1"), may_run=False)
    first, second = capsys.readouterr().err.splitlines()
    start = "resnet · ImageNet: 2 of 8 cells will fail: weights: no weights for resnet18; looked"
    assert first.startswith(start)
    assert second.startswith("densenet · ImageNet: 2 of 8 cells will fail: weights: no weights for")


def test_a_sweep_without_any_weights_does_not_start(
    empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(WeightsError) as raised:
        fetch_weights(cells("init=imagenet", "seed=0,1"), may_run=False)
    assert [line.partition(";")[0] for line in raised.value.lines] == [
        "weights: no weights for resnet18", "weights: no weights for densenet121",
    ]  # fmt: skip
    fetch_weights(cells("init=imagenet"), may_run=True)  # another machine may have them
    assert "resnet · ImageNet: 1 of 2 cells will fail" in capsys.readouterr().err


def test_a_download_is_tried_once_for_all_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TLUNET_WEIGHTS", raising=False)
    asked = []

    def fetch(source: weights.WeightsSource) -> Path:
        asked.append(source.repo)
        raise WeightsError(f"{source.repo} is not available")

    monkeypatch.setattr(weights, "fetch", fetch)
    fetch_weights(cells("init=random,imagenet", "seed=0,1,2"), may_run=False)
    assert asked == ["smp-hub/resnet18.imagenet", "smp-hub/densenet121.imagenet"]
    assert capsys.readouterr().err == (
        "resnet · ImageNet: 3 of 12 cells will fail: smp-hub/resnet18.imagenet is not available\n"
        "densenet · ImageNet: 3 of 12 cells will fail: smp-hub/densenet121.imagenet is not "
        "available\n"
    )


def test_cells_that_have_begun_need_no_weights(
    empty: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TLUNET_WEIGHTS")
    monkeypatch.setattr(weights, "fetch", lambda source: pytest.fail("asked the hub"))
    for name in ("resnet-imagenet-1.0-s0-12345678", "densenet-imagenet-1.0-s0-12345678"):
        (empty / "runs/steel" / name).mkdir(parents=True)
    set_state(empty / "runs/steel/resnet-imagenet-1.0-s0-12345678", "finished")
    (empty / "runs/steel/densenet-imagenet-1.0-s0-12345678/last.ckpt").touch()
    fetch_weights(cells("init=imagenet"), may_run=False)
    fetch_weights(cells("init=imagenet", "study=steel"), may_run=False)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(weights, "fetch", lambda source: empty / "none.pth")
    for again in ("study=other", "force=true"):
        with pytest.raises(WeightsError, match="no such weights file"):
            fetch_weights(cells("init=imagenet", again), may_run=False)


def test_a_path_that_does_not_exist_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLUNET_WEIGHTS", "nowhere")
    with pytest.raises(ConfigError, match="TLUNET_WEIGHTS=nowhere: does not exist"):
        fetch_weights(cells("init=random,imagenet"), may_run=True)
