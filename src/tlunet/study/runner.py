"""One cell, from its configuration to its finished run folder."""

import traceback
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback, EarlyStopping

from tlunet.errors import UserError
from tlunet.model.init import Source, fetch, load_encoder, read_weights
from tlunet.model.memory import forward_flops, kept_bytes
from tlunet.model.network import TLUNet, library_unet
from tlunet.model.scores import per_image, summarise
from tlunet.model.task import DefectTask
from tlunet.study import record
from tlunet.study.callbacks import Checkpoints, History, Progress
from tlunet.study.cell import Cell, instantiate, resolve
from tlunet.study.console import complain, say
from tlunet.study.files import read_json, write_json, write_text, write_whole
from tlunet.study.hardware import forget_peak_memory, free_memory, peak_memory
from tlunet.study.loggers import open_logger
from tlunet.study.masks import FILE, PredictedMasks
from tlunet.study.pretrain import Recipe, make_trainer
from tlunet.study.results import state_of


def run(cfg: DictConfig) -> float | None:
    """Run one cell: prepare, train, test, write it all down. Never raises but on an interrupt.

    The cell's folder says how it ended (``status.json``). A finished cell is not run again; one
    that was broken off goes on from its last checkpoint.

    Returns:
        The lowest validation loss; ``None`` if the cell did not finish.
    """
    try:
        cell = resolve(cfg)
    except UserError as error:
        complain(*error.lines)
        return None
    cell.folder.mkdir(parents=True, exist_ok=True)
    with record.lock(cell.folder) as is_mine:
        if not is_mine:
            say(f"– {cell.title}: another process runs it ({cell.folder})")
            return None
        if state_of(cell.folder) == "finished" and not cell.config["force"]:
            say(f"✓ {cell.title}: finished before ({cell.folder})")
            return read_json(cell.folder / "meta.json")["best_val_loss"]
        try:
            return _run(cell)
        except (KeyboardInterrupt, SystemExit):  # Lightning turns the first into the second
            _fail(cell, "interrupted; the same command goes on from the last checkpoint")
            raise
        except UserError as error:
            _fail(cell, "; ".join(error.lines))
        except Exception as error:  # one cell's failure must not end the sweep
            write_text(cell.folder / "traceback.txt", traceback.format_exc())
            first = (str(error).splitlines() or [""])[0]
            _fail(cell, f"{type(error).__name__}: {first} (see {cell.folder}/traceback.txt)")
    return None


def _run(cell: Cell) -> float:
    meta = record.begin(cell)
    if cell.missing:
        raise cell.missing
    forget_peak_memory(cell.hardware.accelerator)
    task = _make_task(cell, meta)
    with open_logger(cell, meta["attempt"]) as logger:
        trainer, history, checkpoints = _train(task, cell, logger)
        scores = _test(task, trainer, cell)

    assert checkpoints.best_loss is not None
    meta |= {
        "epochs": len(history.rows),
        "best_epoch": checkpoints.best_epoch,
        "best_val_loss": checkpoints.best_loss,
        "seconds": sum(row["seconds"] for row in history.rows),
        "images_per_second": history.images_per_second,
        "peak_memory": peak_memory(cell.hardware.accelerator),
        "parameters": sum(p.numel() for p in task.network.parameters()),
        "encoder_parameters": sum(p.numel() for p in task.network.encoder.parameters()),
        "gflop_per_image": _gflop_per_image(cell),
    }
    write_json(cell.folder / "meta.json", meta)
    record.set_state(cell.folder, "finished")
    _announce(cell, scores, meta)
    return checkpoints.best_loss


def _make_task(cell: Cell, meta: dict[str, Any]) -> DefectTask:
    """The network with its starting weights; everything else random follows from the seed."""
    config, data = cell.config, cell.data
    pl.seed_everything(cell.seed, workers=True, verbose=False)
    network = TLUNet(config["encoder"]["name"], len(data.pack.classes), data.mean, data.std)
    # A broken-off cell gets its weights from its checkpoint: the hub may be out of reach by now.
    if not (cell.folder / "last.ckpt").exists():
        meta["starting_weights"] = _load_start(network, cell)
        write_json(cell.folder / "meta.json", meta)
    network.recompute_encoder = _is_short_of_memory(cell)
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


def _gflop_per_image(cell: Cell) -> float:
    unet = library_unet(cell.config["encoder"]["name"], len(cell.data.pack.classes))
    return forward_flops(unet, (1, 3, *cell.data.pack.size)) / 1e9


def _is_short_of_memory(cell: Cell) -> bool:
    """Whether a step's activations would not fit; recomputing the encoder's changes no number."""
    free = free_memory(cell.hardware.accelerator)
    name, size = cell.config["encoder"]["name"], cell.data.pack.size
    batch_size = cell.config["batch_size"]
    needed = kept_bytes(TLUNet(name, len(cell.data.pack.classes)), batch_size, size)
    if cell.hardware.precision == "bf16-mixed":
        needed //= 2
    # Gradients of activations live beside them for a while: half as much again.
    if free is None or 1.5 * needed < free:
        return False
    say(
        f"  {cell.title}: a step keeps {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free; "
        "the encoder is computed twice instead (slower, the same numbers)"
    )
    return True


def _load_start(network: TLUNet, cell: Cell) -> dict[str, Any]:
    """Put the starting weights into the encoder; decoder and heads stay as the seed made them."""
    if cell.start is None:
        return {"identity": "random"}
    if isinstance(cell.start, Recipe):
        path = cell.start.weights(Path(cell.config["paths"]["data"]), cell.hardware)
    else:
        assert isinstance(cell.start, Source)
        path = fetch(cell.start)
    loaded = load_encoder(network.encoder, read_weights(path), source=str(path))
    return {"identity": cell.start.identity, "file": path.name, **loaded._asdict()}


def _train(
    task: DefectTask, cell: Cell, logger: pl.loggers.Logger | None
) -> tuple[pl.Trainer, History, Checkpoints]:
    config, folder = cell.config, cell.folder
    bar = Progress(cell.title, config["epochs"])
    history = History(folder / "history.csv", on_row=bar.show)
    patience = config["early_stopping"]["patience"]
    stopping = EarlyStopping("val_loss", patience=patience) if patience else None
    checkpoints = Checkpoints(folder, stopping)
    callbacks: list[Callback] = [bar, history, checkpoints, *([stopping] if stopping else [])]
    trainer = make_trainer(
        cell.hardware,
        epochs=config["epochs"],
        callbacks=callbacks,
        logger=logger,
    )
    last = folder / "last.ckpt"
    trainer.fit(task, cell.data, ckpt_path=last if last.exists() else None, weights_only=True)
    return trainer, history, checkpoints


def _test(task: DefectTask, trainer: pl.Trainer, cell: Cell) -> dict[str, Any]:
    """Test the epoch of lowest validation loss, and write down every image."""
    best = torch.load(cell.folder / "best.ckpt", map_location="cpu", weights_only=True)
    task.load_state_dict(best["state_dict"])
    masks = PredictedMasks()
    trainer.callbacks.append(masks)  # type: ignore[attr-defined]
    trainer.test(task, cell.data, verbose=False)
    counts = task.test_metrics.counts()
    scores = summarise(counts, cell.config["threshold"])
    pack = cell.data.pack
    table = per_image(counts, pack.index["image_id"].tolist(), pack.classes)
    file = cell.folder / "test_images.parquet"
    write_whole(file, lambda path: table.to_parquet(path, index=False))
    found = masks.table(pack.index["image_id"].tolist())
    write_whole(cell.folder / FILE, lambda path: found.to_parquet(path, index=False))
    write_json(cell.folder / "metrics.json", scores)
    return scores


def _announce(cell: Cell, scores: dict[str, Any], meta: dict[str, Any]) -> None:
    named = {
        "Dice": scores["dice_image"],
        "IoU": scores["iou_image"],
        "MLA": scores["mla"],
        "AUC": scores["auc"]["mean"],
    }
    shown = "  ".join(f"{k} {v:.3f}" for k, v in named.items() if v is not None)
    dead = ", ".join(map(str, scores["dead_classes"]))
    alarm = f"  never predicts class {dead}" if dead else ""
    say(f"✓ {cell.title}: {shown}  {meta['seconds']:.0f} s{alarm}  → {cell.folder}")


def _fail(cell: Cell, error: str) -> None:
    record.set_state(cell.folder, "failed", error)
    say(f"✗ {cell.title}: {error}")
