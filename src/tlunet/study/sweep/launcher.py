"""Who starts the cells of a sweep: Hydra, in this process or out of it."""

import importlib.util
import os
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from tlunet.errors import ConfigError
from tlunet.machine import gpus
from tlunet.study.config.command import hydra_settings, is_search

STARTED_BY = "TLUNET_STARTED_BY"  # the process in which the line was typed
LEFT_OUT = "TLUNET_LEFT_OUT"  # numbers of the jobs that a launch leaves alone

#: Where a launcher or a sweeper comes from → the extra that installs it.
EXTRAS = {
    "hydra_plugins.hydra_submitit_launcher": "slurm",
    "hydra_plugins.hydra_ray_launcher": "ray",
    "hydra_plugins.hydra_joblib_launcher": "multi_gpu",
    "hydra_plugins.hydra_optuna_sweeper": "optuna",
}


def set_up() -> None:
    """For the launchers' files: ``${gpus:}`` of this machine, 1 or 0 ``${gpus_a_cell:}``."""
    # The Ray launcher's own settings are called ray, too; that ours are checked by them is right.
    warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/ray' is validated against")
    OmegaConf.register_new_resolver("gpus", gpus.count, replace=True)
    OmegaConf.register_new_resolver("gpus_a_cell", gpus.a_cell, replace=True)


@dataclass(frozen=True)
class Launcher:
    """What a command line says of the launcher.

    Attributes:
        name: as one types it, ``slurm``.
        target: its class.
        folder: where Hydra, and the launcher, put what is theirs.
        is_here: whether the cells run in this very process, one after the other.
        is_local_ray: whether it starts a Ray for this command alone.
        is_search: whether a sweeper decides as it goes which cells there are.
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
        """Whether the cells run in processes that this one keeps."""
        return self.target.endswith(".JoblibLauncher") and not self.is_here

    @property
    def environment(self) -> dict[str, str]:
        """This process's, and what a launch needs."""
        wanted = {
            "HYDRA_FULL_ERROR": "1",  # Hydra raises instead of printing a traceback
            "RAY_DEDUP_LOGS": "0",  # every cell's lines
            "RAY_USAGE_STATS_ENABLED": "0",  # Ray tells its makers nothing
        }
        if self.is_local_ray:  # else its servers listen on every interface
            wanted["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        return wanted | os.environ | {STARTED_BY: str(os.getpid())}

    @classmethod
    def read(cls, argv: Sequence[str], conf: Path, runs: str) -> "Launcher":
        """The launcher of a command line that :func:`read_command` has found right.

        Args:
            argv: the arguments, without the program.
            conf: the folder of the configuration.
            runs: where the cells' results go.

        Raises:
            ConfigError: it is not installed, or not made for this machine or command.
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
        # joblib starts no process where there is but one to start
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
        raise ConfigError(
            f"hydra/launcher={name}: launches a sweep's cells; add -m, for one cell, too"
        )
    if target.endswith(".SlurmLauncher") and not shutil.which("sbatch"):
        raise ConfigError(
            f"hydra/launcher={name}: there is no sbatch here; type the line on a login node of "
            "the cluster"
        )


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # nothing of hydra_plugins is
        return False
