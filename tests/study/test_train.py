"""``tlunet train`` is ``python run.py``; with a folder, all steps to a network."""

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

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


def write_folder(root: Path, n: int = 24) -> None:
    """Images with a bright or a dark square, and their masks."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for k in range(n):
        image = rng.integers(80, 120, (50, 66), np.uint8)
        mask = np.zeros((50, 66), np.uint8)
        top, left, number = *rng.integers(0, 30, 2), 1 + k % 2
        image[top : top + 16, left : left + 16] = (250, 5)[number - 1]
        mask[top : top + 16, left : left + 16] = number
        Image.fromarray(image).save(root / f"images/{k:02}.png")
        Image.fromarray(mask).save(root / f"masks/{k:02}.png")


def test_from_a_folder_to_a_network(tlunet_train: Run, tmp_path: Path) -> None:
    write_folder(tmp_path / "my steel")
    keys = ("init=random", "encoder=resnet", "epochs=1", "steps=2",
            "batch_size=8", "trainer=cpu", "logger=csv")  # fmt: skip
    done = tlunet_train("my steel", "--classes", "bright,dark", *keys)
    assert done.returncode == 0, done.stderr
    [run] = (tmp_path / "runs/my steel").glob("resnet-random-1.0-s0-*")
    assert {"tuned.json", "model.onnx"} <= {path.name for path in run.iterdir()}
    assert (tmp_path / "runs/my steel/data.html").is_file()
    config = OmegaConf.load(run / "config.yaml")
    assert (config.recipe, list(config.data.size)) == ("production", [64, 96])
    *_, last = done.stdout.splitlines()
    words = shlex.split(last.partition(": ")[2])
    assert words[:2] == ["tlunet", "predict"]
    assert Path(words[2]).samefile(run)
    assert words[3:] == ["IMAGES", "--out", "found", "--tuned"]


def test_what_is_said_of_the_data_holds_before_the_training_too(
    tlunet_train: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images of many sizes, and a size for them: neither check nor page chooses another."""
    rng = np.random.default_rng(0)
    write_folder(tmp_path / "steel")
    for file in (tmp_path / "steel/images").iterdir():
        height, width = rng.integers(46, 80, 2).tolist()
        for path in (file, tmp_path / "steel/masks" / file.name):
            with Image.open(path) as image:
                image.resize((width, height), Image.Resampling.NEAREST).save(path)
    trained: list[list[str]] = []

    def stop(words: list[str]) -> None:
        trained.append(words)
        raise ConfigError("enough")

    monkeypatch.setattr("tlunet.cli.train_folder._train", stop)
    keys = ["data.size=[32,64]", "study=quick", "data.groups='^.(.)'", "frac=0.5"]
    done = tlunet_train("steel", "--classes", "bright,dark", *keys)
    assert done.stderr == "enough\n"
    [words] = trained
    assert words[-4:] == keys
    assert {"data.fit=pad", "recipe=production"} <= {*words}
    assert sum(word.startswith("data.size=") for word in words) == 1
    assert "32×64" in (tmp_path / "runs/quick/data.html").read_text()
    assert "no problems found" in done.stdout
    assert "frac=0.5 uses" in done.stdout
    assert "data.groups: 10 groups" in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere"], "nowhere: no such folder; expected "),
        (["nowhere", "epochs"], "epochs: expected KEY=VALUE after the folder"),
        (["empty", "--classes", "a"], "empty: contains no known data set layout; expected "),
        (["pairs"], "--classes"),
        (["pairs", "--classes", "bright"], "masks/"),
        (["pairs", "--classes", "bright,dark", "epoch=3"], "epoch: no such key"),
        (["pairs", "--classes", "bright,dark", "--recipe", "fast"], "recipe=fast: "),
    ],
)
def test_a_folder_that_cannot_be_trained_on(
    words: list[str], says: str, tlunet_train: Run, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "pairs")
    done = tlunet_train(*words)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()
