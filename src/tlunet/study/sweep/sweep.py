"""Around the cells of one command: checks before the first, launches, a table after the last."""

import os
import shutil
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from itertools import compress
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from tlunet.data.checks.describe import gaps, require_training_image, vanished
from tlunet.errors import WeightsError
from tlunet.machine import jobs
from tlunet.machine.console import banner, complain, console, progress, say
from tlunet.machine.files import read_json, write_text, write_whole
from tlunet.model.init import Source, fetch
from tlunet.runs import results
from tlunet.runs.results import state_of
from tlunet.runs.status import Row, read_study
from tlunet.study.sweep.job import let_workers_end
from tlunet.study.sweep.launcher import LEFT_OUT, Launcher
from tlunet.study.sweep.locate import Asked, find, is_finished, stamps
from tlunet.study.training import record
from tlunet.study.training.failures import step_bytes
from tlunet.study.training.resolve import Cell, resolve

TRIES = 2  # so often may a cell's process die before the others are launched without it
PAUSE = 5.0  # seconds between two looks at cells that run elsewhere


def prepare(cells: Sequence[DictConfig], launcher: Launcher) -> "Sweep":
    """Prepare data and names of all cells before the first one runs.

    Raises:
        UserError: anything that can be known to be wrong before training.
    """
    if not launcher.is_here:
        cells = [_for_elsewhere(cfg) for cfg in cells]
    with progress() as report:
        resolved = [resolve(cfg, report) for cfg in cells]
    for cell in resolved:
        require_training_image(cell.data.split, cell.frac)
    for folder, cell in {cell.data.pack.folder: cell for cell in resolved}.items():
        _introduce(cell)
        _warn_of_gaps([cell for cell in resolved if cell.data.pack.folder == folder])
    if not launcher.is_here:
        say(f"that is this machine; the cells run where hydra/launcher={launcher.name} starts them")
        for start in {cell.start for cell in resolved if isinstance(cell.start, Source)}:
            with suppress(WeightsError):  # the cell says so; many nodes have no way to the hub
                fetch(start)
    studies = list(dict.fromkeys(cell.folder.parent for cell in resolved))
    if launcher.is_search:
        return Sweep([], launcher, studies)
    return Sweep([Asked(cell.folder, cell.science) for cell in resolved], launcher, studies)


def _for_elsewhere(cfg: DictConfig) -> DictConfig:
    """The cell without what this machine need not have: a login node has no GPU."""
    accelerator = "cpu" if cfg.trainer.accelerator == "cpu" else "auto"
    trainer = {"accelerator": accelerator, "devices": 1, "nodes": 1}
    merged = OmegaConf.merge(cfg, {"trainer": trainer, "data": {"residency": "auto"}})
    assert isinstance(merged, DictConfig)
    return merged


class Sweep:
    """The cells of one command, from their launch to their table.

    Args:
        asked: a cell each of Hydra's jobs, in its order; of a search nobody knows them.
        launcher: who starts them.
        studies: the folders that hold the cells'.
    """

    def __init__(self, asked: Sequence[Asked], launcher: Launcher, studies: Sequence[Path]) -> None:
        self.asked = asked
        self.launcher = launcher
        self.studies = studies
        self._is_whole = True
        self._began = time.time()
        self._before = stamps(self.studies)

    @property
    def folders(self) -> list[Path]:
        """Where each cell is run; of a search those that it has run now."""
        if self.launcher.is_search:
            now = stamps(self.studies)
            return [folder for folder in now if now[folder] != self._before.get(folder)]
        here = self.launcher.is_here
        return [cell.folder for cell in self.asked] if here else find(self.asked, self._before)

    def launch(self, job: Callable[[], object]) -> None:
        """Let Hydra start the cells, and wait until none of them runs any more.

        When a process of theirs dies (killed, out of memory, its node gone), launchers give up
        the rest, too. What is left is then launched again, without the cells that failed or died
        for the second time.

        Args:
            job: Hydra's entry.
        """
        deaths = [0] * len(self.asked)
        is_over = [False] * len(self.asked)
        while True:
            before = stamps(self.studies)
            self._is_whole = self._attempt(job, is_over)
            self._wait()
            if self._is_whole or self.launcher.is_search:
                return
            now, has_moved = stamps(self.studies), False
            for k, folder in enumerate(self.folders):
                state, is_new = state_of(folder), now.get(folder) != before.get(folder)
                has_moved |= is_new
                deaths[k] += is_new and state == "running"
                is_over[k] |= (
                    state == "finished" or (is_new and state == "failed") or deaths[k] >= TRIES
                )
            if not has_moved or all(is_over):
                return
            say(f"launched again: {is_over.count(False)} cells that are not over")

    def conclude(self) -> int:
        """Gather ``results.csv`` of every study touched and show the table.

        Returns:
            0 if every cell is finished, else 1.
        """
        folders = list(dict.fromkeys(self.folders))
        for folder in folders:
            record.give_up(folder)
        for study in self.studies:
            study.mkdir(parents=True, exist_ok=True)
            table = results.gather(study)
            console.print(results.show(table, {f.name for f in folders if f.parent == study}))
            say(f"results: {study / 'results.csv'}    runs: {study}/<cell>/")
        unfinished = [f for f in folders if not is_finished(f)]
        for folder in unfinished:
            error = read_json(folder / "status.json").get("error")
            complain(f"{folder}: {state_of(folder)}" + (f": {error}" if error else ""))
        if self.launcher.is_search and self._is_whole:
            self._show_best()
        is_search_broken = self.launcher.is_search and not self._is_whole
        return 1 if unfinished or is_search_broken else 0

    def _show_best(self) -> None:
        file = self.launcher.folder / "optimization_results.yaml"  # where Optuna's sweeper puts it
        if not file.exists() or file.stat().st_mtime < self._began:
            return
        found = OmegaConf.load(file)
        for study in self.studies:
            write_whole(study / "search.yaml", lambda path: shutil.copyfile(file, path))
        if "best_params" in found:  # of several objectives there is no best
            chosen = " ".join(f"{key}={value}" for key, value in found.best_params.items())
            say(f"lowest validation loss: {found.best_value:.4g} with {chosen}")

    def _attempt(self, job: Callable[[], object], is_over: Sequence[bool]) -> bool:
        """Whether Hydra's launcher came to its end; if not, why is said in a line."""
        argv = sys.argv
        if numbers := " ".join(map(str, compress(range(len(is_over)), is_over))):
            sys.argv = [*argv, f"++hydra.job.env_set.{LEFT_OUT}='{numbers}'"]
        if self.launcher.is_slurm:
            jobs.watch_queue()
        if self.launcher.is_search:
            _hush_optuna()
        environ = dict(os.environ)
        os.environ.update(self.launcher.environment)
        try:
            with let_workers_end() if self.launcher.is_pool else nullcontext():
                job()
        except Exception as error:
            name, first = type(error).__name__, (str(error).splitlines() or [""])[0]
            log = self.launcher.folder / f"{self.launcher.name}.txt"
            write_text(log, traceback.format_exc())
            complain(f"hydra/launcher={self.launcher.name}: {name}: {first} (see {log})")
            return False
        finally:
            sys.argv = argv
            os.environ.clear()
            os.environ.update(environ)
        return True

    def _wait(self) -> None:
        """Until no other process runs one of the cells, and no job of this command is queued."""
        is_told = False
        while busy := self._busy():
            if not is_told:
                say(f"waiting for {', '.join(busy)}")
                is_told = True
            time.sleep(PAUSE)

    def _busy(self) -> list[str]:
        """What is not over, though no launcher waits for it."""
        folders = [folder for folder in self.folders if (folder / "status.json").exists()]
        rows = {s / row.folder: row for s in {f.parent for f in folders} for row in read_study(s)}
        busy = [f"{f} ({rows[f].job or rows[f].host})" for f in folders if _runs(f, rows[f])]
        if self.launcher.is_slurm:
            submitted = self.launcher.folder.glob(".submitit/*")
            ours = {
                "slurm " + path.name.partition("_")[0]
                for path in submitted
                if path.stat().st_mtime >= self._began
            }
            busy += jobs.queue(ours) or {}
        return busy


def _hush_optuna() -> None:
    """The cells say it all."""
    with suppress(ImportError):  # another plugin's search
        import optuna

        optuna.logging.disable_default_handler()


def _runs(folder: Path, row: Row) -> bool:
    """Whether a cell's process lives, or its job will start one."""
    is_told = row.host == socket.gethostname() or (
        shutil.which("squeue") and (row.job or "").startswith("slurm")
    )
    if row.state == "running" and not is_told:  # on another host: its lock knows
        with record.lock(folder) as is_mine:
            return not is_mine
    return row.state in ("running", "queued")


def _introduce(cell: Cell) -> None:
    """Say once, before anything is trained, which data this is."""
    data, pack = cell.data, cell.data.pack
    height, width = pack.size
    test = pack.labels[data.rows["test"]]
    balance = ", ".join(
        f"{name} {total} ({in_test})"
        for name, total, in_test in zip(pack.classes, pack.labels.sum(0), test.sum(0), strict=True)
    )
    free, free_in_test = (int((~labels.any(1)).sum()) for labels in (pack.labels, test))
    lines = [
        f"images with class, in all (in the test part): {balance}; "
        f"free of defects {free} ({free_in_test})",
        *vanished(pack.labels, pack.mask_labels, pack.classes, pack.size),
    ]
    if pack.left_out:
        lines.append(f"{len(pack.left_out)} faults; their images are left out (see meta.json)")
    if data.dataset == "synthetic":
        banner(
            "SYNTHETIC DATA",
            f"{len(pack)} procedural strips of {height}×{width}. They are not steel, and no "
            "result on them is a result on steel.",
            *lines,
            "The real data: Kaggle's train_images/ and train.csv in data/severstal (README.md).",
        )
    else:
        say(f"{data.dataset}: {len(pack)} images of {height}×{width} from {data.root}")
        say("\n".join(lines))
    machine = cell.hardware
    mib = pack.nbytes / 2**20
    if machine.accelerator == "cuda":
        data.reserved = step_bytes(cell, cell.config["batch_size"])
    size = f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib:.1f} MiB"
    where = "on the GPU" if data.lives_on(machine.device) else "memory-mapped"
    say(f"images and masks: {size}, {where}")
    say(
        f"on {machine.name} ({machine.accelerator}, {machine.precision}, {machine.threads} threads)"
    )


def _warn_of_gaps(cells: Sequence[Cell]) -> None:
    """Say which classes some part of the data has no image of; each such fact once."""
    lines: dict[str, None] = {}
    for cell in cells:
        split, pack = cell.data.split, cell.data.pack
        is_split = pack.index["image_id"].isin(split["image_id"]).to_numpy()  # in the same order
        lines |= dict.fromkeys(gaps(split, pack.labels[is_split], pack.classes, cell.frac))
    if lines:
        banner("CLASSES ARE MISSING", *lines)
