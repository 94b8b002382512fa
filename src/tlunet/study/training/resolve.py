"""Resolving a cell: everything its result depends on, and its run folder."""

import tempfile
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tlunet.data.split import fingerprint
from tlunet.errors import ConfigError, WeightsError, path_of, reason_of
from tlunet.machine import device
from tlunet.machine.console import Progress
from tlunet.model.encoder import register_encoder
from tlunet.model.init import checkpoint_source, imagenet_source
from tlunet.model.network import CONFIG_NAMES, check_encoder
from tlunet.runs.cell import VERSION, Cell, Start, digest_of
from tlunet.runs.data import datamodule
from tlunet.study.config.instantiate import instantiate
from tlunet.study.training.starting_weights import SyntheticPretraining


def resolve(cfg: DictConfig, progress: Progress | None = None) -> Cell:
    """Prepare the data, look up the starting weights, and name the cell.

    Args:
        cfg: one composed configuration.
        progress: receives the progress of generating and packing data.

    Raises:
        ConfigError: a value does not fit the data or the hardware.
        DataError: the data has problems.
    """
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    machine = device.choose(**config["trainer"])
    if config["batch_size"] < machine.processes:
        raise ConfigError(
            f"batch_size={config['batch_size']}: expected at least {machine.processes}, one image "
            "per process (trainer.devices × trainer.nodes)"
        )
    if own := config["encoder"].get("_target_"):
        register_encoder(own)
        config["encoder"] = {"name": own}
    instantiate(config["loss"])  # fail before packing if it cannot be created
    data = datamodule(config, instantiate(config["augment"]), progress)
    data.eval_batch_size = machine.eval_batch_size(config["batch_size"])
    if config["data"]["residency"] == "gpu" and machine.accelerator == "cpu":
        raise ConfigError("data.residency=gpu: no GPU available; use auto or memmap")
    _check_writable(Path(config["paths"]["runs"]))
    try:
        data.prepare_data()
    except OSError as error:  # disk full or not writable
        where = path_of(error, config["paths"]["data"])
        raise ConfigError(
            f"{where}: {reason_of(error)}; paths.data sets the folder for packs, strips and weights"
        ) from error
    data.setup()
    name = config["encoder"]["name"]
    arch = config["arch"]["name"]
    check_encoder(name, len(data.pack.classes), data.pack.size, arch)

    init = config["init"]
    start: Start | None = None
    missing: WeightsError | None = None
    try:
        match init["name"]:
            case "imagenet":
                start = imagenet_source(name, init["path"])
            case "checkpoint":
                start = checkpoint_source(init["path"])
            case "synthetic":
                start = SyntheticPretraining(
                    name, init["n"], tuple(init["size"]), init["epochs"], init["seed"]
                )
    except WeightsError as error:
        missing = error  # only this cell fails, when it is its turn

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
    if config.get("budget") == "steps":
        science["budget"] = "steps"
    if machine.processes > 1:  # batch normalisation and sums differ
        science["processes"] = machine.processes
    config["data"] |= {"name": data.dataset, "root": str(data.root)}
    study = config["study"] = config["study"] or data.dataset
    label = own.rpartition(".")[2] if own else CONFIG_NAMES.get(name, name).replace("/", "-")
    folder = f"{label}-{init['name']}-{frac}-s{config['seed']}-{digest_of(science)[:8]}"
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
    """Raise ConfigError unless run folders can be created; tried, as file modes are not enough."""
    try:
        runs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=runs):
            pass
    except OSError as error:
        raise ConfigError(
            f"paths.runs={runs}: {reason_of(error)}; expected a writable folder"
        ) from error
