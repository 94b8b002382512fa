"""Run folders in every state, as shown on the console and as JSON."""

import fcntl
import io
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console
from segmentation_models_pytorch.encoders import encoders

from studies import make_truth, set_state, write_run
from tlunet import cli
from tlunet.errors import DataError
from tlunet.machine.console import UNLIMITED
from tlunet.runs import status
from tlunet.runs.folder import lock
from tlunet.runs.status import Row, read_study, summary
from tlunet.runs.status_table import show

TRUTH = make_truth(20)
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists lock holders")


def running(study: Path, epochs: int = 10, **who: object) -> Path:
    """A cell in state running after three epochs of 10 s, by default on this host."""
    run = write_run(study, TRUTH, science={"epochs": epochs})
    set_state(run, "running")
    content = json.loads((run / "status.json").read_text())
    here = {"host": socket.gethostname(), "pid": os.getpid()}
    (run / "status.json").write_text(json.dumps(content | here | who))
    (run / ".lock").touch()
    return run


def shown(rows: list[Row], width: int = 300) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(show(rows, width))
    return console.file.getvalue()


@pytest.mark.parametrize(("monitor", "best"), [(None, (2, 1.0, 0.1)), ("val_dice", (3, 4.0, 0.9))])
def test_the_best_epoch_is_that_of_the_monitor(
    monitor: str | None, best: tuple[int, float, float], tmp_path: Path
) -> None:
    run = write_run(tmp_path, TRUTH)
    (run / "history.csv").write_text(
        "epoch,seconds,val_loss,val_dice\n0,1,3.0,0.5\n1,1,1.0,0.1\n2,1,4.0,0.9\n3,1,,\n"
    )
    meta = json.loads((run / "meta.json").read_text())
    meta["science"] = meta.get("science", {}) | {"early_stopping": {"monitor": monitor}}
    (run / "meta.json").write_text(json.dumps(meta))
    [row] = read_study(tmp_path)
    assert (row.best_epoch, row.best_val_loss, row.best_val_dice) == best


def test_finished_and_failed_cells(tmp_path: Path) -> None:
    write_run(tmp_path, TRUTH)
    failed = set_state(write_run(tmp_path, TRUTH, frac=0.5), "failed", "Error: no\n  memory [/b]")
    (failed / "history.csv").unlink()
    write_run(tmp_path, TRUTH, encoder="densenet", init="imagenet", seed=3)
    (tmp_path / "figures").mkdir()
    rows = read_study(tmp_path)
    assert [(r.encoder, r.init, r.frac, r.seed) for r in rows] == [
        ("resnet", "random", 1.0, 0), ("resnet", "random", 0.5, 0), ("densenet", "imagenet", 1.0, 3)
    ]  # fmt: skip
    done, broken, _ = rows
    assert (done.state, done.epoch, done.epochs, done.note) == ("finished", 3, 3, "")
    assert (done.val_loss, done.val_dice) == pytest.approx((1.1, 0.7))
    assert (done.epoch_seconds, done.seconds_left) == (10, None)
    assert (broken.state, broken.epoch, broken.val_loss) == ("failed", 0, None)
    assert broken.note == "Error: no memory [/b]"
    assert summary(rows) == "3 cells: 2 finished, 1 failed"


@linux
def test_a_running_cell_is_told_from_a_broken_off_one_by_its_lock(tmp_path: Path) -> None:
    run = running(tmp_path)
    with lock(run) as is_mine:
        assert is_mine
        [row] = read_study(tmp_path)
        assert (row.state, row.note) == ("running", "")
        now = time.time()
        for file in run.iterdir():
            os.utime(file, (now - 4, now - 4))
        [row] = read_study(tmp_path)
        assert row.silent_seconds == pytest.approx(4, abs=2)
        assert row.seconds_left == pytest.approx(7 * 10 - 4, abs=2)
    [row] = read_study(tmp_path)  # its process exists but no longer holds the lock
    assert (row.state, row.seconds_left) == ("interrupted", None)
    assert "resume from its last checkpoint" in row.note


def test_reading_takes_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = running(tmp_path)
    monkeypatch.setattr(fcntl, "flock", lambda *_: pytest.fail("flock was called"))
    monkeypatch.setattr(fcntl, "lockf", lambda *_: pytest.fail("lockf was called"))
    for held in ({(run / ".lock").stat().st_ino}, set(), None):
        monkeypatch.setattr(status, "_held_locks", lambda held=held: held)
        [row] = read_study(tmp_path)
        assert row.state == ("interrupted" if held == set() else "running")


def test_where_nobody_lists_locks_the_process_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for pid, state in ((os.getpid(), "running"), (1, "running"), (gone.pid, "interrupted")):
        running(tmp_path / str(pid), pid=pid)
        assert read_study(tmp_path / str(pid))[0].state == state


def test_of_another_host_it_is_told_when_it_last_wrote(tmp_path: Path) -> None:
    run = running(tmp_path, host="gpu07")
    long_ago = time.time() - 3 * 3600
    for file in run.iterdir():
        os.utime(file, (long_ago, long_ago))
    [row] = read_study(tmp_path)
    assert (row.state, row.host) == ("running", "gpu07")
    assert row.silent_seconds == pytest.approx(3 * 3600, abs=5)
    assert row.seconds_left == pytest.approx(60, abs=1)  # the late epoch counts as done
    assert "gpu07" in shown([row])
    assert "3 h 0 min ago" in shown([row])


def test_before_its_first_epoch_nothing_is_estimated(tmp_path: Path) -> None:
    run = running(tmp_path, host="elsewhere")
    (run / "history.csv").unlink()
    [row] = read_study(tmp_path)
    assert (row.epoch, row.epoch_seconds, row.seconds_left) == (0, None, None)


def test_what_cannot_be_read_is_said_in_its_row(tmp_path: Path) -> None:
    names = ("status.json", "meta.json", "history.csv")
    for k, name in enumerate(names):
        run = write_run(tmp_path, TRUTH, seed=k)
        (run / name).write_text('{"epoch": 1,' if name.endswith("json") else "epoch\nx\n")
    nothing = tmp_path / "resnet-random-1.0-s9-x"
    nothing.mkdir()
    (nothing / ".lock").touch()
    wrong = write_run(tmp_path, TRUTH, seed=5)
    (wrong / "meta.json").write_text('{"encoder": 3, "frac": [1], "science": []}')
    (wrong / "status.json").write_text("[]")
    gone = write_run(tmp_path, TRUTH, seed=6)
    (gone / "history.csv").unlink()
    rows = {row.folder: row for row in read_study(tmp_path)}
    assert len(rows) == 6
    by_note = {row.note.partition(":")[0]: row for row in rows.values() if "cannot" in row.note}
    assert sorted(by_note) == sorted(names)
    assert by_note["status.json"].state == "unreadable"
    assert (by_note["meta.json"].encoder, by_note["meta.json"].state) == (None, "finished")
    assert rows[nothing.name].state == "missing"
    assert "status.json: no such file" in rows[nothing.name].note
    assert (rows[wrong.name].state, rows[wrong.name].frac) == ("unreadable", None)
    assert rows[gone.name].note == "history.csv: no such file"
    assert nothing.name in shown(list(rows.values()))  # nothing else identifies the cell
    json.dumps([vars(row) for row in rows.values()], allow_nan=False)


def test_undefined_scores_are_null(tmp_path: Path) -> None:
    run = write_run(tmp_path, TRUTH)
    (run / "history.csv").write_text("epoch,seconds,val_loss,val_dice\n0,2.5,inf,\n")
    [row] = read_study(tmp_path)
    assert (row.epoch, row.epoch_seconds, row.val_loss, row.val_dice) == (1, 2.5, None, None)


def test_cells_that_differ_in_a_setting_are_told_apart(tmp_path: Path) -> None:
    """The class of a loss, a value, and a recipe, which stands for all its keys."""
    configs = [
        "{loss: {_target_: tlunet.model.losses.PaperLoss}, epochs: 4}",
        "{loss: {_target_: tlunet.model.losses.BalancedLoss}, epochs: 4}",
        "{loss: {_target_: tlunet.model.losses.PaperLoss}, budget: steps, epochs: 4}",
    ]
    for seed, config in enumerate(configs):
        (write_run(tmp_path, TRUTH, seed=seed) / "config.yaml").write_text(config)
    rows = sorted(read_study(tmp_path), key=lambda row: row.seed or 0)
    assert [row.settings for row in rows] == [
        "loss=PaperLoss, budget=epochs",
        "loss=BalancedLoss, budget=epochs",
        "loss=PaperLoss, budget=steps",
    ]
    assert "settings" in shown(rows)
    assert "settings" not in shown([Row("x", encoder="resnet", seed=0)])
    recipe = "{recipe: production, loss: {_target_: tlunet.model.losses.BCEDiceLoss}, epochs: 15}"
    (write_run(tmp_path, TRUTH, seed=3) / "config.yaml").write_text(recipe)
    (write_run(tmp_path, TRUTH, seed=4) / "config.yaml").write_text("{recipe: [")  # damaged
    *_, production, damaged = sorted(read_study(tmp_path), key=lambda row: row.seed or 0)
    assert (production.settings, damaged.settings) == ("recipe=production", "")


def test_text_of_a_file_is_not_markup() -> None:
    text = shown([Row("x", encoder="[red]a", state="failed", note="list[int] [/b]")])
    assert "[red]a" in text
    assert "list[int] [/b]" in text


@pytest.mark.parametrize("width", [60, 80, 100, 120, UNLIMITED])
def test_a_narrow_terminal_shows_condition_state_and_dice(width: int) -> None:
    rows = [
        Row(
            str(k), max(encoders, key=len), init, frac, k, "", state, 4, 10,
            best_epoch=3 + k, best_val_loss=1234.5 + k, best_val_dice=0.125 + k / 8,
            seconds=4000.0 + 999 * k, host="a-rather-long-host-name.cluster", job=f"slurm 471{k}",
            seconds_left=7e3 if state == "running" else None,
            note="CUDA out of memory" if state == "failed" else "",
        )
        for k, (init, frac, state) in enumerate(
            [("random", 1.0, "running"), ("imagenet", 0.125, "failed"), ("random", 0.5, "failed"),
             ("random", 0.25, "interrupted")]
        )
    ]  # fmt: skip
    text = shown(rows, width)
    lines = text.splitlines()
    assert max(map(cell_len, lines)) <= width
    for row in rows:
        [line] = [x for x in lines if f"  {row.state}  " in x and f"{row.best_val_dice:.3f}" in x]
        assert f"{100 * row.frac:g}%" in line
        assert {"random": "random", "imagenet": "ImageNet"}[row.init] in line
    said = " ".join(text.split())
    assert f"Same in all rows: encoder {rows[0].encoder}, epoch 4 of 10, host a-rather" in said
    assert "val Dice: on the validation set, at the epoch with the lowest validation loss" in said
    assert "2 cells failed: CUDA out of memory" in said
    assert ("≤ 1 h 56 min" in text) == (width >= 60)
    assert ("slurm 4711" in text) == (width >= 100)
    assert "…" not in text


@pytest.mark.parametrize(
    ("name", "message"), [("no", "no such"), ("f", "not a f"), ("d", "no run")]
)
def test_a_folder_without_runs_is_a_mistake(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "f").touch()
    (tmp_path / "d" / "figures").mkdir(parents=True)
    with pytest.raises(DataError, match=message):
        read_study(tmp_path / name)


def tlunet(monkeypatch: pytest.MonkeyPatch, *args: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["tlunet", *map(str, args)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_the_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = "OutOfMemoryError: " + "a long story " * 20
    set_state(write_run(tmp_path, TRUTH), "failed", error)
    assert tlunet(monkeypatch, "status", tmp_path) == 0
    out = capsys.readouterr().out
    assert error.strip() in out  # in one line, not truncated without a terminal
    assert "\x1b" not in out
    assert "val Dice: on the validation set" in out
    assert out.endswith("1 cell: 1 failed\n")
    assert tlunet(monkeypatch, "status", tmp_path, "--json") == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row["encoder"], row["state"], row["epoch"]) == ("resnet", "failed", 3)
    assert tlunet(monkeypatch, "status", tmp_path / "no") == 2
    assert capsys.readouterr().err.count("\n") == 1
