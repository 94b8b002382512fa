"""Training and testing a cell, in one process or in each of several."""

from contextlib import nullcontext
from functools import cache
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping

from tlunet.errors import UserError
from tlunet.machine.files import read_json, write_json, write_whole
from tlunet.machine.memory import forget_peak_memory, peak_memory
from tlunet.model.memory import forward_flops
from tlunet.model.network import TLUNet, library_network
from tlunet.model.rest.rest import Rest, make_rest
from tlunet.model.scores import per_image, summarise
from tlunet.model.task import DefectTask
from tlunet.runs.cell import Cell
from tlunet.runs.data import learnt_from_rest
from tlunet.runs.masks import FILE
from tlunet.study.config.instantiate import instantiate
from tlunet.study.training import processes
from tlunet.study.training.callbacks.checkpoints import Checkpoints
from tlunet.study.training.callbacks.history import History
from tlunet.study.training.callbacks.masks import PredictedMasks
from tlunet.study.training.callbacks.progress import Progress
from tlunet.study.training.callbacks.reseed import Reseed
from tlunet.study.training.callbacks.rewind import RewindValidation
from tlunet.study.training.callbacks.steps import Steps
from tlunet.study.training.memory import (
    free_for_steps,
    is_out_of_memory,
    is_short_of_memory,
    what_fits,
)
from tlunet.study.training.signals import Stopping
from tlunet.study.training.starting_weights import load_start
from tlunet.study.training.trainer import make_trainer
from tlunet.tracking.base import EpochLogger
from tlunet.tracking.open import open_logger


def train_and_test(cell: Cell, stopping: Stopping) -> None:
    """Train and test the cell; every process does its part, rank 0 writes the results.

    Args:
        cell: a prepared cell whose folder contains ``meta.json``.
        stopping: records signals.

    Raises:
        Stopped: a signal arrived; a checkpoint was written.
        UserError: the loss became NaN or infinite, or memory ran out.
    """
    forget_peak_memory(cell.hardware.accelerator)
    free = free_for_steps(cell)
    attempt = read_json(cell.folder / "meta.json")["attempt"]
    try:
        task = _make_task(cell, free)
        with open_logger(cell, attempt) if processes.rank() == 0 else nullcontext() as logger:
            trainer, history, checkpoints = _train(task, cell, logger, stopping)
            _test(task, trainer, cell)
            if logger:
                logger.log_test(cell)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(what_fits(cell, free)) from error
    assert checkpoints.best_loss is not None  # otherwise there is no best.ckpt to test
    if processes.rank() == 0:
        meta = read_json(cell.folder / "meta.json") | {
            "epochs": len(history.rows),
            "best_epoch": checkpoints.best_epoch,
            "best_val_loss": checkpoints.best_loss,
            "seconds": sum(row["seconds"] for row in history.rows),
            "images_per_second": history.images_per_second,
            "peak_memory": peak_memory(cell.hardware.accelerator),
            "parameters": sum(p.numel() for p in task.network.parameters()),
            "encoder_parameters": sum(p.numel() for p in task.network.encoder.parameters()),
            "gflop_per_image": _gflop_per_image(
                cell.config["encoder"]["name"],
                len(cell.data.pack.classes),
                cell.config["arch"]["name"],
                tuple(cell.data.pack.size),
            ),
        }
        write_json(cell.folder / "meta.json", meta)


def _make_task(cell: Cell, free: int | None) -> DefectTask:
    """Create the network with its starting weights; the seed controls all other randomness."""
    config, data = cell.config, cell.data
    # Before seeding: this draws random numbers, but only on the first call.
    is_short = is_short_of_memory(cell, free)
    pl.seed_everything(cell.seed, workers=True, verbose=False)
    M, arch = len(data.pack.classes), config["arch"]["name"]
    network = TLUNet(config["encoder"]["name"], M, data.mean, data.std, arch)
    # A resumed cell takes its weights from its checkpoint: the hub may be unreachable by now.
    if not (cell.folder / "last.ckpt").exists():
        loaded = load_start(network, cell)
        if processes.rank() == 0:
            meta = read_json(cell.folder / "meta.json") | {"starting_weights": loaded}
            write_json(cell.folder / "meta.json", meta)
    network.recompute_encoder = is_short
    task = DefectTask(
        network.to(memory_format=cell.hardware.memory_format),
        instantiate(config["loss"]),
        lr=config["optimizer"]["lr"],
        betas=config["optimizer"]["betas"],
        **_training_options(cell),
        threshold=config["threshold"],
        classes=data.pack.classes,
        batch_size=config["batch_size"],
        rest=_make_rest(cell),
    )
    if cell.hardware.compile:
        beside = data.rest_batch_size
        task.compile_for(data.batch_size + beside, data.eval_batch_size, *filter(None, [beside]))
    return task


def _training_options(cell: Cell) -> dict[str, Any]:
    """Optimiser, schedule and averaging; runs of earlier versions lack these keys."""
    optimizer = cell.config["optimizer"]
    names = ("weight_decay", "clip", "schedule", "warmup")
    options = {name: optimizer[name] for name in names if name in optimizer}
    steps = cell.epochs * len(cell.data.training_order())
    name = optimizer.get("name", "adam")
    return options | {"optimizer": name, "steps": steps, "ema": cell.config.get("ema")}


def _make_rest(cell: Cell) -> Rest | None:
    """Create what learns from the images that are left out, if any."""
    values = learnt_from_rest(cell.config)
    values.pop("batch_size", None)
    return make_rest(classes=len(cell.data.pack.classes), **values) if values else None


@cache  # shared by the cells of a sweep
def _gflop_per_image(encoder: str, classes: int, arch: str, size: tuple[int, int]) -> float:
    return forward_flops(library_network(encoder, classes, arch), (1, 3, *size)) / 1e9


def _train(
    task: DefectTask, cell: Cell, logger: EpochLogger | None, stopping: Stopping
) -> tuple[pl.Trainer, History, Checkpoints]:
    folder = cell.folder
    bar = Progress(cell.title, cell.epochs)
    steps = Steps()
    history = History(folder / "history.csv", on_row=bar.show, steps=steps)
    monitor = cell.config["early_stopping"].get("monitor", "val_loss")
    mode = "max" if monitor == "val_dice" else "min"
    early = EarlyStopping(monitor, patience=cell.patience, mode=mode) if cell.patience else None
    minutes = cell.config["checkpoint_minutes"]
    checkpoints = Checkpoints(folder, early, stopping, minutes, monitor)
    callbacks: list[Callback] = [
        bar,
        Reseed(),
        RewindValidation(),
        steps,
        history,
        checkpoints,
        *([early] if early else []),
    ]
    trainer = make_trainer(
        cell.hardware,
        epochs=cell.epochs,
        callbacks=callbacks,
        logger=logger,
        profiler=steps.waiting,
    )
    last = folder / "last.ckpt"
    trainer.fit(task, cell.data, ckpt_path=last if last.exists() else None, weights_only=True)
    return trainer, history, checkpoints


def _test(task: DefectTask, trainer: pl.Trainer, cell: Cell) -> None:
    """Test the best epoch and save per-image results."""
    trainer.strategy.barrier()  # wait until the checkpoint is written
    best = torch.load(cell.folder / "best.ckpt", map_location="cpu", weights_only=True)
    task.load_state_dict(best["state_dict"])
    masks = PredictedMasks()
    trainer.callbacks.append(masks)  # type: ignore[attr-defined]
    trainer.test(task, cell.data, verbose=False)
    counts = task.test_metrics.counts()
    mask_table = masks.table(cell.data.pack.index["image_id"].tolist())
    if processes.rank() > 0:
        return
    scores = summarise(counts, cell.config["threshold"])
    pack = cell.data.pack
    table = per_image(counts, pack.index["image_id"].tolist(), pack.classes)
    file = cell.folder / "test_images.parquet"
    write_whole(file, lambda path: table.to_parquet(path, index=False))
    write_whole(cell.folder / FILE, lambda path: mask_table.to_parquet(path, index=False))
    write_json(cell.folder / "metrics.json", scores)
