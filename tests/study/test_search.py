"""Searches with Optuna, whose sweeper chooses trials as it runs."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tlunet.errors import ConfigError
from tlunet.study.config.command import read_command

CONF = Path(__file__).parents[2] / "conf"
OPTUNA = ("-m", "hydra/sweeper=optuna")
Run = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.usefixtures("composed_once")


def test_what_the_trials_share_is_known_beforehand() -> None:
    [shared] = read_command([*OPTUNA, "epochs=3", "frac=choice(0.5,1.0)"], CONF) or []
    assert (shared.study, shared.epochs, shared.frac) == ("search", 3, 1.0)
    [named] = read_command([*OPTUNA, "study=mine"], CONF) or []
    assert named.study == "mine"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("optimizer.lrr=interval(1,2)", "optimizer.lrr: no such key, did you mean optimizer.lr?"),
        ("optimizer.lr=interval(-1,1)", "optimizer.lr=-1.0: expected a number above 0"),
        ("frac=choice(0.5,2)", "frac=2: expected a number above 0 and at most 1"),
        ("seed=range(-3,3)", "seed=-3: expected a whole number"),
        ("encoder=choice(resnet,alexnet)", "encoder=alexnet: no such choice"),
        ("loss=choice(paper,balanced)", "loss: a search minimises the validation loss"),
        ("hydra.sweeper.custom_search_space=os.system", "os.system: not allowed"),
        ("hydra.sweeper.sampler._target_=os.system", "os.system: not allowed"),
    ],
)
def test_every_choice_is_checked_before_the_first_trial(override: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says.replace("?", r"\?")):
        read_command([*OPTUNA, override], CONF)


@pytest.mark.slow
def test_a_search(
    run_here: Run, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[Path] = []
    monkeypatch.setattr("tlunet.report.report.conclude_study", lambda s, _: reported.append(s))
    line = (*OPTUNA, "hydra.sweeper.n_trials=2", *tiny, "encoder.name=mobilenet_v2")
    done = run_here(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lowest validation loss" in done.stdout
    study = tmp_path / "runs/search"
    assert reported == [Path("runs/search")]
    assert pd.read_csv(study / "results.csv")["state"].tolist() == ["finished", "finished"]
    found = yaml.safe_load((study / "search.yaml").read_text())
    losses = [pd.read_csv(f)["val_loss"].min() for f in study.glob("*/history.csv")]
    assert found["best_value"] == pytest.approx(min(losses))
    assert set(found["best_params"]) == {"optimizer.lr", "batch_size", "augment"}
    again = run_here(*line, cwd=tmp_path)
    assert again.returncode == 0
    assert again.stdout.count("already finished") == 2


@pytest.mark.slow
def test_a_trial_that_fails(run_here: Run, tiny: tuple[str, ...], tmp_path: Path) -> None:
    line = (*OPTUNA, "hydra.sweeper.n_trials=1", *tiny, "encoder.name=mobilenet_v2")
    done = run_here(*line, "optimizer.lr=1e30", "augment=none", "epochs=2", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the weights have diverged" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
