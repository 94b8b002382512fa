"""``init=synthetic``: the encoder of a joint net trained on procedural sheets.

The sheets have another texture and other defects than the data's strips; the same family would
be extra labels, not transfer.
"""

import fcntl
import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.plugins.io import AsyncCheckpointIO
from pytorch_lightning.profilers import Profiler
from safetensors.torch import save_file

from tlunet.data.augment import Augment
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.synthetic import generate as synthetic
from tlunet.machine.console import progress, say
from tlunet.machine.device import Hardware
from tlunet.machine.files import write_whole
from tlunet.model.network import TLUNet
from tlunet.model.task import DefectTask
from tlunet.study.training.callbacks.checkpoints import Progress, WholeFiles

VERSION = 1  # of what follows from a recipe


@dataclass(frozen=True)
class Recipe:
    """All that the synthetic starting weights follow from, beside device and precision.

    Attributes:
        encoder: its name.
        n: number of sheets, of which three quarters are trained on.
        size: their (height, width).
        epochs: passes over them.
        seed: of sheets, order and the network before it is trained.
    """

    encoder: str
    n: int
    size: tuple[int, int]
    epochs: int
    seed: int

    @property
    def identity(self) -> str:
        """Fingerprint for a run's digest."""
        content = asdict(self) | {"version": VERSION, "drawing": synthetic.VERSION}
        return "synthetic:" + hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def weights(self, cache: Path, hardware: Hardware) -> Path:
        """The encoder's weights, trained once and cached.

        Returns:
            A ``.safetensors`` file of bare encoder keys.
        """
        key = f"{self.identity}|{hardware.accelerator}|{hardware.precision}"
        digest = hashlib.sha256(key.encode()).hexdigest()[:8]
        path = cache / "weights" / f"synthetic-{self.encoder}-{digest}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # cells in other processes wait for the first
            if not path.exists():
                self._train(path, cache, hardware)
        return path

    def _train(self, path: Path, cache: Path, hardware: Hardware) -> None:
        started = time.perf_counter()
        title = f"pre-training {self.encoder} on {self.n} synthetic sheets"
        pl.seed_everything(self.seed, workers=True, verbose=False)
        with progress() as report:
            data = DefectDataModule(
                "synthetic", cache=cache, family="sheets", n=self.n, size=self.size,
                strip_seed=self.seed, seed=self.seed, augment=Augment(), progress=report,
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


def make_trainer(
    hardware: Hardware,
    *,
    epochs: int,
    callbacks: list[pl.Callback],
    logger: pl.loggers.Logger | None = None,
    profiler: Profiler | None = None,
    validate: bool = True,
) -> pl.Trainer:
    """Lightning's trainer, as every fit here wants it."""
    return pl.Trainer(
        accelerator=hardware.accelerator,
        devices=hardware.devices,
        num_nodes=hardware.nodes,
        strategy="auto" if hardware.processes == 1 else "ddp",
        # Batch normalisation over the whole batch; on CPUs torch has it a process only.
        sync_batchnorm=hardware.processes > 1 and hardware.accelerator == "cuda",
        precision=hardware.precision,  # type: ignore[arg-type]
        max_epochs=epochs,
        callbacks=callbacks,
        logger=logger or False,
        profiler=profiler,
        limit_val_batches=None if validate else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        enable_checkpointing=any(isinstance(c, pl.callbacks.Checkpoint) for c in callbacks),
        # A cell's processes are ours (tlunet.study.training.processes), a Slurm job not Lightning's affair.
        plugins=[AsyncCheckpointIO(WholeFiles()), LightningEnvironment()],
        benchmark=hardware.accelerator == "cuda",  # cuDNN tries its kernels once a shape
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,  # the datamodule's own order holds
    )
