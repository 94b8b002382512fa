"""One cell of a study: everything its result depends on, and the folder that follows from it."""

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tlunet.data.datamodule import DefectDataModule
from tlunet.data.pack.pack import Progress
from tlunet.data.split import fingerprint
from tlunet.errors import ConfigError, WeightsError
from tlunet.machine import device as hardware
from tlunet.machine.device import Hardware
from tlunet.model.init import Source, checkpoint_source, imagenet_source
from tlunet.model.network import CONFIG_NAMES, check_encoder
from tlunet.study.config.instantiate import instantiate as instantiate
from tlunet.study.training.starting_weights import Recipe
from tlunet.tracking.open import check_installed

VERSION = 2  # of what a result means; a new one makes new folders


@dataclass(frozen=True)
class Cell:
    """What :func:`tlunet.study.training.run.run` runs.

    Attributes:
        config: the resolved configuration, plain values.
        study: name of the study's folder.
        dataset: the data set's name; never ``auto``.
        encoder: its name in folders, tables and figures, as in conf/encoder/.
        init: ``random``, ``imagenet``, ``synthetic`` or ``checkpoint``.
        frac: share of the training part.
        seed: of the run.
        data: pack and split, ready.
        hardware: what it runs on.
        start: where the starting weights come from; ``None`` for random ones.
        missing: why they cannot be had, if so.
        science: all that can change the result.
        split_fingerprint: the same for every fraction.
        folder: the run folder.
    """

    config: dict[str, Any]
    study: str
    dataset: str
    encoder: str
    init: str
    frac: float
    seed: int
    data: DefectDataModule
    hardware: Hardware
    start: Source | Recipe | None
    missing: WeightsError | None
    science: dict[str, Any]
    split_fingerprint: str
    folder: Path

    @property
    def digest(self) -> str:
        """Hash of all that can change the result."""
        return _hash(self.science)

    @property
    def kin(self) -> str:
        """The digest, but for the starting weights: the same cell with weights found or missing."""
        return _hash({k: v for k, v in self.science.items() if k != "start"})

    @property
    def title(self) -> str:
        """How the console calls it."""
        return f"{self.encoder} · {self.init} · {self.frac} · seed {self.seed}"


def resolve(cfg: DictConfig, progress: Progress | None = None) -> Cell:
    """Prepare the data, look the starting weights up, and name the cell.

    Args:
        cfg: one composed configuration.
        progress: told how far drawing and packing are.

    Raises:
        ConfigError: a value is wrong in the light of data and hardware.
        DataError: faults of the data.
    """
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    machine = hardware.choose(**config["trainer"])
    if config["batch_size"] < machine.processes:
        raise ConfigError(
            f"batch_size={config['batch_size']}: each of the {machine.processes} processes of "
            "trainer.devices and trainer.nodes needs an image"
        )
    check_installed(config["logger"]["name"])
    instantiate(config["loss"])  # one that cannot be made is told before anything is packed
    data = datamodule(config, progress)
    data.eval_batch_size = machine.eval_batch_size(config["batch_size"])
    if config["data"]["residency"] == "gpu" and machine.accelerator == "cpu":
        raise ConfigError("data.residency=gpu: there is no GPU here; take auto or memmap")
    _check_writable(Path(config["paths"]["runs"]))
    try:
        data.prepare_data()
    except OSError as error:  # a disk that is full, or that may not be written to
        where = error.filename or config["paths"]["data"]
        raise ConfigError(
            f"{where}: {error.strerror}; paths.data names the folder for packs, strips and weights"
        ) from error
    data.setup()
    name = config["encoder"]["name"]
    arch = config["arch"]["name"]
    check_encoder(name, len(data.pack.classes), data.pack.size, arch)

    init = config["init"]
    start: Source | Recipe | None = None
    missing: WeightsError | None = None
    try:
        match init["name"]:
            case "imagenet":
                start = imagenet_source(name, init["path"])
            case "checkpoint":
                start = checkpoint_source(init["path"])
            case "synthetic":
                start = Recipe(name, init["n"], tuple(init["size"]), init["epochs"], init["seed"])
    except WeightsError as error:
        missing = error  # this cell fails when its turn comes; the others run

    split_fingerprint = fingerprint(data.split)
    frac = float(config["frac"])
    science = {
        "version": VERSION,
        "encoder": name,
        "init": init["name"],
        "start": start.identity if start else str(missing),
        "frac": frac,
        **{k: config[k] for k in ("seed", "epochs", "batch_size", "threshold")},
        **{k: config[k] for k in ("optimizer", "early_stopping", "loss", "augment")},
        "data": data.pack.fingerprint,
        "split": split_fingerprint,
        "precision": machine.precision,
        "device": machine.accelerator,
    }
    if arch != "unet":
        science["arch"] = arch
    if machine.processes > 1:  # batch normalisation and sums are another's
        science["processes"] = machine.processes
    config["data"] |= {"name": data.dataset, "root": str(data.root)}
    study = config["study"] = config["study"] or data.dataset
    label = CONFIG_NAMES.get(name, name).replace("/", "-")
    folder = f"{label}-{init['name']}-{frac}-s{config['seed']}-{_hash(science)[:8]}"
    return Cell(
        config=config,
        study=study,
        dataset=data.dataset,
        encoder=label,
        init=init["name"],
        frac=frac,
        seed=config["seed"],
        data=data,
        hardware=machine,
        start=start,
        missing=missing,
        science=science,
        split_fingerprint=split_fingerprint,
        folder=Path(config["paths"]["runs"]) / study / folder,
    )


def _check_writable(runs: Path) -> None:
    """Raise ConfigError unless run folders can be made here: by trying, modes do not say all."""
    try:
        runs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=runs):
            pass
    except OSError as error:
        raise ConfigError(
            f"paths.runs={runs}: {error.strerror}; expected a folder that may be written to"
        ) from error


def datamodule(config: dict[str, Any], progress: Progress | None = None) -> DefectDataModule:
    """The data of a resolved configuration."""
    wanted = dict(config["data"])
    return DefectDataModule(
        cache=config["paths"]["data"],
        strip_seed=wanted.pop("seed"),
        frac=config["frac"],
        batch_size=config["batch_size"],
        seed=config["seed"],
        augment=instantiate(config["augment"]),
        progress=progress,
        **wanted,
    )


def _hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
