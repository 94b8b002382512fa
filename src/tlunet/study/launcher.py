"""Who starts the cells of a sweep: Hydra, in this process or out of it."""

import importlib.util
import os
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from tlunet.errors import ConfigError
from tlunet.study import gpus
from tlunet.study.config import hydra_settings
from tlunet.study.stopping import Stopped

LEFT_OUT = "TLUNET_LEFT_OUT"  # numbers of the jobs that a launch leaves alone

#: Where a launcher comes from → the extra that installs it.
EXTRAS = {
    "hydra_plugins.hydra_submitit_launcher": "slurm",
    "hydra_plugins.hydra_ray_launcher": "ray",
    "hydra_plugins.hydra_joblib_launcher": "multi_gpu",
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
        is_local_ray: whether it starts a Ray for this command alone.
    """

    name: str
    target: str
    folder: Path
    is_local_ray: bool = False

    @property
    def is_here(self) -> bool:
        """Whether the cells run in this very process, one after the other."""
        return self.target.endswith(".BasicLauncher")

    @property
    def is_slurm(self) -> bool:
        """Whether each cell is a Slurm job."""
        return self.target.endswith(".SlurmLauncher")

    @property
    def environment(self) -> dict[str, str]:
        """Variables to launch with."""
        wanted = {
            "HYDRA_FULL_ERROR": "1",  # Hydra raises instead of printing a traceback
            "RAY_DEDUP_LOGS": "0",  # every cell's lines
            "RAY_USAGE_STATS_ENABLED": "0",  # Ray tells its makers nothing
        }
        if self.is_local_ray:  # else its servers listen on every interface
            wanted["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        return wanted

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
        address = OmegaConf.select(cfg.hydra.launcher, "ray.init.address")
        launcher = cls(name, target, folder, is_local_ray=address == "local")
        if not launcher.is_here:
            launcher._check(is_sweep)
        return launcher

    def _check(self, is_sweep: bool) -> None:
        package = ".".join(self.target.split(".")[:2])
        if not _is_installed(package):
            extra = EXTRAS.get(package)
            way_out = f"; pip install '.[{extra}]'" if extra else ""
            raise ConfigError(f"hydra/launcher={self.name}: {package} is not installed{way_out}")
        if not is_sweep:
            raise ConfigError(
                f"hydra/launcher={self.name}: launches a sweep's cells; add -m, for one cell, too"
            )
        if self.is_slurm and not shutil.which("sbatch"):
            raise ConfigError(
                f"hydra/launcher={self.name}: there is no sbatch here; type the line on a login "
                "node of the cluster"
            )


@contextmanager
def own_gpus(cells: Sequence[DictConfig]) -> Iterator[None]:
    """As many GPUs as the largest of the cells takes, before anything asks CUDA; nobody else's.

    Raises:
        ConfigError: they cannot be claimed.
    """
    wanted = [c.trainer.devices for c in cells if c.trainer.accelerator in ("auto", "cuda")]
    if not wanted:
        yield
        return
    with gpus.claim("auto" if "auto" in wanted else max(wanted), say=_say):
        yield


def run_job(cfg: DictConfig) -> float | None:
    """One of Hydra's jobs, in whichever process its launcher has put it.

    Returns:
        As :func:`tlunet.study.runner.run`.
    """
    hydra = HydraConfig.get()
    left_out = os.environ.get(LEFT_OUT, "").split()
    if left_out and str(hydra.job.num) in left_out:
        return None
    os.chdir(hydra.runtime.cwd)  # where the command was typed: paths are relative to it
    target = str(hydra.launcher._target_)
    if not target.endswith(".BasicLauncher") and (share := os.environ.get("OMP_NUM_THREADS")):
        cfg.trainer.threads = cfg.trainer.threads or int(share)  # of this machine's cores
    from tlunet.study.runner import run

    if not target.endswith(".JoblibLauncher"):
        return run(cfg)
    try:
        with own_gpus([cfg]):
            return run(cfg)
    except Stopped:  # written down; the signal was this worker's, not the command's
        return None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # nothing of hydra_plugins is
        return False
