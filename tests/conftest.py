"""Tiny data, drawn once; nothing is downloaded."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tlunet.data import synthetic

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def strips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 strips of 32×64 in Severstal's layout; read it, do not write to it."""
    root = tmp_path_factory.mktemp("strips") / "data"
    synthetic.generate(root, n=24, size=(32, 64), seed=3, workers=1)
    return root


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of the real data, or a skip that says why."""
    folder = os.environ.get("TLUNET_REAL_DATA")
    if not folder:
        pytest.skip("TLUNET_REAL_DATA is not set: no real data to test with")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def run_py() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the real command line in its own process, logging to no one, on the CPU."""

    def run(*args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "run.py"), *args],
            cwd=cwd,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "WANDB_MODE": "offline"} | env,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


#: A grid that takes seconds: what every end-to-end test adds to its line.
TINY = (
    "data=synthetic",
    "data.n=32",
    "data.size=[32,64]",
    "epochs=2",
    "logger=csv",
    "init.n=16",
    "init.size=[32,64]",
    "init.epochs=1",
)


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Overrides for a run that takes seconds."""
    return TINY
