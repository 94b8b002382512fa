"""A command that another program starts once per process is refused in each of them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tlunet.errors import ConfigError
from tlunet.study.config import launched
from tlunet.study.config.launched import refuse_to_be_one_of_several

ROOT = Path(__file__).parents[2]
SRUN = {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_ID": "0"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
Run = Callable[..., subprocess.CompletedProcess[str]]


def cells(devices: int | str = 1, nodes: int = 1) -> list:
    return [OmegaConf.create({"trainer": {"devices": devices, "nodes": nodes}})] * 2


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove what a cluster that runs the tests may have set."""
    for starter in launched.STARTERS:
        monkeypatch.delenv(starter.size, raising=False)
        monkeypatch.delenv(starter.rank, raising=False)
    for name in ("SLURM_NTASKS", "SLURM_STEP_ID", "SLURM_PTY_PORT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    ("env", "name"),
    [
        (TORCHRUN | {"RANK": "{rank}"}, "torchrun"),
        (TORCHRUN | {"RANK": "{rank}", "TORCHELASTIC_RUN_ID": "4711"}, "torchrun"),
        (SRUN | {"SLURM_PROCID": "{rank}"}, "srun"),
        ({"SLURM_NTASKS": "2", "SLURM_STEP_ID": "0", "SLURM_PROCID": "{rank}"}, "srun"),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "{rank}"}, "mpirun"),
        ({"PMI_SIZE": "2", "PMI_RANK": "{rank}"}, "mpirun"),
        ({"MPI_LOCALNRANKS": "2", "MPI_LOCALRANKID": "{rank}"}, "mpirun"),
        ({"PMIX_SIZE": "2", "PMIX_RANK": "{rank}"}, "prterun"),
        ({"PMIX_LOCAL_SIZE": "2", "PMIX_RANK": "{rank}"}, "prterun"),
        ({"WORLD_SIZE": "2", "RANK": "{rank}"}, "another program"),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "{rank}"}, "another program"),
    ],
)
def test_every_process_is_told_what_to_type(
    env: dict[str, str], name: str, rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in env.items():
        monkeypatch.setenv(key, value.format(rank=rank))
    with pytest.raises(ConfigError, match=f"started 2 times by {name}") as caught:
        refuse_to_be_one_of_several(cells())
    [line] = caught.value.lines
    assert "start python run.py once: trainer=ddp trainer.devices=2 trains one cell in" in line


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"SLURM_NTASKS": "2", "SLURM_PROCID": "0"},  # a batch script without srun: one process
        {"SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0"},
        {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"},
        {"TORCHELASTIC_RUN_ID": "4711", "WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"},
        {"PMIX_RANK": "0", "MPI_LOCALNRANKS": "1", "MPI_LOCALRANKID": "0"},
        {"WORLD_SIZE": "2"},  # without a rank: no process of a group
    ],
)
def test_a_single_process_is_not(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    refuse_to_be_one_of_several(cells())


def test_a_slurm_step_with_one_task_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in (SRUN | {"SLURM_PROCID": "1"}).items():
        monkeypatch.setenv(key, value)
    refuse_to_be_one_of_several(cells(devices=2))
    refuse_to_be_one_of_several(cells(devices=1, nodes=2))
    with pytest.raises(ConfigError, match="started 2 times by srun"):
        refuse_to_be_one_of_several(cells(devices=4))


def test_a_shell_in_a_slurm_step(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in (SRUN | {"SLURM_PROCID": "0", "SLURM_PTY_PORT": "1"}).items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    refuse_to_be_one_of_several(cells())


@pytest.mark.parametrize("rank", ["0", "1"])
def test_run_py_ends_before_any_data(run_here: Run, tmp_path: Path, rank: str) -> None:
    done = run_here("data=synthetic", cwd=tmp_path, **TORCHRUN, RANK=rank)
    assert done.returncode == 2
    assert done.stderr.startswith("started 2 times by torchrun (WORLD_SIZE=2)")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_torchrun_itself(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    done = subprocess.run(
        [*torchrun, str(ROOT / "run.py"), "data=synthetic"], cwd=tmp_path, capture_output=True,
        text=True, timeout=120, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 1
    assert "trainer=ddp" in done.stderr
    assert not list(tmp_path.iterdir())
