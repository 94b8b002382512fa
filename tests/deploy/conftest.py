"""A run made up in a moment: a network that was never trained, and the data it says it was."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from deploy.networks import SIZE, THRESHOLD, write_checkpoint
from tlunet import cli
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.split import fingerprint
from tlunet.model.metrics import DefectMetrics
from tlunet.model.network import TLUNet
from tlunet.model.task import load_network
from tlunet.study import hardware
from tlunet.study.cell import datamodule


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run's folder; read it, do not write to it."""
    return write_checkpoint(tmp_path_factory.mktemp("runs") / "resnet-random-1.0-s0-0123")


@pytest.fixture(scope="session")
def network(run: Path) -> TLUNet:
    """The run's network, as it was trained."""
    return load_network(run)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey and in colour, of the run's size and of others, two of one name, one that is broken."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    shapes = {
        "a.png": SIZE, "b.jpg": (*SIZE, 3), "c.png": (50, 90), "d.png": SIZE, "e.png": (40, 40, 3),
        "sub/a.png": SIZE, "sub/z.png": SIZE,
    }  # fmt: skip
    (root / "sub").mkdir()
    for name, shape in shapes.items():
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(root / name)
    (root / "broken.jpg").write_bytes((root / "b.jpg").read_bytes()[:100])
    return root


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its data: synthetic strips, and the scores that it was tested with."""
    root = tmp_path_factory.mktemp("whole")
    folder = write_checkpoint(root / "runs" / "synthetic" / "resnet-random-1.0-s0-0123")
    config: dict[str, Any] = {
        "data": {
            "name": "synthetic", "root": None, "split": "random", "split_seed": 0, "subset": "all",
            "size": list(SIZE), "residency": "auto", "workers": None, "on_error": "stop",
            "classes": [], "n": 96, "seed": 0, "balance": "even",
        },
        "paths": {"runs": str(root / "runs"), "data": str(root / "data")},
        "frac": 1.0, "batch_size": 8, "seed": 0,
        "augment": {"_target_": "tlunet.data.augment.Augment"},
    }  # fmt: skip
    data = datamodule(config)
    data.prepare_data()
    data.setup()
    config["data"]["root"] = str(data.root)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    meta = {
        "size": SIZE, "digest": "0123456789abcdef", "accelerator": "cpu", "precision": "32-true",
        "data_fingerprint": data.pack.fingerprint, "split_fingerprint": fingerprint(data.split),
    }  # fmt: skip
    (folder / "meta.json").write_text(json.dumps(meta))
    (folder / "status.json").write_text(json.dumps({"state": "finished"}))
    (folder / "metrics.json").write_text(json.dumps(tested(load_network(folder), data)))
    return folder


def tested(network: TLUNet, data: DefectDataModule) -> dict[str, object]:
    """The scores of the test part."""
    metrics = DefectMetrics(THRESHOLD)
    with torch.no_grad():
        for batch in data.batches("test"):
            metrics.update(*network(batch["image"]), batch["mask"], batch["label"], batch["index"])
    return metrics.compute()


@pytest.fixture
def tlunet(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Type a line; its exit code."""

    def call(*args: str | Path, stdin: str = "") -> int:
        monkeypatch.setattr(sys, "argv", ["tlunet", *map(str, args)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        # Test processes with two threads each wait for one another all the time.
        monkeypatch.setattr(hardware, "_cores", lambda: 1)
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0)

    return call
