"""``init=synthetic``: the encoder of a joint network trained on procedural sheets.

The sheets differ from the strips of the data in texture and defects. Strips of the same family
would be additional labels, not transfer.
"""

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from safetensors.torch import save_file

from tlunet.data.augment import Augment
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import Strips
from tlunet.data.synthetic import generate as synthetic
from tlunet.machine.console import progress, say
from tlunet.machine.device import Hardware
from tlunet.machine.files import locked, write_whole
from tlunet.model.network import TLUNet
from tlunet.model.task import DefectTask
from tlunet.model.weights import load_encoder, read_weights
from tlunet.runs.cell import Cell, Start
from tlunet.study.training.callbacks.progress import Progress
from tlunet.study.training.trainer import make_trainer

VERSION = 1  # of the result of a recipe


@dataclass(frozen=True)
class SyntheticPretraining:
    """Recipe that determines the synthetic starting weights, together with device and precision.

    Attributes:
        encoder: encoder name.
        n: number of sheets; three quarters of them are used for training.
        size: (height, width) of the sheets.
        epochs: number of training epochs.
        seed: controls sheets, data order and initialisation.
    """

    encoder: str
    n: int
    size: tuple[int, int]
    epochs: int
    seed: int

    @property
    def identity(self) -> str:
        """Fingerprint used in a run's digest."""
        content = asdict(self) | {"version": VERSION, "drawing": synthetic.VERSION}
        return "synthetic:" + hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def file(self, cache: Path, hardware: Hardware) -> Path:
        """Return the encoder weights, trained once and cached.

        Returns:
            A ``.safetensors`` file of encoder keys without prefix.
        """
        key = f"{self.identity}|{hardware.accelerator}|{hardware.precision}"
        digest = hashlib.sha256(key.encode()).hexdigest()[:8]
        path = cache / "weights" / f"synthetic-{self.encoder}-{digest}.safetensors"
        with locked(path.with_suffix(".lock")):  # other processes wait for the first cell
            if not path.exists():
                self._train(path, cache, hardware)
        return path

    def _train(self, path: Path, cache: Path, hardware: Hardware) -> None:
        started = time.perf_counter()
        title = f"pre-training {self.encoder} on {self.n} synthetic sheets"
        pl.seed_everything(self.seed, workers=True, verbose=False)
        with progress() as report:
            data = DefectDataModule(
                Strips(cache / "synthetic", self.n, self.seed, family="sheets"), cache,
                size=self.size, seed=self.seed, augment=Augment(), progress=report,
            )  # fmt: skip
            data.prepare_data()
            data.setup()
        network = TLUNet(self.encoder, len(data.pack.classes), data.mean, data.std)
        task = DefectTask(network.to(memory_format=hardware.memory_format))
        shown = Progress(title, self.epochs)
        alone = replace(hardware, devices=1, nodes=1)
        trainer = make_trainer(alone, epochs=self.epochs, callbacks=[shown], validate=False)
        trainer.fit(task, data)
        encoder = {k: v.cpu().contiguous() for k, v in task.network.encoder.state_dict().items()}
        about = {"recipe": json.dumps(asdict(self)), "hardware": hardware.name}
        write_whole(path, lambda temporary: save_file(encoder, temporary, metadata=about))
        say(f"{title}: {self.epochs} epochs, {time.perf_counter() - started:.0f} s → {path}")


def load_start(network: TLUNet, cell: Cell) -> dict[str, Any]:
    """Load the starting weights into the encoder; decoder and heads keep their random weights."""
    if cell.start is None:
        return {"identity": "random"}
    path = starting_weights(cell, cell.start)
    loaded = load_encoder(network.encoder, read_weights(path), source=str(path))
    return {"identity": cell.start.identity, "file": path.name, **loaded._asdict()}


def starting_weights(cell: Cell, start: Start) -> Path:
    """Return a cell's starting weights as a local file, downloaded or trained if missing."""
    return start.file(Path(cell.config["paths"]["data"]), cell.hardware)
