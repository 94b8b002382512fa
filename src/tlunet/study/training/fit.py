"""A cell's training and test, in one process or in each of several."""

from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping

from tlunet.data import residency
from tlunet.errors import UserError
from tlunet.machine.console import say
from tlunet.machine.device import forget_peak_memory, free_memory, peak_memory
from tlunet.machine.files import read_json, write_json, write_whole
from tlunet.model.init import Source, fetch, load_encoder, read_weights
from tlunet.model.memory import forward_flops
from tlunet.model.network import TLUNet, library_network
from tlunet.model.scores import per_image, summarise
from tlunet.model.task import DefectTask
from tlunet.study.training import processes
from tlunet.study.training.callbacks.checkpoints import Checkpoints, Progress
from tlunet.study.training.callbacks.history import History
from tlunet.study.training.callbacks.masks import FILE, PredictedMasks
from tlunet.study.training.callbacks.steps import Steps
from tlunet.study.training.failures import is_out_of_memory, step_bytes, what_fits
from tlunet.study.training.resolve import Cell, instantiate
from tlunet.study.training.signals import Stopping
from tlunet.study.training.starting_weights import Recipe, make_trainer
from tlunet.tracking.open import EpochLogger, open_logger


def train_and_test(cell: Cell, stopping: Stopping) -> None:
    """Train, test, and write down what came out; each process its share, rank 0 the files.

    Args:
        cell: begun; its folder holds ``meta.json``.
        stopping: where signals are noted.

    Raises:
        Stopped: by a signal, after a checkpoint.
        UserError: the loss is no number any more, or the memory was too small.
    """
    forget_peak_memory(cell.hardware.accelerator)
    free = _free_for_steps(cell)
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
    assert checkpoints.best_loss is not None  # or there was no best.ckpt to test
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


def _free_for_steps(cell: Cell) -> int | None:
    """Bytes that a step may take; a pack on the GPU makes way unless it was asked to be there."""
    free = free_memory(cell.hardware.accelerator)
    if free is None:
        return None
    is_held = cell.data.residency == "gpu"
    return free + residency.held() - (cell.data.pack.nbytes if is_held else 0)


def _make_task(cell: Cell, free: int | None) -> DefectTask:
    """The network with its starting weights; everything else random follows from the seed."""
    config, data = cell.config, cell.data
    # Before the seed is set: this may draw random numbers, and only the first time.
    is_short_of_memory = _is_short_of_memory(cell, free)
    pl.seed_everything(cell.seed, workers=True, verbose=False)
    M, arch = len(data.pack.classes), config["arch"]["name"]
    network = TLUNet(config["encoder"]["name"], M, data.mean, data.std, arch)
    # A broken-off cell gets its weights from its checkpoint: the hub may be out of reach by now.
    if not (cell.folder / "last.ckpt").exists():
        loaded = _load_start(network, cell)
        if processes.rank() == 0:
            meta = read_json(cell.folder / "meta.json") | {"starting_weights": loaded}
            write_json(cell.folder / "meta.json", meta)
    network.recompute_encoder = is_short_of_memory
    task = DefectTask(
        network.to(memory_format=cell.hardware.memory_format),
        instantiate(config["loss"]),
        lr=config["optimizer"]["lr"],
        betas=config["optimizer"]["betas"],
        threshold=config["threshold"],
        classes=data.pack.classes,
        batch_size=config["batch_size"],
    )
    if cell.hardware.compile:
        task.compile_for(data.batch_size, data.eval_batch_size)
    return task


@cache  # for the other cells of a sweep
def _gflop_per_image(encoder: str, classes: int, arch: str, size: tuple[int, int]) -> float:
    return forward_flops(library_network(encoder, classes, arch), (1, 3, *size)) / 1e9


def _is_short_of_memory(cell: Cell, free: int | None) -> bool:
    """Whether a step's activations would not fit; recomputing the encoder's changes no number."""
    needed = cell.data.reserved = step_bytes(cell, cell.config["batch_size"])
    if free is None or needed < free:
        return False
    say(
        f"  {cell.title}: a step takes {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free; "
        "the encoder is computed twice instead (slower, the same numbers)"
    )
    return True


def _load_start(network: TLUNet, cell: Cell) -> dict[str, Any]:
    """Put the starting weights into the encoder; decoder and heads stay as the seed made them."""
    if cell.start is None:
        return {"identity": "random"}
    path = starting_weights(cell)
    loaded = load_encoder(network.encoder, read_weights(path), source=str(path))
    return {"identity": cell.start.identity, "file": path.name, **loaded._asdict()}


def starting_weights(cell: Cell) -> Path:
    """The file of them, fetched or trained if it is not there yet."""
    if isinstance(cell.start, Recipe):
        return cell.start.weights(Path(cell.config["paths"]["data"]), cell.hardware)
    assert isinstance(cell.start, Source)
    return fetch(cell.start)


def _train(
    task: DefectTask, cell: Cell, logger: EpochLogger | None, stopping: Stopping
) -> tuple[pl.Trainer, History, Checkpoints]:
    config, folder = cell.config, cell.folder
    bar = Progress(cell.title, config["epochs"])
    steps = Steps()
    history = History(folder / "history.csv", on_row=bar.show, steps=steps)
    patience = config["early_stopping"]["patience"]
    early = EarlyStopping("val_loss", patience=patience) if patience else None
    checkpoints = Checkpoints(folder, early, stopping, config["checkpoint_minutes"])
    callbacks: list[Callback] = [bar, steps, history, checkpoints, *([early] if early else [])]
    trainer = make_trainer(
        cell.hardware,
        epochs=config["epochs"],
        callbacks=callbacks,
        logger=logger,
        profiler=steps.waiting,
    )
    last = folder / "last.ckpt"
    trainer.fit(task, cell.data, ckpt_path=last if last.exists() else None, weights_only=True)
    return trainer, history, checkpoints


def _test(task: DefectTask, trainer: pl.Trainer, cell: Cell) -> None:
    """Test the epoch of lowest validation loss, and write down every image."""
    trainer.strategy.barrier()  # until the checkpoint is written
    best = torch.load(cell.folder / "best.ckpt", map_location="cpu", weights_only=True)
    task.load_state_dict(best["state_dict"])
    masks = PredictedMasks()
    trainer.callbacks.append(masks)  # type: ignore[attr-defined]
    trainer.test(task, cell.data, verbose=False)
    counts = task.test_metrics.counts()
    found = masks.table(cell.data.pack.index["image_id"].tolist())
    if processes.rank() > 0:
        return
    scores = summarise(counts, cell.config["threshold"])
    pack = cell.data.pack
    table = per_image(counts, pack.index["image_id"].tolist(), pack.classes)
    file = cell.folder / "test_images.parquet"
    write_whole(file, lambda path: table.to_parquet(path, index=False))
    write_whole(cell.folder / FILE, lambda path: found.to_parquet(path, index=False))
    write_json(cell.folder / "metrics.json", scores)
