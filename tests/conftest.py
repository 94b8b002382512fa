"""Tiny data, drawn once; nothing is downloaded."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# One thread a process: two test processes with two threads each wait for one another all the time.
os.environ["OMP_NUM_THREADS"] = "1"


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs, before torch looks for them: only ``-m gpu`` tests use one."""
    if not _wants_gpu(config):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect ``gpu`` tests unless they are requested."""
    if _wants_gpu(config):
        return
    hidden = [item for item in items if item.get_closest_marker("gpu")]
    if hidden:
        config.hook.pytest_deselected(items=hidden)
        items[:] = [item for item in items if not item.get_closest_marker("gpu")]


def _wants_gpu(config: pytest.Config) -> bool:
    words = re.findall(r"\w+", config.option.markexpr)
    return "gpu" in words and "not" not in words


from hypothesis import settings
from playwright.sync_api import Browser, sync_playwright

from tlunet.data.synthetic.generate import generate

settings.register_profile("tlunet", deadline=None)  # a slow machine is no fault of the code
settings.load_profile("tlunet")

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Undo what a test did to the thread count."""
    import torch  # here: the process that deals the tests out needs none of it

    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def strips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 strips of 32×64 in Severstal's layout; read it, do not write to it."""
    root = tmp_path_factory.mktemp("strips") / "data"
    generate(root, n=24, size=(32, 64), seed=3, workers=1)
    return root


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of the real data, or a skip that says why."""
    folder = os.environ.get("TLUNET_REAL_DATA")
    if not folder:
        pytest.skip("TLUNET_REAL_DATA is not set: no real data to test with")
    return Path(folder).resolve()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser of the machine, or a skip that says why."""
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        pytest.skip(f"none of {', '.join(names)} is on the PATH: no browser to look with")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def run_py() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the real command line in a process of its own, on the CPU."""

    def run(*args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "run.py"), *args],
            cwd=cwd,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": ""} | env,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture
def run_here(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the same file in this process, which has imported torch already."""

    def run(*args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
        with monkeypatch.context() as patch:
            patch.chdir(cwd)
            patch.setattr(sys, "argv", ["run.py", *args])
            for key, value in env.items():
                patch.setenv(key, value)
            capfd.readouterr()
            try:
                runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
            except SystemExit as end:
                return subprocess.CompletedProcess(args, int(end.code or 0), *capfd.readouterr())
        raise AssertionError("run.py ended without an exit code")

    return run


#: A grid that takes seconds: what every end-to-end test adds to its line.
TINY = (
    "data=synthetic",
    "data.n=32",
    "data.size=[32,64]",
    "epochs=1",
    "logger=csv",
    "trainer.threads=1",
    "init.n=16",
    "init.size=[32,64]",
    "init.epochs=1",
)


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Overrides for a run that takes seconds."""
    return TINY


@pytest.fixture(scope="module")
def composed_once() -> Iterator[None]:
    """For command lines by the hundred: what the files alone say is composed once."""
    from tlunet.study.config import command

    known: dict[tuple[str, bool], Any] = {}
    compose = command.compose_cell

    def quick(
        name: str, overrides: list[str], base: object = None, with_hydra: bool = False
    ) -> Any:
        if overrides or name != "config":
            return compose(name, overrides, base, with_hydra)
        if (name, with_hydra) not in known:
            known[name, with_hydra] = compose(name, overrides, base, with_hydra)
        return known[name, with_hydra].copy()

    command.compose_cell = quick
    yield
    command.compose_cell = compose
