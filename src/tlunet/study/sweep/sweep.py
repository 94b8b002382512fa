"""Launching the cells of one command, waiting for them, and tabulating their results."""

import os
import shutil
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from itertools import compress
from pathlib import Path

from omegaconf import OmegaConf

from tlunet.errors import first_line
from tlunet.machine import jobs
from tlunet.machine.console import complain, say, show
from tlunet.machine.files import read_json, write_text, write_whole
from tlunet.runs import results
from tlunet.runs.folder import is_finished, lock, mark_dead, state_of
from tlunet.runs.status import Row, read_study
from tlunet.study.sweep.job import let_workers_end
from tlunet.study.sweep.launcher import CELLS, LEFT_OUT, Launcher, watch_queue
from tlunet.study.sweep.locate import PlannedCell, last_changes, locate

TRIES = 2  # attempts per cell: after this many deaths the others are launched without it
PAUSE = 5.0  # seconds between checks of cells that run elsewhere


class Sweep:
    """The cells of one command, from launch to results table.

    Args:
        asked: one cell per Hydra job, in Hydra's order; empty for a search.
        launcher: starts the cells.
        studies: study folders that contain the cells' folders.
    """

    def __init__(
        self, asked: Sequence[PlannedCell], launcher: Launcher, studies: Sequence[Path]
    ) -> None:
        self.asked = asked
        self.launcher = launcher
        self.studies = studies
        self._is_whole = True
        self._began = time.time()
        self._before = last_changes(self.studies)

    @property
    def folders(self) -> list[Path]:
        """Folder of each cell; for a search, those of the trials run by this command."""
        if self.launcher.is_search:
            now = last_changes(self.studies)
            return [folder for folder in now if now[folder] != self._before.get(folder)]
        here = self.launcher.is_here
        return [cell.folder for cell in self.asked] if here else locate(self.asked, self._before)

    def launch(self, job: Callable[[], object]) -> None:
        """Let Hydra start the cells, and wait until none of them is running.

        When a cell's process dies (killed, out of memory, node lost), launchers also drop the
        remaining cells. These are then relaunched, without cells that failed or died twice.

        Args:
            job: Hydra's entry point.
        """
        deaths = [0] * len(self.asked)
        is_over = [False] * len(self.asked)
        while True:
            before = last_changes(self.studies)
            self._is_whole = self._attempt(job, is_over)
            self._wait()
            if self._is_whole or self.launcher.is_search:
                return
            now, has_moved = last_changes(self.studies), False
            for k, folder in enumerate(self.folders):
                state, is_new = state_of(folder), now.get(folder) != before.get(folder)
                has_moved |= is_new
                deaths[k] += is_new and state == "running"
                is_over[k] |= (
                    state == "finished" or (is_new and state == "failed") or deaths[k] >= TRIES
                )
            if not has_moved or all(is_over):
                return
            say(f"relaunching {is_over.count(False)} unfinished cells")

    def conclude(self) -> int:
        """Write ``results.csv`` of every study involved and show the table.

        Returns:
            0 if every cell is finished, else 1.
        """
        folders = list(dict.fromkeys(self.folders))
        for folder in folders:
            mark_dead(folder)
        for study in self.studies:
            study.mkdir(parents=True, exist_ok=True)
            table = results.gather(study)
            names = {f.name for f in folders if f.parent == study}
            show(partial(results.show, table, names))
            runs = names.pop() if len(names) == 1 else "<cell>"
            say(f"results: {study / 'results.csv'}    runs: {study / runs}/")
        unfinished = [f for f in folders if not is_finished(f)]
        complain(*_what_failed(unfinished))
        if self.launcher.is_search and self._is_whole:
            self._show_best()
        is_search_broken = self.launcher.is_search and not self._is_whole
        return 1 if unfinished or is_search_broken else 0

    def _show_best(self) -> None:
        file = self.launcher.folder / "optimization_results.yaml"  # written by the Optuna sweeper
        if not file.exists() or file.stat().st_mtime < self._began:
            return
        search = OmegaConf.load(file)
        for study in self.studies:
            write_whole(study / "search.yaml", lambda path: shutil.copyfile(file, path))
        if "best_params" in search:  # with several objectives there is no best trial
            chosen = " ".join(f"{key}={value}" for key, value in search.best_params.items())
            say(f"lowest validation loss: {search.best_value:.4g} with {chosen}")

    def _attempt(self, job: Callable[[], object], is_over: Sequence[bool]) -> bool:
        """Return whether Hydra's launcher completed; if not, report the reason in one line."""
        argv = sys.argv
        if self.launcher.is_search or len(self.asked) > 1:
            sys.argv = [*sys.argv, f"++hydra.job.env_set.{CELLS}='{len(self.asked)}'"]
        if numbers := " ".join(map(str, compress(range(len(is_over)), is_over))):
            sys.argv = [*sys.argv, f"++hydra.job.env_set.{LEFT_OUT}='{numbers}'"]
        if self.launcher.is_slurm:
            watch_queue()
        if self.launcher.is_search:
            _hush_optuna()
        environ = dict(os.environ)
        os.environ.update(self.launcher.environment)
        try:
            with let_workers_end() if self.launcher.is_pool else nullcontext():
                job()
        except Exception as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            log = self.launcher.folder / f"{self.launcher.name}.txt"
            write_text(log, traceback.format_exc())
            complain(f"hydra/launcher={self.launcher.name}: {reason} (see {log})")
            return False
        finally:
            sys.argv = argv
            os.environ.clear()
            os.environ.update(environ)
        return True

    def _wait(self) -> None:
        """Wait until no other process runs a cell and no job of this command is queued."""
        is_told = False
        while busy := self._busy():
            if not is_told:
                say(f"waiting for {', '.join(busy)}")
                is_told = True
            time.sleep(PAUSE)

    def _busy(self) -> list[str]:
        """List running cells and queued jobs that no launcher waits for."""
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


def _what_failed(folders: Sequence[Path]) -> list[str]:
    """Say why cells are not finished; the reason of several cells is one line."""
    by_reason: dict[str, list[Path]] = {}
    for folder in folders:
        error = read_json(folder / "status.json").get("error")
        reason = state_of(folder) + (f": {error}" if error else "")
        by_reason.setdefault(reason, []).append(folder)
    return [
        f"{own[0]}: {reason}" if len(own) == 1 else f"{len(own)} cells {reason}"
        for reason, own in by_reason.items()
    ]


def _hush_optuna() -> None:
    """Silence Optuna's console output; the cells already report everything."""
    with suppress(ImportError):  # the search of another plugin
        import optuna

        optuna.logging.disable_default_handler()


def _runs(folder: Path, row: Row) -> bool:
    """Whether a cell's process is alive, or its job will start one."""
    is_told = row.host == socket.gethostname() or (
        shutil.which("squeue") and (row.job or "").startswith("slurm")
    )
    if row.state == "running" and not is_told:  # on another host: ask its lock
        with lock(folder) as is_mine:
            return not is_mine
    return row.state in ("running", "queued")
