"""The same number of epochs for every fraction of the data, or the same number of steps."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import DictConfig, OmegaConf

from tlunet.runs.settings import read_settings, what_differs
from tlunet.runs.status import read_study
from tlunet.study.config.command import read_command
from tlunet.study.training.resolve import resolve

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]
FAST = ("encoder.name=mobilenet_v2", "trainer=cpu")


@pytest.fixture(scope="module")
def read(
    tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., DictConfig]:
    """Read one cell of a command line; all cells share their data."""
    home = tmp_path_factory.mktemp("budget")
    paths = (f"paths.runs={home}/runs", f"paths.data={home}/data")

    def read(*line: str) -> DictConfig:
        cells = read_command([*tiny, *FAST, *paths, *line], ROOT / "conf")
        assert cells is not None
        return cells[0]

    return read


@pytest.mark.parametrize(
    ("line", "epochs", "patience"),
    [
        ((), 10, 5),
        (("budget=steps",), 20, 10),
        (("budget=steps", "frac=1"), 10, 5),
        (("budget=steps", "frac=0.3"), 33, 17),
        (("budget=steps", "early_stopping.patience=null"), 20, None),
    ],
)
def test_epochs_and_patience(
    read: Callable[..., DictConfig], line: tuple[str, ...], epochs: int, patience: int | None
) -> None:
    cell = resolve(read("epochs=10", "frac=0.5", *line))
    assert (cell.epochs, cell.patience) == (epochs, patience)
    assert cell.config["epochs"] == 10


def test_only_a_budget_of_steps_is_in_the_digest(read: Callable[..., DictConfig]) -> None:
    before = read("frac=0.5")
    del before.budget  # as before the key existed
    old, same, other = (
        resolve(cfg) for cfg in (before, read("frac=0.5"), read("frac=0.5", "budget=steps"))
    )
    assert "budget" not in same.science
    assert old.folder == same.folder != other.folder
    assert old.digest == same.digest != other.digest
    assert other.science == same.science | {"budget": "steps"}
    assert old.epochs == same.epochs == 1


def test_two_budgets_are_two_protocols(read: Callable[..., DictConfig]) -> None:
    before = read()
    del before.budget
    settings = [read_settings(cfg) for cfg in (before, read(), read("budget=steps"))]
    assert what_differs(settings) == [["budget=epochs"], ["budget=epochs"], ["budget=steps"]]


def test_half_the_data_is_trained_for_twice_the_epochs(
    run_here: Run, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    line = (*tiny, *FAST, "frac=0.5", "epochs=2", "budget=steps")
    done = run_here(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "epoch 4/4" in done.stdout
    [folder] = tmp_path.glob("runs/synthetic/*/")
    assert pd.read_csv(folder / "history.csv")["epoch"].tolist() == [0, 1, 2, 3]
    assert json.loads((folder / "meta.json").read_text())["science"]["epochs"] == 2
    assert OmegaConf.load(folder / "config.yaml").epochs == 2
    [row] = read_study(folder.parent)
    assert (row.epoch, row.epochs) == (4, 4)
