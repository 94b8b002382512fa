"""Failing launches: unfinished cells are relaunched, and the results table is still written."""

import json
import os
import re
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tlunet.runs.folder import is_finished, lock, set_state, state_of
from tlunet.study.sweep import sweep
from tlunet.study.sweep.launcher import Launcher
from tlunet.study.sweep.locate import PlannedCell
from tlunet.study.sweep.sweep import Sweep


@pytest.fixture
def four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """A sweep of four cells run by another process."""
    monkeypatch.setattr(sweep, "PAUSE", 0.01)
    monkeypatch.setattr(sys, "argv", ["run.py", "-m", "seed=0,1,2,3"])
    asked = [PlannedCell(tmp_path / f"study/cell{k}", {"seed": k}) for k in range(4)]
    launcher = Launcher("ray", "hydra_plugins.x.RayLauncher", tmp_path / ".hydra")
    return Sweep(asked, launcher, [tmp_path / "study"])


def write(cell: PlannedCell, state: str) -> None:
    cell.folder.mkdir(parents=True, exist_ok=True)
    (cell.folder / ".lock").touch()
    (cell.folder / "meta.json").write_text(json.dumps({"science": cell.science}))
    set_state(cell.folder, state)


def left_out() -> list[int]:
    """The cells that the command line skips."""
    found = re.search(r"TLUNET_LEFT_OUT='([\d ]+)'", sys.argv[-1])
    return [int(number) for number in found[1].split()] if found else []


def launcher(
    four: Sweep, outcome: Callable[[int], str], seen: list[list[int]]
) -> Callable[[], None]:
    """Run one process after the other; if one dies, so does the launcher."""

    def job() -> None:
        seen.append(left_out())
        for k, cell in enumerate(four.asked):
            if k not in seen[-1] and not is_finished(cell.folder):
                write(cell, outcome(k))
                if outcome(k) == "running":
                    raise RuntimeError(f"worker of cell {k} died\nand much more")

    return job


def states(four: Sweep) -> list[str]:
    return [state_of(cell.folder) for cell in four.asked]


def test_a_worker_killed_once_costs_nothing(four: Sweep, capfd: pytest.CaptureFixture[str]) -> None:
    deaths = []

    def outcome(k: int) -> str:
        dies = k == 1 and len(deaths) < 2  # called twice per death
        deaths.extend([k] * dies)
        return "running" if dies else "finished"

    seen: list[list[int]] = []
    four.launch(launcher(four, outcome, seen))
    assert states(four) == ["finished"] * 4
    assert seen == [[], [0]]
    assert sys.argv == ["run.py", "-m", "seed=0,1,2,3"]
    assert "HYDRA_FULL_ERROR" not in os.environ
    assert four.conclude() == 0
    error = capfd.readouterr().err
    assert error.startswith("hydra/launcher=ray: RuntimeError: worker of cell 1 died (see ")
    assert error.count("\n") == 1


def test_a_cell_that_always_dies_is_left_out_and_said(
    four: Sweep, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[list[int]] = []
    four.launch(launcher(four, lambda k: {1: "running", 2: "failed"}.get(k, "finished"), seen))
    assert states(four) == ["finished", "running", "failed", "finished"]
    assert seen == [[], [0], [0, 1]]
    assert four.conclude() == 1
    assert states(four) == ["finished", "failed", "failed", "finished"]
    status = json.loads((four.asked[1].folder / "status.json").read_text())
    assert "its process died" in status["error"]
    assert (status["host"], status["pid"]) == (socket.gethostname(), os.getpid())
    captured = capfd.readouterr()
    assert f"{four.asked[1].folder}: failed: its process died" in captured.err
    assert "Traceback" not in captured.err + captured.out
    assert len((four.studies[0] / "results.csv").read_text().splitlines()) == 5


def test_a_launcher_that_gives_up_over_a_failed_cell_is_not_the_end(four: Sweep) -> None:
    def job() -> None:
        for k, cell in enumerate(four.asked):
            if k not in left_out():
                write(cell, "failed" if k == 0 else "finished")
                if k == 0:
                    raise RuntimeError("its last words")

    four.launch(job)
    assert states(four) == ["failed", "finished", "finished", "finished"]


def test_a_launcher_that_cannot_start_is_tried_once(
    four: Sweep, capfd: pytest.CaptureFixture[str]
) -> None:
    tries = []

    def job() -> None:
        tries.append(1)
        raise OSError("sbatch: error: invalid partition specified: gpus")

    four.launch(job)
    assert len(tries) == 1
    assert four.conclude() == 1
    assert "invalid partition" in capfd.readouterr().err


def test_cells_that_another_process_runs_are_waited_for(
    four: Sweep, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    first, *others = four.asked
    write(first, "running")
    looks = []
    with ExitStack() as held:
        held.enter_context(lock(first.folder))

        def look(_: float) -> None:
            looks.append(states(four)[0])
            if len(looks) == 3:
                write(first, "finished")
                held.close()

        monkeypatch.setattr("time.sleep", look)
        four.launch(lambda: [write(cell, "finished") for cell in others])
    assert looks == ["running"] * 3
    assert f"waiting for {first.folder} ({socket.gethostname()})" in capfd.readouterr().out
    assert four.conclude() == 0
