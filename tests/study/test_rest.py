"""``rest=``: on the command line, in several processes, in a run's name, and after a resume."""

import math
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback

from tlunet.data.augment import Augment
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import Strips
from tlunet.errors import ConfigError
from tlunet.machine.device import Hardware
from tlunet.machine.files import read_json
from tlunet.model.network import TLUNet
from tlunet.model.rest.rest import make_rest
from tlunet.model.task import DefectTask, load_network
from tlunet.runs.settings import REST, read_settings, what_differs
from tlunet.study.config.command import read_command
from tlunet.study.training.callbacks.checkpoints import Checkpoints
from tlunet.study.training.callbacks.history import TIMED, History
from tlunet.study.training.callbacks.reseed import Reseed
from tlunet.study.training.callbacks.steps import Steps
from tlunet.study.training.memory import step_bytes
from tlunet.study.training.resolve import resolve
from tlunet.study.training.signals import Stopped, Stopping
from tlunet.study.training.trainer import make_trainer

ROOT = Path(__file__).parents[2]
CPU = Hardware("cpu", "32-true", "a CPU", 1)
FAST = ("encoder.name=mobilenet_v2", "trainer=cpu")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def read(
    tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., DictConfig]:
    """Read one cell of a command line; all cells share their data."""
    home = tmp_path_factory.mktemp("rest")
    paths = (f"paths.runs={home}/runs", f"paths.data={home}/data")

    def read(*line: str) -> DictConfig:
        cells = read_command([*tiny, *FAST, *paths, "frac=0.5", *line], ROOT / "conf")
        assert cells is not None
        return cells[0]

    return read


def test_none_is_the_run_it_was_before(read: Callable[..., DictConfig]) -> None:
    before = read()
    del before.rest
    old, same, labels = (resolve(cfg) for cfg in (before, read("rest.ramp=0"), read("rest=labels")))
    assert old.science == same.science
    assert old.folder == same.folder
    values = {"name": "labels", "weight": 1.0, "batch_size": 16}
    assert labels.science == same.science | {"rest": values}
    assert (labels.data.rest_batch_size, labels.data.rest_labels) == (16, True)


def test_a_run_is_named_by_what_it_uses(read: Callable[..., DictConfig]) -> None:
    mean_teacher = resolve(read("rest=mean_teacher", "rest.batch_size=8"))
    assert mean_teacher.science["ema"] == 0.99
    assert mean_teacher.science["rest"] == REST | {"name": "mean_teacher", "batch_size": 8}
    assert not mean_teacher.data.rest_labels
    typed = resolve(read("rest=mean_teacher", "ema=0.9"))
    assert typed.science["ema"] == 0.9
    one, two = (resolve(read("rest=labels", f"rest.batch_size={n}")) for n in ("16", "null"))
    assert one.folder == two.folder
    same = resolve(read("rest=labels", "rest.positive=0.9"))
    assert same.folder == two.folder  # it has no thresholds


def test_the_memory_of_a_step_includes_it(read: Callable[..., DictConfig]) -> None:
    without, labels = resolve(read()), resolve(read("rest=labels"))
    assert step_bytes(labels, 8) == step_bytes(without, 16)


def test_settings_show_it(read: Callable[..., DictConfig]) -> None:
    before = read()
    del before.rest
    lines = ("rest=none", "rest=labels", "rest.weight=2")
    cells = [before, read(), read("rest=labels"), read("rest=labels", lines[2])]
    assert what_differs([read_settings(cfg) for cfg in cells]) == [
        ["rest=none"], ["rest=none"], ["rest=labels"], ["rest=labels, weight=2"],
    ]  # fmt: skip
    defaults = OmegaConf.load(ROOT / "conf/config.yaml").rest
    assert OmegaConf.to_container(defaults) == REST


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            ("rest=labels", "frac=1"),
            "rest=labels: nothing is left out at frac=1; use frac below 1, or rest=none",
        ),
        (
            ("-m", "rest=none,labels", "frac=0.5,1.0"),
            "rest=labels: nothing is left out at frac=1.0; use frac below 1, or rest=none",
        ),
        (
            ("rest=mean_teacher", "ema=null"),
            "rest=mean_teacher: ema is not set; expected a decay, such as ema=0.99",
        ),
        (("rest=oracle",), "rest=oracle: no such choice"),
        (("rest=labels", "rest.weight=0"), "rest.weight=0: expected a number above 0"),
        (("rest.batch_size=0",), "rest.batch_size=0: expected a whole number, 1 or more"),
        (("rest.positive=0.4",), "rest.positive=0.4: expected a probability, 0.5 or more"),
        (("rest.negative=0.6",), "rest.negative=0.6: expected a probability above 0"),
        (("rest.ramp=2",), "rest.ramp=2: expected a fraction of the steps from 0 to 1"),
    ],
)
def test_wrong_values_are_told_in_one_line(
    composed_once: None, line: tuple[str, ...], told: str
) -> None:
    with pytest.raises(ConfigError) as error:
        read_command(line if "-m" in line else ["frac=0.5", *line], ROOT / "conf")
    [problem] = error.value.lines
    assert problem.startswith(told)


@pytest.mark.parametrize("rest", ["labels", "mean_teacher"])
def test_a_run_with_it(run_here: Run, tiny: tuple[str, ...], tmp_path: Path, rest: str) -> None:
    line = (*tiny, *FAST, "frac=0.5", "epochs=1", "budget=steps", f"rest={rest}")
    done = run_here(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    [folder] = tmp_path.glob("runs/synthetic/*/")
    history = pd.read_csv(folder / "history.csv")
    assert history["epoch"].tolist() == [0, 1]
    # So short a training leaves a teacher unsure of everything.
    assert (history["rest_loss"] > 0).all() or rest == "mean_teacher"
    assert history["rest_loss"].notna().all()
    load_network(folder)


class Strike(Callback):
    """Send a signal in the n-th training batch."""

    def __init__(self, stopping: Stopping, after: int) -> None:
        self.stopping, self.left = stopping, after

    def on_train_batch_start(self, *args: Any) -> None:
        self.left -= 1
        if self.left == 0:
            self.stopping.note(signal.SIGTERM, None)


def train(folder: Path, name: str, strike: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Train two epochs of 3 batches, or the rest of them."""
    cache = folder.parent
    data = DefectDataModule(
        Strips(cache / "synthetic", n=32), cache, frac=0.5, batch_size=4, augment=Augment(),
        rest_batch_size=5, rest_labels=name == "labels",
    )  # fmt: skip
    data.prepare_data()
    data.setup()
    torch.manual_seed(0)
    network = TLUNet("mobilenet_v2", 4, data.mean, data.std)
    task = DefectTask(network, ema=0.9, rest=make_rest(name, 4))
    stopping, steps = Stopping(), Steps()
    history = History(folder / "history.csv", steps=steps)
    checkpoints = Checkpoints(folder, stopping=stopping)
    callbacks = [Strike(stopping, strike), Reseed(), steps, history, checkpoints]
    trainer = make_trainer(CPU, epochs=2, callbacks=callbacks, profiler=steps.waiting)
    last = folder / "last.ckpt"
    try:
        trainer.fit(task, data, ckpt_path=last if last.exists() else None, weights_only=True)
    except Stopped:
        assert strike
    rows = [{k: v for k, v in row.items() if k not in TIMED} for row in history.rows]
    return task.state_dict(), rows


@pytest.mark.parametrize("name", [pytest.param("labels", marks=pytest.mark.slow), "mean_teacher"])
def test_it_resumes_exactly(tmp_path: Path, name: str) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "struck").mkdir()
    expected, rows = train(tmp_path / "whole", name)
    assert all(math.isfinite(row["rest_loss"]) for row in rows)
    train(tmp_path / "struck", name, strike=2)
    found, resumed = train(tmp_path / "struck", name)
    assert resumed == rows
    assert list(found) == list(expected)
    for key, tensor in expected.items():
        assert torch.equal(found[key], tensor), key
    if name == "mean_teacher":
        assert not torch.equal(found["rest.confidence"], torch.full((2, 4), 0.5))


@pytest.mark.slow
def test_two_processes_learn_from_it_together(
    run_py: Run, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    line = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", FAST[0], *tiny,
            "batch_size=6", "frac=0.5", "rest=mean_teacher", "rest.batch_size=5")  # fmt: skip
    done = run_py(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    [folder] = tmp_path.glob("runs/synthetic/*/")
    assert read_json(folder / "meta.json")["science"]["processes"] == 2
    [row] = pd.read_csv(folder / "history.csv").to_dict("records")
    assert row["rest_loss"] >= 0
    last = torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]
    assert not torch.equal(last["rest.confidence"], torch.full((2, 4), 0.5))
