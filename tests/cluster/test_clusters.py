"""A sweep with each real launcher: requeued, killed, resubmitted; the results stay the same.

These take minutes: `make cluster` runs them, `make test` skips them.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest
import torch

from tlunet.study.training.callbacks.history import TIMED

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))

import slurm  # noqa: E402

pytestmark = pytest.mark.skipif(
    "TLUNET_CLUSTER" not in os.environ, reason="takes minutes of Slurm and Ray: make cluster"
)
GRID = (
    "-m", "seed=0,1,2", "data=synthetic", "data.n=48", "data.size=[32,64]", "epochs=4",
    "batch_size=4", "logger=csv", "trainer=cpu", "trainer.threads=1", "checkpoint_minutes=0.02",
)  # fmt: skip
SLURM = (
    "hydra/launcher=slurm", "hydra.launcher.gpus_per_node=0", "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.mem_gb=null",
)  # fmt: skip
SECONDS = 400  # time limit of a sweep


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Working directory of all commands; one study per launcher."""
    return tmp_path_factory.mktemp("clusters")


@pytest.fixture(scope="module")
def truth(place: Path) -> Path:
    """The same study, run as a sweep in one process."""
    done = Line(place, "study=local")
    assert done.end() == 0, done.said()
    return place / "runs/local"


@pytest.fixture(autouse=True)
def end_of_lines() -> Iterator[None]:
    """After a failed test, end its commands."""
    yield
    while Line.typed:
        process = Line.typed.pop().process
        process.kill()
        process.wait()


@pytest.fixture
def one_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Slurm with two cores, used by all commands."""
    if reason := slurm.lacking() or _not_installed("hydra_submitit_launcher"):
        pytest.skip(reason)
    with slurm.one_node(tmp_path) as env:
        monkeypatch.setenv("SLURM_CONF", env["SLURM_CONF"])
        yield


class Line:
    """A running command and its cells."""

    typed: ClassVar[list["Line"]] = []

    def __init__(self, place: Path, study: str, *more: str) -> None:
        self.study = place / "runs" / study.partition("=")[2]
        self.out = place / f"{self.study.name}.{time.monotonic_ns()}.txt"
        env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "run.py"), *GRID, study, *more],
                cwd=place, env=env, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.typed.append(self)

    def end(self) -> int:
        """Wait for the command and return its exit code."""
        return self.process.wait(SECONDS)

    def said(self) -> str:
        """Return the output so far."""
        return self.out.read_text()

    def cell(self, seed: int, epochs: int) -> dict:
        """Wait until a running cell has finished so many epochs and return its status."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            for file in self.study.glob(f"resnet-random-1.0-s{seed}-*/status.json"):
                history = file.with_name("history.csv")
                done = len(history.read_text().splitlines()) - 1 if history.exists() else 0
                status = json.loads(file.read_text())
                if done >= epochs and status["state"] == "running":
                    return status | {"folder": file.parent}
            time.sleep(0.05)
        raise AssertionError(f"seed {seed} did not reach epoch {epochs}:\n{self.said()}")


def _not_installed(plugin: str) -> str | None:
    package = f"hydra_plugins.{plugin}"
    return (
        None if find_spec("hydra_plugins") and find_spec(package) else f"{package}: not installed"
    )


def assert_equal(study: Path, truth: Path) -> None:
    """Assert bitwise equality of the results, except for wall-clock columns."""
    folders = sorted(path.parent for path in study.glob("*/metrics.json"))
    assert [f.name for f in folders] == sorted(p.parent.name for p in truth.glob("*/metrics.json"))
    for ours in folders:
        theirs = truth / ours.name
        assert (ours / "metrics.json").read_text() == (theirs / "metrics.json").read_text()
        histories = [pd.read_csv(f / "history.csv") for f in (ours, theirs)]
        ours_, theirs_ = (h.drop(columns=list(TIMED)) for h in histories)
        pd.testing.assert_frame_equal(ours_, theirs_, check_exact=True)
        weights = [
            torch.load(f / "best.ckpt", weights_only=True)["state_dict"] for f in (ours, theirs)
        ]
        assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[1])


def told(line: Line, what: str) -> None:
    """Print the status of a command's study to the test log."""
    table = subprocess.run(
        [sys.executable, "-m", "tlunet.cli", "status", str(line.study)],
        capture_output=True,
        text=True,
    )
    print(f"\n== {what}\n{table.stdout}{table.stderr}", flush=True)


def finished(study: Path) -> int:
    return sum(
        json.loads(f.read_text())["state"] == "finished" for f in study.glob("*/status.json")
    )


def test_slurm(one_node: None, truth: Path, place: Path) -> None:
    line = Line(place, "study=slurm", *SLURM)
    first = line.cell(seed=0, epochs=1)
    assert first["job"].startswith("slurm ")
    told(line, "running")
    # Preempted, as by an administrator: SIGTERM, then requeued.
    job = first["job"].removeprefix("slurm ")
    subprocess.run(["scontrol", "requeue", job], check=True)
    # Near the time limit: submitit's signal, then requeued.
    second = line.cell(seed=1, epochs=1)
    subprocess.run(["scancel", "--signal=USR2", second["job"].removeprefix("slurm ")], check=True)
    # Killed: its job is lost and relaunched.
    third = line.cell(seed=2, epochs=1)
    os.kill(third["pid"], signal.SIGKILL)
    told(line, "requeued, told to stop, killed")
    assert line.end() == 0, line.said()
    told(line, "at the end")
    assert "Traceback" not in line.said()
    assert "relaunching" in line.said()
    assert_equal(line.study, truth)


def test_slurm_without_its_login_node(one_node: None, truth: Path, place: Path) -> None:
    line = Line(place, "study=orphans", *SLURM)
    line.cell(seed=0, epochs=1)
    line.process.kill()
    line.process.wait()
    again = Line(place, "study=orphans", *SLURM)
    assert again.end() == 0, again.said()
    assert_equal(again.study, truth)
    logs = [p.read_text() for p in (place / "runs/.hydra/.submitit").glob("*/*_log.out")]
    skipped = ("already running in another process", "already finished")
    assert sum(any(text in log for text in skipped) for log in logs) >= 3


def heard_beyond() -> set[str]:
    """Sockets of this machine that listen beyond the loopback interface."""
    found = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:]:
            address, state = line.split()[1], line.split()[3]
            is_loopback = address.startswith(
                ("0100007F", "0" * 24 + "01000000", "0" * 16 + "FFFF00000100007F")
            )
            if state == "0A" and not is_loopback:
                found.add(address)
    return found


def kill_one(place: Path, launcher: str, *more: str) -> Line:
    before = heard_beyond()
    line = Line(place, f"study={launcher}", f"hydra/launcher={launcher}", *more)
    victim = line.cell(seed=0, epochs=1)
    assert heard_beyond() <= before
    os.kill(victim["pid"], signal.SIGKILL)
    told(line, f"{launcher}: process {victim['pid']} killed")
    assert line.end() == 0, line.said()
    told(line, "at the end")
    assert "Traceback" not in line.said()
    return line


def test_multi_gpu(truth: Path, place: Path) -> None:
    if reason := _not_installed("hydra_joblib_launcher"):
        pytest.skip(reason)
    line = kill_one(place, "multi_gpu", "hydra.launcher.n_jobs=2")
    assert "relaunching" in line.said()
    assert_equal(line.study, truth)


def test_ray(truth: Path, place: Path) -> None:
    if reason := _not_installed("hydra_ray_launcher"):
        pytest.skip(reason)
    line = kill_one(place, "ray", "hydra.launcher.ray.init.num_cpus=2")
    jobs = {json.loads(f.read_text())["job"] for f in line.study.glob("*/status.json")}
    assert all(job.startswith("ray ") for job in jobs)
    assert_equal(line.study, truth)
