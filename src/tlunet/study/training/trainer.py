"""Creating the Lightning trainer of a cell."""

import pytorch_lightning as pl
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.profilers import Profiler

from tlunet.machine.device import Hardware
from tlunet.study.training.callbacks.kernels import TuneKernels
from tlunet.study.training.snapshots import Snapshots


def make_trainer(
    hardware: Hardware,
    *,
    epochs: int,
    callbacks: list[pl.Callback],
    logger: pl.loggers.Logger | None = None,
    profiler: Profiler | None = None,
    validate: bool = True,
) -> pl.Trainer:
    """Create a Lightning trainer with the settings shared by all fits."""
    return pl.Trainer(
        accelerator=hardware.accelerator,
        devices=hardware.devices,
        num_nodes=hardware.nodes,
        strategy="auto" if hardware.processes == 1 else "ddp",
        # Batch normalisation over the whole batch; on CPUs torch only supports it per process.
        sync_batchnorm=hardware.processes > 1 and hardware.accelerator == "cuda",
        precision=hardware.precision,  # type: ignore[arg-type]
        max_epochs=epochs,
        callbacks=[TuneKernels(), *callbacks],
        logger=logger or False,
        profiler=profiler,
        limit_val_batches=None if validate else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        enable_checkpointing=any(isinstance(c, pl.callbacks.Checkpoint) for c in callbacks),
        # study/training/processes.py starts a cell's processes, not Lightning.
        plugins=[Snapshots(), LightningEnvironment()],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,  # the datamodule defines the order
    )
