"""Hydra launchers: how the cells of a sweep are started, in this process or elsewhere."""

import importlib.util
import os
import shutil
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from tlunet.errors import ConfigError
from tlunet.machine import gpus
from tlunet.machine.jobs import queue
from tlunet.study.config.command import hydra_settings, is_search
from tlunet.tracking.wandb.environment import tidy

STARTED_BY = "TLUNET_STARTED_BY"  # process id of the submitting command
CELLS = "TLUNET_CELLS"  # number of cells of a sweep; 0: a search, which chooses them as it runs
LEFT_OUT = "TLUNET_LEFT_OUT"  # numbers of the jobs that a launch skips

#: Package of a launcher or sweeper → the extra that installs it.
EXTRAS = {
    "hydra_plugins.hydra_submitit_launcher": "slurm",
    "hydra_plugins.hydra_ray_launcher": "ray",
    "hydra_plugins.hydra_joblib_launcher": "multi_gpu",
    "hydra_plugins.hydra_optuna_sweeper": "optuna",
}


def set_up() -> None:
    """Register the launcher files' resolvers: ``${gpus:}``, and ``${gpus_a_cell:}`` (0 or 1).

    W&B's variables are tidied, since the configuration refers to them.
    """
    tidy()
    # The Ray launcher's own settings are also called ray; ours should be validated against them.
    warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/ray' is validated against")
    OmegaConf.register_new_resolver("gpus", gpus.count, replace=True)
    OmegaConf.register_new_resolver("gpus_a_cell", gpus.a_cell, replace=True)


@dataclass(frozen=True)
class Launcher:
    """Launcher settings of a command line.

    Attributes:
        name: name on the command line, e.g. ``slurm``.
        target: import path of its class.
        folder: folder for files of Hydra and the launcher.
        is_here: whether the cells run in this process, one after the other.
        is_local_ray: whether Ray is started for this command only.
        is_search: whether a sweeper chooses the cells as it runs.
    """

    name: str
    target: str
    folder: Path
    is_here: bool = False
    is_local_ray: bool = False
    is_search: bool = False

    @property
    def is_slurm(self) -> bool:
        """Whether each cell is a Slurm job."""
        return self.target.endswith(".SlurmLauncher")

    @property
    def is_pool(self) -> bool:
        """Whether the cells run in a pool of worker processes of this one."""
        return self.target.endswith(".JoblibLauncher") and not self.is_here

    @property
    def environment(self) -> dict[str, str]:
        """Environment of this process plus the variables that a launch needs."""
        wanted = {
            "HYDRA_FULL_ERROR": "1",  # Hydra raises instead of printing a traceback
            "RAY_DEDUP_LOGS": "0",  # show the output of every cell
            "RAY_USAGE_STATS_ENABLED": "0",  # no usage statistics
        }
        if self.is_local_ray:  # otherwise its servers listen on every interface
            wanted["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        return wanted | os.environ | {STARTED_BY: str(os.getpid())}

    @classmethod
    def read(cls, argv: Sequence[str], conf: Path, runs: str) -> "Launcher":
        """Read the launcher of a command line that passed :func:`read_command`.

        Args:
            argv: command-line arguments, without the program name.
            conf: configuration folder.
            runs: folder for the cells' results.

        Raises:
            ConfigError: the launcher is not installed, or does not work on this machine or with
                this command.
        """
        cfg, is_sweep = hydra_settings(argv, conf)
        cfg.paths.runs = runs
        name = str(cfg.hydra.runtime.choices["hydra/launcher"])
        target, folder = str(cfg.hydra.launcher._target_), Path(cfg.hydra.sweep.dir)
        searches = is_sweep and is_search(cfg)
        if searches:
            sweeper = cfg.hydra.runtime.choices["hydra/sweeper"]
            _require(f"hydra/sweeper={sweeper}", str(cfg.hydra.sweeper._target_))
        if target.endswith(".BasicLauncher"):
            return cls(name, target, folder, is_here=True, is_search=searches)
        _check(name, target, is_sweep)
        # with one job, joblib starts no process
        is_here = target.endswith(".JoblibLauncher") and cfg.hydra.launcher.n_jobs == 1
        address = OmegaConf.select(cfg.hydra.launcher, "ray.init.address")
        return cls(name, target, folder, is_here, address == "local", searches)


def _require(choice: str, target: str) -> None:
    package = ".".join(target.split(".")[:2])
    if not _is_installed(package):
        way_out = f"; pip install '.[{EXTRAS[package]}]'" if package in EXTRAS else ""
        raise ConfigError(f"{choice}: {package} is not installed{way_out}")


def _check(name: str, target: str, is_sweep: bool) -> None:
    _require(f"hydra/launcher={name}", target)
    if not is_sweep:
        raise ConfigError(f"hydra/launcher={name}: launches sweeps only; add -m, even for one cell")
    if target.endswith(".SlurmLauncher") and not shutil.which("sbatch"):
        raise ConfigError(
            f"hydra/launcher={name}: sbatch is not available; run the command on a login node of "
            "the cluster"
        )


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # no hydra_plugins package is installed
        return False


def watch_queue(seconds: float = 30) -> None:
    """Make submitit ask :func:`queue` which of its jobs have ended.

    By default it asks ``sacct``, which returns nothing on a cluster without accounting, so that
    submitit would never notice the end of a killed job.

    Args:
        seconds: maximum time between two queries.
    """
    from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

    class Queue(SlurmInfoWatcher):
        def update(self) -> None:
            registered = self._registered - self._finished
            there = queue(f"slurm {job}" for job in registered)
            if there is not None:
                for job in registered:
                    is_over = f"slurm {job}" not in there
                    self._info_dict[job] = {"State": "OVER" if is_over else "RUNNING"}
                self._finished |= {job for job in registered if self.is_done(job, mode="cache")}
            self._last_status_check = time.time()

    SlurmJob.watcher = Queue(delay_s=seconds)
