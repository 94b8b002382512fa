"""Resolving a cell: everything its result depends on, and its run folder."""

import os
import tempfile
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tlunet.data.datamodule import DefectDataModule
from tlunet.data.split import fingerprint
from tlunet.data.synthetic.generate import CLASS_NAMES
from tlunet.errors import ConfigError, WeightsError, path_of, reason_of
from tlunet.machine import device
from tlunet.machine.console import Progress
from tlunet.machine.device import Hardware
from tlunet.model.encoder import register_encoder
from tlunet.model.init import checkpoint_source, imagenet_source
from tlunet.model.network import TRUSTED, check_batch_of_one, check_encoder, encoder_label
from tlunet.runs.cell import VERSION, Cell, Start, digest_of, epochs_for
from tlunet.runs.data import datamodule, learnt_from_rest
from tlunet.study.config.instantiate import instantiate
from tlunet.study.training.starting_weights import SyntheticPretraining

#: Keys added to a section after runs had been recorded, with the value that changes nothing: only
#: another one is part of the digest.
_LATER: dict[str, dict[str, Any]] = {
    "": {"steps": None, "sampling": "uniform", "ema": None},
    "optimizer": {
        "name": "adam", "weight_decay": 0.0, "clip": None, "schedule": "constant", "warmup": 0.0,
    },
    "early_stopping": {"monitor": "val_loss"},
    "augment": {"crop": None},
}  # fmt: skip


def resolve(cfg: DictConfig, progress: Progress | None = None) -> Cell:
    """Prepare a cell: hardware, starting weights, data, and the name that follows from them.

    Args:
        cfg: one composed configuration.
        progress: receives the progress of generating and packing data.

    Raises:
        ConfigError: a value does not fit the data or the hardware.
        DataError: the data has problems.
    """
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    machine = _choose_hardware(config)
    if own := config["encoder"].get("_target_"):
        register_encoder(own)
        os.environ[TRUSTED] = own  # for the other processes of this cell
        config["encoder"] = {"name": own}
    instantiate(config["loss"])  # fail before packing if it cannot be created
    start: Start | None = None
    missing: WeightsError | None = None
    try:
        start = find_start(config)
    except WeightsError as error:
        missing = error  # only this cell fails, when it is its turn
    _check_writable(Path(config["paths"]["runs"]))
    data = _prepare_data(config, machine, progress)
    _check_network(config, machine, data)
    return name_cell(config, machine, data, start, missing)


def _check_network(config: dict[str, Any], machine: Hardware, data: DefectDataModule) -> None:
    """Raise ConfigError if the network cannot be trained on images and batches of this size."""
    encoder, arch, classes = config["encoder"]["name"], config["arch"]["name"], data.pack.classes
    check_encoder(encoder, len(classes), data.pack.size, arch)
    if data.augment.crop:
        check_encoder(encoder, len(classes), data.augment.crop, arch, key="augment.crop")
    # Processes on GPUs normalise the whole batch together.
    share = (0, machine.processes if machine.accelerator == "cpu" else 1)
    if data.training_order(share=share).smallest == 1:
        check_batch_of_one(encoder, len(classes), data.train_size, arch)


def find_start(config: dict[str, Any]) -> Start | None:
    """Find where a cell's starting weights come from; nothing is downloaded or trained.

    Returns:
        The source; ``None`` for random weights.

    Raises:
        ConfigError: ``init.path`` does not exist, or ``init.size`` does not fit the encoder.
        WeightsError: no weights are known for this encoder, or the file is damaged.
    """
    name, init = config["encoder"]["name"], config["init"]
    match init["name"]:
        case "imagenet":
            return imagenet_source(name, init["path"])
        case "checkpoint":
            return checkpoint_source(init["path"])
        case "synthetic":
            size = tuple(init["size"])
            check_encoder(name, len(CLASS_NAMES["sheets"]), size, key="init.size")
            return SyntheticPretraining(name, init["n"], size, init["epochs"], init["seed"])
    return None


def name_cell(
    config: dict[str, Any],
    machine: Hardware,
    data: DefectDataModule,
    start: Start | None,
    missing: WeightsError | None = None,
) -> Cell:
    """Collect everything that can change a result; its digest names the run folder.

    Args:
        config: the resolved configuration; the data set's name and root and the study are added.
        machine: the hardware it runs on.
        data: the datamodule, set up.
        start: source of the starting weights; ``None`` for random ones.
        missing: why the starting weights are not available, if so.
    """
    name, init, arch = config["encoder"]["name"], config["init"]["name"], config["arch"]["name"]
    split_fingerprint = fingerprint(data.split)
    frac = float(config["frac"])
    science = {
        "version": VERSION,
        "encoder": name,
        "init": init,
        "start": start.identity if start else str(missing),
        "frac": frac,
        **{k: config[k] for k in ("seed", "epochs", "batch_size", "threshold")},
        **{k: _science_of(k, config[k]) for k in ("optimizer", "early_stopping", "augment")},
        "loss": config["loss"],
        "data": data.pack.fingerprint,
        "split": split_fingerprint,
        "precision": machine.precision,
        "device": machine.accelerator,
    }
    if arch != "unet":
        science["arch"] = arch
    if config.get("budget") == "steps":
        science["budget"] = "steps"
    if rest := learnt_from_rest(config):
        science["rest"] = rest
    science |= _science_of("", {k: config[k] for k in _LATER[""] if k in config})
    if machine.processes > 1:  # batch normalisation and sums differ
        science["processes"] = machine.processes
    config["data"] |= {"name": data.dataset.name, "root": str(data.dataset.root)}
    study = config["study"] = config["study"] or data.dataset.name
    folder = f"{run_prefix(config)}{digest_of(science)[:8]}"
    return Cell(
        config=config,
        study=study,
        dataset=data.dataset.name,
        encoder=encoder_label(name),
        init=init,
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


def _science_of(section: str, values: dict[str, Any]) -> dict[str, Any]:
    """A section of the configuration without later keys at their defaults."""
    later = _LATER[section]
    return {k: v for k, v in values.items() if k not in later or v != later[k]}


def run_prefix(config: dict[str, Any]) -> str:
    """The name of a run folder up to its digest, which depends on the data."""
    label = encoder_label(config["encoder"].get("_target_") or config["encoder"]["name"])
    return f"{label}-{config['init']['name']}-{float(config['frac'])}-s{config['seed']}-"


def _choose_hardware(config: dict[str, Any]) -> Hardware:
    machine = device.choose(**config["trainer"])
    if config["batch_size"] < machine.processes:
        raise ConfigError(
            f"batch_size={config['batch_size']}: expected at least {machine.processes}, one image "
            "per process (trainer.devices × trainer.nodes)"
        )
    if config["data"]["residency"] == "gpu" and machine.accelerator == "cpu":
        raise ConfigError("data.residency=gpu: no GPU available; use auto or memmap")
    return machine


def _prepare_data(
    config: dict[str, Any], machine: Hardware, progress: Progress | None
) -> DefectDataModule:
    augment = instantiate(_science_of("augment", config["augment"]))
    data = datamodule(config, augment, progress)
    data.sampling = config.get("sampling", "uniform")
    data.eval_batch_size = machine.eval_batch_size(config["batch_size"])
    data.mask_format = machine.mask_format
    try:
        data.prepare_data()
    except OSError as error:  # disk full or not writable
        where = path_of(error, config["paths"]["data"])
        raise ConfigError(
            f"{where}: {reason_of(error)}; paths.data sets the folder for packs, strips and weights"
        ) from error
    data.setup()
    epochs = epochs_for(config["epochs"], float(config["frac"]), config.get("budget"))
    data.repeat_for(config.get("steps"), epochs)
    _check_crop(data)
    _check_monitor(config, data)
    return data


def _check_crop(data: DefectDataModule) -> None:
    crop, size = data.augment.crop, data.pack.size
    if crop and (crop[0] > size[0] or crop[1] > size[1]):
        raise ConfigError(
            f"augment.crop=[{crop[0]},{crop[1]}]: larger than the images, {size[0]}×{size[1]}; use "
            "a smaller crop, or null for whole images"
        )


def _check_monitor(config: dict[str, Any], data: DefectDataModule) -> None:
    monitor = config["early_stopping"].get("monitor")
    if monitor == "val_dice" and not data.pack.mask_labels[data.rows["val"]].any():
        raise ConfigError(
            "early_stopping.monitor=val_dice: the validation set has no defects, so it has no "
            "Dice; use val_loss"
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
