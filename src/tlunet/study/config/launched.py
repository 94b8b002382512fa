"""Refusing to be one of several processes that another program has started for one command."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from omegaconf import DictConfig

from tlunet.errors import ConfigError
from tlunet.machine import gpus
from tlunet.machine.jobs import step_tasks


class Starter(NamedTuple):
    """A program that starts a command several times, once per process.

    Attributes:
        name: what its users type.
        size: variable with the number of processes.
        rank: variable that a process has only if this program started it.
    """

    name: str
    size: str
    rank: str


#: Checked in this order: several programs also set the generic names.
STARTERS = (
    Starter("torchrun", "WORLD_SIZE", "TORCHELASTIC_RUN_ID"),
    Starter("mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    Starter("mpirun", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
    Starter("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
    Starter("mpirun", "PMI_SIZE", "PMI_RANK"),
    Starter("mpirun", "MPI_LOCALNRANKS", "MPI_LOCALRANKID"),  # MPICH, Intel MPI
    Starter("prterun", "PMIX_SIZE", "PMIX_RANK"),
    Starter("prterun", "PMIX_LOCAL_SIZE", "PMIX_RANK"),
    Starter("jsrun", "JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_RANK"),
    Starter("flux run", "FLUX_JOB_SIZE", "FLUX_TASK_RANK"),
    Starter("horovodrun", "HOROVOD_SIZE", "HOROVOD_RANK"),
    Starter("another program", "WORLD_SIZE", "RANK"),  # deepspeed, Kubernetes' PyTorchJob, …
    Starter("another program", "WORLD_SIZE", "LOCAL_RANK"),
)


def refuse_to_be_one_of_several(cells: Sequence[DictConfig]) -> None:
    """Raise ConfigError in every process of ``torchrun``, ``mpirun`` or ``srun`` with several.

    Each would run the whole command, and the first to end would take the others down. A cell's own
    processes never come here: they are spawned, or started by submitit.

    Args:
        cells: of the command; a Slurm step with exactly one task per process of a cell is allowed.
    """
    if (started := _starter(os.environ)) is None:
        return
    starter, number = started
    if starter.name == "srun" and {_processes(cell) for cell in cells} == {number}:
        return
    raise ConfigError(
        f"started {number} times by {starter.name} ({starter.size}={number}); start python run.py "
        f"once: trainer=ddp trainer.devices={number} trains one cell in {number} processes, "
        "hydra/launcher=multi_gpu, slurm or ray runs several cells at once (docs/clusters.md)"
    )


def _starter(env: Mapping[str, str]) -> tuple[Starter, int] | None:
    """Which program started this process, and in how many copies; ``None`` for a single one."""
    for starter in STARTERS:
        size = env.get(starter.size, "")
        if starter.name == "srun":
            if _is_shell_in_a_step(env):
                continue
            size = str(step_tasks(env))
        if starter.rank in env and (number := max(_number(size), _rank(starter, env) + 1)) > 1:
            return starter, number
    return None


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _rank(starter: Starter, env: Mapping[str, str]) -> int:
    return 0 if starter.rank.endswith("_ID") else _number(env[starter.rank])


def _is_shell_in_a_step(env: Mapping[str, str]) -> bool:
    """Whether the command was typed into ``srun --pty bash``, of which only one task has input."""
    return "SLURM_PTY_PORT" in env and env.get("SLURM_PROCID") == "0" and sys.stdin.isatty()


def _processes(cell: DictConfig) -> int:
    devices = gpus.count() if cell.trainer.devices == "auto" else int(cell.trainer.devices)
    return devices * int(cell.trainer.nodes)
