"""W&B's real client and command line with a local server that goes down and up."""

import base64
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import wandb

from tlunet.study.training.signals import Stopped
from tlunet.tracking.open import open_logger
from tlunet.tracking.wandb import connection as wandb_link
from wandb_cells import Cell, make_cell
from wandb_record import read_record
from wandb_server import KEY, Run, WandbServer, serve_wandb
from wandb_sync import sync

ROOT = Path(__file__).parents[2]


ROWS = [
    {"epoch": k, "step": 4 * k + 4, "val_loss": 1 / (k + 1), "val_dice": None if k < 2 else 0.1}
    for k in range(4)
]
STEPS = list(range(2, 17, 2))  # of the points: two per epoch, the last one at its end


def points(epoch: int) -> list[dict[str, Any]]:
    """The points that are logged in an epoch."""
    steps = STEPS[2 * epoch : 2 * epoch + 2]
    return [{"epoch": epoch, "step": k, "samples": 16 * k, "train_loss_step": 1 / k} for k in steps]


@pytest.fixture(scope="module")
def wandb_server() -> Iterator[WandbServer]:
    with serve_wandb() as server:
        yield server


@pytest.fixture
def server(
    wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[WandbServer]:
    """A running server without runs; the environment has its URL and the correct login."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_BASE_URL", wandb_server.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(wandb_link, "KNOCK", 0.5)
    monkeypatch.setattr(wandb_link, "FINISH", 1.0)
    monkeypatch.setattr(wandb_link, "UPLOAD", 20.0)
    monkeypatch.chdir(tmp_path)
    wandb_server.runs.clear()
    wandb_server.versions.clear()
    yield wandb_server
    wandb_server.down()
    wandb_server.mode = "ok"
    wandb_server.up()


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    return make_cell(tmp_path / "runs")


def log(cell: Cell, rows: list[dict[str, Any]], attempt: int = 0) -> None:
    """Log a whole cell: its epochs, then its test."""
    with open_logger(cell, attempt) as logger:
        assert logger
        for row in rows:
            logger.log_epoch(row, points(row["epoch"]))
        logger.log_test(cell)


def only_run(server: WandbServer) -> Run:
    [run] = server.runs.values()
    return run


def assert_complete(run: Run, cell: Cell) -> None:
    assert run.column("epoch") == [0, 1, 2, 3]
    assert run.column("step") == STEPS
    assert run.column("_step") == [*STEPS, 17]  # the last row is the test
    assert run.column("train_loss_step") == pytest.approx([1 / k for k in STEPS])
    assert run.column("val_loss") == pytest.approx([row["val_loss"] for row in ROWS])
    assert run.column("val_dice") == [0.1, 0.1]
    assert run.summary["epoch"] == 3
    scores = json.loads((cell.folder / "metrics.json").read_text())
    assert run.summary["dice_image"] == pytest.approx(scores["dice_image"])
    assert run.summary["auc/per_class/1"] == pytest.approx(scores["auc"]["per_class"]["1"])
    assert run.summary["test/images"]["nrows"] == 4
    assert run.exit_code == 0


def assert_no_key(folder: Path, *texts: str) -> None:
    """Check that the login appears nowhere, neither plain nor encoded."""
    needles = KEY.encode(), base64.b64encode(f"api:{KEY}".encode())
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    for path in files:
        content = path.read_bytes()
        assert not any(needle in content for needle in needles), path
    for text in texts:
        assert not any(needle.decode() in text for needle in needles)


def test_online_an_epoch_is_a_row(
    server: WandbServer, cell: Cell, capfd: pytest.CaptureFixture[str]
) -> None:
    log(cell, ROWS)
    run = only_run(server)
    assert_complete(run, cell)
    assert run.about["project"] == "tlunet"
    assert run.about["groupName"] == "study"
    assert run.about["displayName"] == "a cell"
    assert run.about["tags"] == ["synthetic", "resnet", "random", "frac 1.0"]
    assert json.loads(run.about["config"])["seed"] == {"value": 0}
    said = capfd.readouterr()
    assert said.out == said.err == ""
    assert_no_key(cell.folder)


def test_a_key_that_was_pasted_with_its_newline(
    server: WandbServer, cell: Cell, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("WANDB_API_KEY", f"{KEY}\n")
    cell.config["logger"]["entity"] = "team"
    log(cell, ROWS)
    run = only_run(server)
    assert_complete(run, cell)
    assert run.about["entity"] == "team"
    assert capfd.readouterr().out == ""


@pytest.mark.slow
def test_a_resumed_cell_goes_on_in_its_run_and_a_forced_one_begins_another(
    server: WandbServer, cell: Cell
) -> None:
    with suppress(RuntimeError), open_logger(cell, 0) as logger:
        for row in ROWS[:3]:
            logger.log_epoch(row, points(row["epoch"]))
        raise RuntimeError("interrupted")
    run = only_run(server)
    assert run.exit_code == 1
    log(cell, ROWS)  # all its epochs again, from the checkpoint
    assert_complete(only_run(server), cell)
    assert len(run.lines("wandb-history.jsonl")) == len(STEPS) + 1
    log(cell, ROWS, attempt=1)
    assert len(server.runs) == 2


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("down", "W&B cannot be reached ({url}: no connection)"),
        ("hang", "W&B cannot be reached ({url}: no answer)"),
        ("refuse", "W&B refuses the login ("),
    ],
)
def test_out_of_reach_at_the_start_it_is_logged_offline(
    server: WandbServer, cell: Cell, capfd: pytest.CaptureFixture[str], fault: str, says: str
) -> None:
    break_off(server, fault)
    began = time.monotonic()
    log(cell, ROWS)
    assert time.monotonic() - began < 8
    [line] = capfd.readouterr().out.splitlines()
    assert says.format(url=server.url) in line
    assert "the record is in the run folder, upload it later with: wandb sync " in line
    assert not server.runs
    mend(server)
    sync(*shlex.split(line.partition("wandb sync ")[2]))
    assert_complete(only_run(server), cell)
    assert_no_key(cell.folder, line)


def test_a_name_that_does_not_resolve(
    server: WandbServer,
    cell: Cell,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://wandb.invalid")
    began = time.monotonic()
    log(cell, ROWS)
    assert time.monotonic() - began < 8
    assert "W&B cannot be reached (http://wandb.invalid: no " in capfd.readouterr().out


@pytest.mark.parametrize(
    "fault",
    ["down", *(pytest.param(fault, marks=pytest.mark.slow) for fault in ("hang", "refuse"))],
)
def test_lost_in_the_middle_the_record_is_whole(
    server: WandbServer, cell: Cell, capfd: pytest.CaptureFixture[str], fault: str
) -> None:
    with suppress(RuntimeError), open_logger(cell, 0) as logger:
        logger.log_epoch(ROWS[0], points(0))
        raise RuntimeError("so that the server already has a part")
    with open_logger(cell, 0) as logger:
        for row in ROWS[:2]:
            logger.log_epoch(row, points(row["epoch"]))
        break_off(server, fault)
        began = time.monotonic()
        for row in ROWS[2:]:
            logger.log_epoch(row, points(row["epoch"]))
        logger.log_test(cell)
        assert time.monotonic() - began < 0.5  # training does not wait
    assert time.monotonic() - began < 5
    [line] = capfd.readouterr().out.splitlines()
    assert f"lost the connection to W&B ({server.url}); the record is in the run folder" in line
    mend(server)
    command = line.partition("wandb sync ")[2]
    for _ in range(2):  # a second sync changes nothing
        sync("--include-synced", *shlex.split(command))
        assert_complete(only_run(server), cell)


def test_a_signal_does_not_wait_for_a_server_that_hangs(server: WandbServer, cell: Cell) -> None:
    began = time.monotonic()
    with suppress(Stopped), open_logger(cell, 0) as logger:
        logger.log_epoch(ROWS[0], points(0))
        server.mode = "hang"
        began = time.monotonic()
        raise Stopped(signal.SIGTERM)
    assert time.monotonic() - began < 1 + 3  # FINISH in this test, plus W&B's own shutdown


def test_a_died_process_of_wandb_does_no_harm(
    server: WandbServer, cell: Cell, capfd: pytest.CaptureFixture[str]
) -> None:
    with open_logger(cell, 0) as logger:
        process = wandb.setup()._connection._proc._process
        process.kill()
        process.wait()
        for row in ROWS:
            logger.log_epoch(row, points(row["epoch"]))
    [line] = capfd.readouterr().out.splitlines()
    assert "W&B's client failed (" in line  # connection lost or reset
    log(cell, ROWS, attempt=1)  # the next cell is logged
    assert_complete(list(server.runs.values())[-1], cell)


@pytest.mark.parametrize(
    ("mode", "variables", "says"),
    [
        ("auto", {}, None),
        ("auto", {"WANDB_MODE": "online"}, "W&B needs a login (wandb login)"),
        ("online", {}, "W&B needs a login (wandb login)"),
        ("auto", {"WANDB_MODE": "offline", "WANDB_API_KEY": KEY}, None),
        ("auto", {"WANDB_MODE": " Offline\n", "WANDB_API_KEY": KEY}, None),
        ("auto", {"WANDB_MODE": "never"}, "W&B does not accept its settings ("),
        ("auto", {"WANDB_BASE_URL": "https://wandb.ai"}, "W&B does not accept its settings ("),
        ("offline", {"WANDB_API_KEY": KEY}, None),
    ],
)
def test_offline_without_questions(
    server: WandbServer,
    cell: Cell,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    variables: dict[str, str],
    says: str | None,
) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    cell.config["logger"]["mode"] = mode
    log(cell, ROWS)
    said = capfd.readouterr()
    assert said.err == ""
    assert (says in said.out) if says else said.out == ""
    assert len(list(cell.folder.glob("wandb/offline-run-*/run-*.wandb"))) == 1
    assert not server.runs


def test_what_cannot_be_shown_is_a_line_and_the_rest_is_logged(
    server: WandbServer, cell: Cell, capfd: pytest.CaptureFixture[str]
) -> None:
    cell.config["logger"]["mode"] = "offline"
    (cell.folder / "test_images.parquet").write_bytes(b"broken")
    log(cell, ROWS)
    [line] = capfd.readouterr().out.splitlines()
    assert "could not log the curves and images to W&B (" in line
    [record] = cell.folder.glob("wandb/offline-run-*/*.wandb")
    run = read_record(record)
    assert run.column("epoch") == [0, 1, 2, 3]
    assert "model" in run.artifacts
    assert run.exit_code == 0


def test_disabled_leaves_nothing(
    server: WandbServer, cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    log(cell, ROWS)
    assert not list(cell.folder.rglob("*.wandb"))
    assert not server.runs


@pytest.mark.slow
def test_a_killed_cell_of_two_records_is_one_run(
    server: WandbServer,
    run_here: Callable[..., subprocess.CompletedProcess[str]],
    tiny: tuple[str, ...],
    tmp_path: Path,
) -> None:
    line = (*tiny, "logger=wandb", "logger.mode=offline", "epochs=3")
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *line],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    while not (found := list(tmp_path.glob("runs/synthetic/*/history.csv"))) or (
        len(pd.read_csv(found[0])) < 1
    ):
        assert process.poll() is None, "the process ended before it was killed"
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = run_here(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    [folder] = [path.parent for path in found]
    records = sorted(map(str, folder.glob("wandb/offline-run-*")))
    assert len(records) == 2
    assert [path.parent.name for path in folder.rglob("*.wandb.synced")] == [Path(records[0]).name]
    sync(*records)
    run = only_run(server)
    history = pd.read_csv(folder / "history.csv")
    for name in history:
        by_epoch = [row[name] for row in run.history if "epoch" in row and name in row]
        assert by_epoch == pytest.approx(history[name].dropna().tolist()), name
    assert run.column("_step") == sorted(set(run.column("_step")))
    assert len(run.column("train_loss_step")) == history["step"].iloc[-1]
    assert run.summary["dice_image"] == pytest.approx(
        json.loads((folder / "metrics.json").read_text())["dice_image"]
    )
    assert run.exit_code == 0
    assert_no_key(folder, done.stdout, done.stderr)


def break_off(server: WandbServer, fault: str) -> None:
    if fault == "down":
        server.down()
    else:
        server.mode = fault


def mend(server: WandbServer) -> None:
    """Release hanging connections and let the server answer again."""
    server.down()
    server.mode = "ok"
    server.up()
