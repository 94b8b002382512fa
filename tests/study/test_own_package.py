"""A loss, an augmentation and an encoder of the user's own package, named by `_target_`."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
from omegaconf import OmegaConf

from tlunet.errors import ConfigError, DataError
from tlunet.model.encoder import register_encoder
from tlunet.model.task import load_network
from tlunet.study.config.instantiate import instantiate

ROOT = Path(__file__).parents[2]
PACKAGE = """
import torch
from segmentation_models_pytorch.encoders._base import EncoderMixin
from torch import nn

from tlunet import Augment, PaperLoss


class DoubleLoss(PaperLoss):
    def __init__(self, factor=2.0):
        super().__init__()
        self.factor = factor

    def forward(self, *args):
        return self.factor * super().forward(*args)


class NoFlips(Augment):
    def draw(self, seed, epoch, rows):
        return super().draw(seed, epoch, rows) & False


class TinyEncoder(nn.Module, EncoderMixin):
    def __init__(self, depth=5, output_stride=32):
        super().__init__()
        self._depth, self._in_channels = depth, 3
        self._out_channels = [3, 8, 8, 8, 8, 8]
        self._output_stride = output_stride
        self.steps = nn.ModuleList(
            nn.Sequential(nn.Conv2d(3 if k == 0 else 8, 8, 3, 2, 1), nn.ReLU()) for k in range(5)
        )

    def get_stages(self):
        return {}

    def forward(self, x):
        features = [x]
        for step in self.steps:
            features.append(step(features[-1]))
        return features
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "site"
    home.mkdir()
    (home / "my_steel.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(home)
    monkeypatch.delitem(sys.modules, "my_steel", raising=False)
    return home


def test_a_loss_and_an_augmentation(package: Path) -> None:
    loss = instantiate({"_target_": "my_steel.DoubleLoss", "factor": 3.0})
    assert (type(loss).__name__, loss.factor) == ("DoubleLoss", 3.0)
    augment = instantiate({"_target_": "my_steel.NoFlips", "horizontal": 0.9})
    assert not augment.draw(0, 0, np.arange(40)).any()


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("my_steel.torch", "not a loss, an augmentation or a transform"),
        ("my_steel.Missing", r"no such class \(module 'my_steel' has no attribute 'Missing'\)"),
        ("my_stel.DoubleLoss", r"No module named 'my_stel'\); is its package installed"),
        ("subprocess.Popen", "not allowed; expected the import path of a class"),
    ],
)
def test_what_is_no_part(package: Path, target: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        instantiate({"_target_": target})


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("my_steel.DoubleLoss", "not an encoder"),
        ("my_steel.Missing", "cannot be imported"),
        ("my_stel.TinyEncoder", "cannot be imported"),
    ],
)
def test_what_is_no_encoder(package: Path, target: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        register_encoder(target)


@pytest.mark.parametrize(
    "trainer",
    [
        (),
        pytest.param(
            ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"), marks=pytest.mark.slow
        ),
    ],
    ids=["one process", "two"],
)
def test_a_run_with_all_three(
    package: Path,
    tiny: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_here: Callable[..., subprocess.CompletedProcess[str]],
    trainer: tuple[str, ...],
) -> None:
    study = tmp_path / "study"
    study.mkdir()
    (study / "mine.yaml").write_text(
        "defaults: [config, _self_]\n"
        "encoder: {_target_: my_steel.TinyEncoder}\n"
        "loss: {_target_: my_steel.DoubleLoss, factor: 3.0}\n"
    )
    line = ["-cd", str(study), "-cn", "mine", "augment._target_=my_steel.NoFlips", *tiny, *trainer]
    monkeypatch.setenv("TLUNET_ENCODER", "")  # the run sets it; undone at the end
    path = os.pathsep.join([str(package), str(ROOT / "src")])  # for processes of its own
    done = run_here(*line, cwd=tmp_path, PYTHONPATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    [folder] = (tmp_path / "runs").glob("*/TinyEncoder-random-1.0-s0-*")
    config = OmegaConf.load(folder / "config.yaml")
    assert config.encoder == {"name": "my_steel.TinyEncoder"}
    assert config.loss == {"_target_": "my_steel.DoubleLoss", "factor": 3.0}

    # A checkpoint may come from anyone: it imports nothing that the user has not named.
    monkeypatch.delenv("TLUNET_ENCODER")
    monkeypatch.delitem(sys.modules, "my_steel", raising=False)
    monkeypatch.delitem(smp.encoders.encoders, "my_steel.TinyEncoder", raising=False)
    with pytest.raises(DataError, match=r"set TLUNET_ENCODER=my_steel\.TinyEncoder"):
        load_network(folder)
    assert "my_steel" not in sys.modules
    monkeypatch.setenv("TLUNET_ENCODER", "my_steel.TinyEncoder")
    assert type(load_network(folder).encoder).__name__ == "TinyEncoder"
