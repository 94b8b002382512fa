"""One cell of a study: everything its result depends on, and the run folder derived from it."""

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tlunet.errors import WeightsError
from tlunet.runs.names import condition

if TYPE_CHECKING:  # reading run folders must not import torch
    from tlunet.data.datamodule import DefectDataModule
    from tlunet.machine.device import Hardware

POSITION = "TLUNET_POSITION"  # environment variable with a cell's position in its sweep: [3/8]
VERSION = 2  # version of the result format; a new one creates new run folders


class Start(Protocol):
    """Where an encoder's starting weights come from."""

    @property
    def identity(self) -> str:
        """Fingerprint, part of the cell's digest."""

    def file(self, cache: Path, hardware: "Hardware") -> Path:
        """Return the weights as a local file, downloaded or trained if missing.

        Args:
            cache: the folder ``paths.data``.
            hardware: hardware to train on.

        Raises:
            WeightsError: the weights are not available.
        """


@dataclass(frozen=True)
class Cell:
    """One cell, the input of :func:`tlunet.study.training.run.run_cell`.

    Attributes:
        config: the resolved configuration as plain values.
        study: name of the study's folder.
        dataset: the data set's name; never ``auto``.
        encoder: name in folders, tables and figures, as in conf/encoder/.
        init: ``random``, ``imagenet``, ``synthetic`` or ``checkpoint``.
        frac: fraction of the training set.
        seed: seed of the run.
        data: datamodule, set up.
        hardware: the hardware it runs on.
        start: source of the starting weights; ``None`` for random ones.
        missing: why the starting weights are not available, if so.
        science: everything that can change the result.
        split_fingerprint: fingerprint of the split, the same for every fraction.
        folder: the run folder.
        position: position in the sweep, such as ``[3/8]``; empty for a single cell.
    """

    config: dict[str, Any]
    study: str
    dataset: str
    encoder: str
    init: str
    frac: float
    seed: int
    data: "DefectDataModule"
    hardware: "Hardware"
    start: Start | None
    missing: WeightsError | None
    science: dict[str, Any]
    split_fingerprint: str
    folder: Path
    position: str = field(default_factory=lambda: os.environ.get(POSITION, ""))

    @property
    def digest(self) -> str:
        """Hash of everything that can change the result."""
        return digest_of(self.science)

    @property
    def digest_without_start(self) -> str:
        """The digest without the starting weights: equal whether they were found or missing."""
        return digest_of({k: v for k, v in self.science.items() if k != "start"})

    @property
    def epochs(self) -> int:
        """Epochs to train at most; ``config["epochs"]`` is the number for ``frac=1``."""
        return epochs_for(self.config["epochs"], self.frac, self.config.get("budget"))

    @property
    def patience(self) -> int | None:
        """Epochs without improvement before training stops early; ``None``: it never does."""
        patience = self.config["early_stopping"]["patience"]
        return patience and epochs_for(patience, self.frac, self.config.get("budget"))

    @property
    def title(self) -> str:
        """Name on the console, after its position in the sweep.

        For example ``[3/8] densenet · ImageNet · 100% · seed 0``.
        """
        name = condition(self.encoder, self.init, self.frac, self.seed)
        return f"{self.position} {name}".lstrip()


def epochs_for(epochs: int, frac: float, budget: str | None) -> int:
    """Convert a number of epochs for ``frac=1`` to the number for another fraction.

    Args:
        epochs: a number of epochs of all training images.
        frac: fraction of the training set.
        budget: ``steps`` keeps the number of optimiser steps; otherwise the number of epochs is
            kept, also for runs from before the key existed.

    >>> epochs_for(10, 0.25, "steps"), epochs_for(10, 0.25, "epochs")
    (40, 10)
    """
    return round(epochs / frac) if budget == "steps" else epochs


def digest_of(content: dict[str, Any]) -> str:
    """SHA-256 of plain values, independent of key order."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
