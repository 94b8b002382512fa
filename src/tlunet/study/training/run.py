"""One cell, from its configuration to its finished run folder."""

import pickle
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from tlunet.errors import UserError
from tlunet.machine.console import complain, say
from tlunet.machine.files import read_json
from tlunet.model.scores import DEAD_BELOW
from tlunet.runs.results import not_found, state_of
from tlunet.study.training import processes, record
from tlunet.study.training.failures import explain
from tlunet.study.training.fit import starting_weights, train_and_test
from tlunet.study.training.resolve import Cell, resolve
from tlunet.study.training.signals import Stopped, Stopping, heed_signals


def run(cfg: DictConfig) -> float | None:
    """Run one cell: prepare, train, test, write it all down. Never raises but on a signal.

    The cell's folder says how it ended (``status.json``). A finished cell is not run again; one
    that was broken off goes on from its last checkpoint.

    Returns:
        The lowest validation loss; ``None`` if the cell did not finish.

    Raises:
        Stopped: by a signal.
    """
    try:
        cell = resolve(cfg)
        is_given = processes.join_given(cell.hardware.processes)
        if processes.rank() > 0:  # of processes that a Slurm job has started: rank 0 decides
            _follow(cell)
            return None
        cell.folder.mkdir(parents=True, exist_ok=True)
    except UserError as error:
        complain(*error.lines)
        return None
    except OSError as error:
        complain(f"{error.filename}: {error.strerror}")
        return None
    with record.lock(cell.folder) as is_mine, heed_signals() as stopping:
        is_over = state_of(cell.folder) == "finished" and not cell.config["force"]
        if not is_mine or is_over:
            processes.tell(False)
        if not is_mine:
            say(f"– {cell.title}: another process runs it ({cell.folder})")
            return None
        if is_over:
            say(f"✓ {cell.title}: finished before ({cell.folder})")
            return read_json(cell.folder / "meta.json")["best_val_loss"]
        try:
            _begin(cell)
            if cell.hardware.processes > 1 and not is_given:
                processes.launch(work, cell.config, cell.hardware, stopping)
            else:
                train_and_test(cell, stopping)
            meta = read_json(cell.folder / "meta.json")
            record.set_state(cell.folder, "finished")
            _announce(cell, meta)
            return meta["best_val_loss"]
        except Stopped as stop:
            _fail(cell, f"{stop}; the same command goes on from the last checkpoint")
            raise
        except Exception as error:  # one cell's failure must not end the sweep
            _fail(cell, explain(error, cell))
    return None


def _follow(cell: Cell) -> None:
    """What the processes beside rank 0 do: no lock, no files."""
    with heed_signals() as stopping:
        if processes.tell(False):
            train_and_test(cell, stopping)


def work(config: dict[str, Any], stopping: Stopping) -> None:
    """One of several processes' part in a cell that is begun (:func:`tlunet.study.training.processes.launch`).

    Raises:
        UserError: what failed, in one line.
        Stopped: by a signal.
    """
    cell = resolve(OmegaConf.create(config))
    try:
        train_and_test(cell, stopping)
    except Exception as error:
        raise UserError(explain(error, cell)) from error


def _begin(cell: Cell) -> None:
    """What is done once, whatever the number of processes; they hear whether to go on."""
    is_ready = False
    try:
        record.begin(cell)
        if cell.missing:
            raise cell.missing
        _set_aside_if_damaged(cell)
        if cell.start and not (cell.folder / "last.ckpt").exists():
            starting_weights(cell)  # fetched, or trained
        is_ready = True
    finally:
        processes.tell(is_ready)


def _set_aside_if_damaged(cell: Cell) -> None:
    """Begin anew where a checkpoint cannot be read: what follows from the seed follows again."""
    last = cell.folder / "last.ckpt"
    if not last.exists():
        return
    damaged, best = last, cell.folder / "best.ckpt"
    try:
        content = torch.load(last, map_location="cpu", weights_only=True, mmap=True)
        if content["callbacks"]["Checkpoints"]["best_epoch"] is not None:
            damaged = best
            torch.load(best, map_location="cpu", weights_only=True, mmap=True)
    except (
        RuntimeError,
        ValueError,
        KeyError,
        EOFError,
        FileNotFoundError,
        pickle.PickleError,
    ) as e:
        reason = (str(e).splitlines() or [type(e).__name__])[0]
        last.replace(last.with_suffix(".damaged"))
        say(
            f"  {cell.title}: {damaged.name} cannot be read ({reason}); last.ckpt is set aside as "
            "last.damaged and the run begins anew, with the same results"
        )


def _announce(cell: Cell, meta: dict[str, Any]) -> None:
    scores = read_json(cell.folder / "metrics.json")
    named = {
        "Dice": scores["dice_image"],
        "IoU": scores["iou_image"],
        "MLA": scores["mla"],
        "AUC": scores["auc"]["mean"],
    }
    shown = "  ".join(f"{k} {v:.3f}" for k, v in named.items() if v is not None)
    dead = scores["dead_classes"]
    alarm = f"  {not_found(dead)} (pooled Dice below {DEAD_BELOW:g})" if dead else ""
    say(f"✓ {cell.title}: {shown}  {meta['seconds']:.0f} s{alarm}  → {cell.folder}")


def _fail(cell: Cell, error: str) -> None:
    try:
        record.set_state(cell.folder, "failed", error)
    except OSError as unwritten:  # the disk that was full is full still
        complain(f"{cell.folder}/status.json: {unwritten.strerror}; the cell counts as broken off")
    say(f"✗ {cell.title}: {error}")
