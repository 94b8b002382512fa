"""The data that a finished run was trained and tested on."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from tlunet.errors import DataError
from tlunet.machine.console import Progress
from tlunet.machine.files import read_json

if TYPE_CHECKING:  # importing this must not import torch
    from tlunet.data.augment import Augment
    from tlunet.data.datamodule import DefectDataModule

#: Keys of ``data`` that choose the data set; the others say what to do with it.
#: Runs of earlier versions lack some of them.
_DATASET = ("name", "root", "classes", "foreground", "n", "seed", "balance")


def open_data(run: Path, progress: Progress | None = None) -> "DefectDataModule":
    """Open a run's images and its split; training images are flipped at random.

    Args:
        run: a run folder.
        progress: progress of packing, if the pack no longer exists.

    Raises:
        DataError: no such run, or its images are missing or have changed.
    """
    from tlunet.data.augment import Augment
    from tlunet.data.split import fingerprint

    config, meta = _config(run), _meta(run)
    try:
        _find(run, config)
        root = Path(config["data"]["root"])
        data = datamodule(config, Augment(), progress)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{run / 'config.yaml'}: is not a run configuration ({error})") from error
    if not root.exists() and data.dataset.name != "synthetic":
        raise DataError(
            f"{run}: its images are not in {root.absolute()}; run this where it was trained"
        )
    data.prepare_data()
    data.setup()
    known = meta.get("data_fingerprint"), meta.get("split_fingerprint")
    if known != (data.pack.fingerprint, fingerprint(data.split)):
        raise DataError(f"{run}: the images in {root} or their split differ from those of the run")
    return data


def _find(run: Path, config: dict[str, Any]) -> None:
    """Make relative paths start where the run was trained, unless its data are here, too."""
    runs = Path(config["paths"]["runs"])
    root = Path(config["data"]["root"])
    home = run.resolve().parent.parent  # of all studies: <where it was trained>/<paths.runs>
    if runs.is_absolute() or root.exists() or home.parts[-len(runs.parts) :] != runs.parts:
        return
    there = Path(*home.parts[: len(home.parts) - len(runs.parts)])
    if (there / root).exists():
        config["data"]["root"] = str(there / root)
        config["paths"]["data"] = str(there / config["paths"]["data"])


def _config(run: Path) -> dict[str, Any]:
    path = run / "config.yaml"
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(content, dict)
        return {str(key): value for key, value in content.items()}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected a finished run") from None
    except Exception as error:  # each kind of damage raises a different class
        raise DataError(f"{path}: cannot be read ({type(error).__name__})") from error


def _meta(run: Path) -> dict[str, Any]:
    try:
        return read_json(run / "meta.json")
    except ValueError as error:
        raise DataError(f"{run / 'meta.json'}: cannot be read ({error})") from error


def datamodule(
    config: dict[str, Any], augment: "Augment", progress: Progress | None = None
) -> "DefectDataModule":
    """Create the datamodule of a resolved configuration.

    Args:
        config: plain values, as in ``config.yaml``.
        augment: augmentation of training images.
        progress: progress of packing.
    """
    from tlunet.data.datamodule import DefectDataModule
    from tlunet.data.dataset import find_dataset

    cache, wanted = config["paths"]["data"], dict(config["data"])
    rest = learnt_from_rest(config)
    which = {key: wanted.pop(key) for key in _DATASET if key in wanted}  # some are newer
    return DefectDataModule(
        find_dataset(cache=cache, **which),
        cache,
        frac=config["frac"],
        batch_size=config["batch_size"],
        seed=config["seed"],
        augment=augment,
        rest_batch_size=rest.get("batch_size", 0),
        rest_labels=rest.get("name") == "labels",
        progress=progress,
        **wanted,
    )


def learnt_from_rest(config: dict[str, Any]) -> dict[str, Any]:
    """Return what a configuration says about the images that ``frac`` leaves out.

    Args:
        config: plain values; of earlier versions too, which lack the key.

    Returns:
        The name and the values that it uses, with the batch size filled in; empty for ``none``.

    >>> rest = {"name": "labels", "weight": 1.0, "batch_size": None, "ramp": 0.3}
    >>> learnt_from_rest({"rest": rest, "batch_size": 16})
    {'name': 'labels', 'weight': 1.0, 'batch_size': 16}
    """
    rest = config.get("rest") or {"name": "none"}
    if rest["name"] == "none":
        return {}
    used = ("name", "weight", *(("positive", "negative", "ramp") if _is_guessed(rest) else ()))
    size = rest["batch_size"] or config["batch_size"]
    return {key: rest[key] for key in used} | {"batch_size": size}


def _is_guessed(rest: dict[str, Any]) -> bool:
    """Whether the targets of the images are guessed, by a teacher with thresholds."""
    return bool(rest["name"] == "mean_teacher")
