"""A run made up in a moment: a network that was never trained, and the data it says it was."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tlunet import cli

if TYPE_CHECKING:
    from tlunet.model.network import TLUNet

SIZE = (32, 64)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run's folder; read it, do not write to it."""
    from deploy.networks import write_checkpoint

    return write_checkpoint(tmp_path_factory.mktemp("runs") / "resnet-random-1.0-s0-0123")


@pytest.fixture(scope="session")
def network(run: Path) -> "TLUNet":
    """The run's network, as it was trained."""
    from tlunet.model.task import load_network

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
    from deploy.networks import write_run

    return write_run(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def tlunet(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Type a line; its exit code."""
    from tlunet.machine import device as hardware

    def call(*args: str | Path, stdin: str = "") -> int:
        monkeypatch.setattr(sys, "argv", ["tlunet", *map(str, args)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        # Test processes with two threads each wait for one another all the time.
        monkeypatch.setattr(hardware, "_cores", lambda: 1)
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0)

    return call
