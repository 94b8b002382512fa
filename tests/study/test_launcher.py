"""Problems with a launcher are reported before anything is prepared."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tlunet.errors import ConfigError
from tlunet.machine import gpus
from tlunet.study.sweep import launcher
from tlunet.study.sweep.launcher import Launcher, set_up

CONF = Path(__file__).parents[2] / "conf"


def read(*line: str) -> Launcher:
    set_up()
    return Launcher.read(line, CONF, "there/runs")


def test_without_a_launcher_cells_run_here() -> None:
    assert read("-m", "seed=0,1").is_here
    assert read("seed=1").is_here


def test_one_process_is_none_beside_this(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "_is_installed", lambda _: True)
    line = ("-m", "hydra/launcher=multi_gpu")
    for there, is_here in (([], True), (["GPU-a"], True), (["GPU-a", "GPU-b"], False)):
        monkeypatch.setattr(gpus, "visible", lambda there=there: there)
        assert read(*line).is_here == is_here
    assert read(*line, "hydra.launcher.n_jobs=1").is_here


@pytest.mark.parametrize("name", ["slurm", "ray", "multi_gpu"])
def test_a_launcher_that_is_not_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "_is_installed", lambda _: False)
    with pytest.raises(
        ConfigError, match=rf"{name}: .* is not installed; pip install '.\[{name}\]'"
    ):
        read("-m", f"hydra/launcher={name}")


def test_a_launcher_launches_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "_is_installed", lambda _: True)
    with pytest.raises(ConfigError, match="hydra/launcher=ray: launches sweeps only; add -m"):
        read("hydra/launcher=ray")
    found = read("-m", "hydra/launcher=ray")
    assert (found.is_here, found.is_slurm) == (False, False)
    assert found.folder == Path("there/runs/.hydra")
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" in found.environment
    cluster = read("-m", "hydra/launcher=ray", "hydra.launcher.ray.init.address=auto")
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in cluster.environment


def test_slurm_is_asked_where_there_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(launcher, "_is_installed", lambda _: True)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="sbatch is not available"):
        read("-m", "hydra/launcher=slurm")
    (tmp_path / "sbatch").touch(mode=0o755)
    assert read("-m", "hydra/launcher=slurm").is_slurm


def test_the_launchers_files(monkeypatch: pytest.MonkeyPatch) -> None:
    set_up()
    monkeypatch.setattr(gpus, "visible", lambda: ["GPU-a", "GPU-b", "GPU-c"])
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for name, key, value in (
            ("multi_gpu", "n_jobs", 3),
            ("ray", "ray.remote.num_gpus", 1),
            ("ray", "ray.init.include_dashboard", False),
            ("slurm", "submitit_folder", "runs/.hydra/.submitit/%j"),
        ):
            cfg = compose("config", [f"hydra/launcher={name}"], return_hydra_config=True)
            assert OmegaConf.select(cfg.hydra.launcher, key) == value, (name, key)
