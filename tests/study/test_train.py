"""``tlunet train`` is ``python run.py``."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tlunet import cli
from tlunet.cli import train
from tlunet.errors import ConfigError

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tlunet_train(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    """Run the command in this process, from another folder than the checkout."""

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["tlunet", "train", *args])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return subprocess.CompletedProcess(args, int(end.value.code or 0), *capfd.readouterr())

    return run


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["-m", "--help", "seed=1"],
        ["epoch=3"],
        ["-x"],
        ["-cd", "nowhere", "-cn", "sweep"],
        ["-m", "encoder=[resnet,densenet]"],
        ["data.root='steel (1)"],
        ["data=folder"],
        ["--cfg", "job", "-p", "trainer"],
    ],
    ids=" ".join,
)
def test_it_prints_and_returns_the_same(
    words: list[str], tlunet_train: Run, run_here: Run, tmp_path: Path
) -> None:
    ours, theirs = tlunet_train(*words), run_here(*words, cwd=tmp_path)
    assert (ours.stdout, ours.stderr) == (theirs.stdout, theirs.stderr)
    assert ours.returncode == theirs.returncode == (0 if words[-1] in _SHOWN else 2)


_SHOWN = ("--help", "seed=1", "trainer")


def test_a_sweep_finds_the_same_folders(
    tiny: tuple[str, ...],
    tlunet_train: Run,
    run_here: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # and ~ is expanded for Hydra's folders, too
    line = ("-m", "seed=1", *tiny, "encoder.name=mobilenet_v2", "trainer=cpu", "paths.runs=~/runs")
    done = tlunet_train(*line)
    assert done.returncode == 0, done.stderr
    folders = sorted(tmp_path.glob("home/runs/synthetic/*/"))
    assert len(folders) == 1
    again = run_here(*line, cwd=tmp_path)
    assert again.returncode == 0
    assert again.stdout.count("already finished") == 1
    assert sorted(tmp_path.glob("home/runs/synthetic/*/")) == folders
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "home"]


def test_without_a_checkout_it_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "lib/python3/site-packages/tlunet/cli/train.py"
    monkeypatch.setattr(train, "__file__", str(package))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"no run\.py with conf/config\.yaml in ") as caught:
        train.find_run_py()
    assert f"{package.parents[3]} or {tmp_path}; run it in a checkout" in caught.value.lines[0]
    (tmp_path / "conf").mkdir()
    for name in ("run.py", "conf/config.yaml"):
        (tmp_path / name).touch()
    assert train.find_run_py() == tmp_path / "run.py"
