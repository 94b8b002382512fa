"""The data of a finished run, as it was trained and tested on."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from tlunet.data.datamodule import DefectDataModule
from tlunet.data.pack.pack import Progress
from tlunet.data.split import fingerprint
from tlunet.errors import DataError
from tlunet.machine.files import read_json
from tlunet.study.training.resolve import datamodule


def open_data(run: Path, progress: Progress | None = None) -> DefectDataModule:
    """A run's images and its split, ready; training is augmented as it was.

    Args:
        run: a run folder.
        progress: told how far packing is, where the pack is gone.

    Raises:
        DataError: no such run, its images are not where they were, or they are others.
    """
    config, meta = _config(run), _meta(run)
    try:
        root = Path(config["data"]["root"])
        data = datamodule(config, progress)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{run / 'config.yaml'}: is no run's configuration ({error})") from error
    if not root.exists() and data.dataset != "synthetic":
        raise DataError(f"{run}: its images are not in {root}; run this where it was trained")
    data.prepare_data()
    data.setup()
    known = meta.get("data_fingerprint"), meta.get("split_fingerprint")
    if known != (data.pack.fingerprint, fingerprint(data.split)):
        raise DataError(f"{run}: the images in {root}, or their split, are not those of the run")
    return data


def _config(run: Path) -> dict[str, Any]:
    path = run / "config.yaml"
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(content, dict)
        return {str(key): value for key, value in content.items()}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected a finished run's folder") from None
    except Exception as error:  # each kind of damage has a class of its own
        raise DataError(f"{path}: cannot be read ({type(error).__name__})") from error


def _meta(run: Path) -> dict[str, Any]:
    try:
        return read_json(run / "meta.json")
    except ValueError as error:
        raise DataError(f"{run / 'meta.json'}: cannot be read ({error})") from error
