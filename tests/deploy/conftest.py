"""Fixtures: artificial runs with untrained networks, and their data."""

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
    """Folder of a finished run; read-only."""
    from deploy.networks import write_checkpoint

    return write_checkpoint(tmp_path_factory.mktemp("runs") / "resnet-random-1.0-s0-0123")


@pytest.fixture(scope="session")
def network(run: Path) -> "TLUNet":
    """The run's network."""
    from tlunet.model.task import load_network

    return load_network(run)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey and colour, the run's size and others, two with one name, one broken."""
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
    """A run with its data (synthetic strips) and its test scores."""
    from deploy.networks import write_run

    return write_run(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def tlunet(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run a command and return its exit code."""

    def call(*args: str | Path, stdin: bytes = b"") -> int:
        monkeypatch.setattr(sys, "argv", ["tlunet", *map(str, args)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0)

    return call
