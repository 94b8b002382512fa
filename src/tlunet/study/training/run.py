"""Running one cell, from its configuration to its finished run folder."""

import errno
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from tlunet.errors import UserError, first_line, path_of, reason_of
from tlunet.machine.console import complain, console, say
from tlunet.machine.files import read_json, write_text
from tlunet.machine.streams import make_patient
from tlunet.model.scores import DEAD_BELOW
from tlunet.runs.cell import Cell
from tlunet.runs.folder import lock, set_state, state_of
from tlunet.runs.results import not_found
from tlunet.study.training import processes, record
from tlunet.study.training.fit import train_and_test
from tlunet.study.training.lines import clock, fitted, score
from tlunet.study.training.resolve import resolve
from tlunet.study.training.signals import Stopped, Stopping, heed_signals
from tlunet.study.training.starting_weights import starting_weights


def run_cell(cfg: DictConfig, then: Callable[[Path], None] | None = None) -> float | None:
    """Run one cell: prepare, train, test and save the results. Raises only on a signal.

    The cell's folder records how it ended (``status.json``). A finished cell is skipped; an
    interrupted one resumes from its last checkpoint.

    Args:
        cfg: the composed configuration.
        then: called with the folder of a finished cell, also of one that was finished before.

    Returns:
        The validation loss of the best epoch; ``None`` if the cell did not finish.

    Raises:
        Stopped: a signal arrived.
    """
    try:
        processes.take_given_device(cfg.trainer.accelerator)
        cell = resolve(cfg)
        is_given = processes.join_given(cell.hardware.processes)
        if processes.rank() > 0:  # processes started by a Slurm job: rank 0 decides
            _follow(cell)
            return None
        cell.folder.mkdir(parents=True, exist_ok=True)
    except UserError as error:
        complain(*error.lines)
        return None
    except OSError as error:
        complain(f"{path_of(error, cfg.paths.runs)}: {reason_of(error)}")
        return None
    with lock(cell.folder) as is_mine, heed_signals() as stopping:
        loss = _run(cell, is_mine, is_given, stopping)
        if loss is not None and then:
            then(cell.folder)
        return loss


def _run(cell: Cell, is_mine: bool, is_given: bool, stopping: Stopping) -> float | None:
    """Run a locked cell unless it is finished or another process runs it; its validation loss."""
    is_over = state_of(cell.folder) == "finished" and not cell.config["force"]
    if not is_mine or is_over:
        processes.broadcast(False)
    if not is_mine:
        say(f"– {cell.title}: already running in another process ({cell.folder})")
        return None
    if is_over:
        say(f"✓ {cell.title}: already finished ({cell.folder})")
        return read_json(cell.folder / "meta.json")["best_val_loss"]
    try:
        if not console.is_terminal:  # its live line would say it
            say(f"  {cell.title}  → {cell.folder}")
        _begin(cell)
        if cell.hardware.processes > 1 and not is_given:
            processes.launch(work, cell.config, cell.hardware, stopping)
        else:
            train_and_test(cell, stopping)
        meta = read_json(cell.folder / "meta.json")
        lines = _summary(cell, meta)
        set_state(cell.folder, "finished")
        for line in lines:
            say(line)
        return meta["best_val_loss"]
    except Stopped as stop:
        _fail(cell, f"{stop}; run the same command to resume from the last checkpoint")
        raise
    except Exception as error:  # one cell's failure must not end the sweep
        _fail(cell, explain(error, cell))

    return None


def _follow(cell: Cell) -> None:
    """Train and test in a process other than rank 0, without lock or files."""
    with heed_signals() as stopping:
        if processes.broadcast(False):
            train_and_test(cell, stopping)


def work(config: dict[str, Any], stopping: Stopping) -> None:
    """Train and test in one of several processes of a prepared cell (``processes.launch``).

    Raises:
        UserError: one line that says what failed.
        Stopped: a signal arrived.
    """
    make_patient()
    cell = resolve(OmegaConf.create(config))
    try:
        train_and_test(cell, stopping)
    except Exception as error:
        raise UserError(explain(error, cell)) from error


def _begin(cell: Cell) -> None:
    """Prepare the cell once, and tell the other processes whether to continue."""
    is_ready = False
    try:
        record.begin(cell)
        if cell.missing:
            raise cell.missing
        _set_aside_if_damaged(cell)
        if cell.start and not (cell.folder / "last.ckpt").exists():
            starting_weights(cell, cell.start)  # downloaded or trained
        is_ready = True
    finally:
        processes.broadcast(is_ready)


def _set_aside_if_damaged(cell: Cell) -> None:
    """Start from scratch if a checkpoint cannot be read; the seed gives the same results."""
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
        last.replace(last.with_suffix(".damaged"))
        say(
            f"  {cell.title}: {damaged.name} cannot be read ({first_line(e)}); last.ckpt was "
            "renamed to last.damaged and the run starts from scratch, with the same results"
        )


def _summary(cell: Cell, meta: dict[str, Any]) -> list[str]:
    scores = read_json(cell.folder / "metrics.json")
    told = (score("test Dice", scores["dice_image"]), score("MLA", scores["mla"]))
    lines = [fitted(f"✓ {cell.title}", *told, clock(meta["seconds"]))]
    if dead := scores["dead_classes"]:
        lines.append(f"! {cell.title}: {not_found(dead)} (pooled Dice below {DEAD_BELOW:g})")
    return lines


def _fail(cell: Cell, error: str) -> None:
    try:
        set_state(cell.folder, "failed", error)
    except OSError as unwritten:  # e.g. the disk is still full
        complain(
            f"{cell.folder}/status.json: {reason_of(unwritten)}; the cell counts as interrupted"
        )
    say(f"✗ {cell.title}: {error}")


_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "your quota is used up: free some space",
    errno.EROFS: "the file system is read-only: set paths.runs and paths.data to writable folders",
    errno.EACCES: "set paths.runs and paths.data to writable folders",
}
_AGAIN = "run the same command to resume from the last checkpoint"


def explain(error: Exception, cell: Cell) -> str:
    """Explain what failed and what to do; unexpected errors also go to ``traceback.txt``."""
    if isinstance(error, UserError):
        return "; ".join(error.lines)
    if isinstance(error, OSError) and error.errno in _ADVICE:
        where = path_of(error, cell.folder)
        return f"{where}: {reason_of(error)}; {_ADVICE[error.errno]}, then {_AGAIN}"
    try:
        write_text(cell.folder / "traceback.txt", "".join(traceback.format_exception(error)))
    except OSError as unwritten:
        complain(f"{cell.folder}: {reason_of(unwritten)}; cannot write traceback.txt")
        complain(*traceback.format_exception(error))
    return f"{type(error).__name__}: {first_line(error)} (see {cell.folder}/traceback.txt)"
