"""The line of a cell while it trains, in a terminal and in a file."""

from types import SimpleNamespace

import pytest
from rich.cells import cell_len
from segmentation_models_pytorch.encoders import encoders

from tlunet.machine.console import console
from tlunet.study.training.callbacks import progress
from tlunet.study.training.callbacks.progress import Progress
from tlunet.study.training.lines import clock, fitted, shortened

TITLE = "[3/8] densenet · ImageNet · 100% · seed 0"
LONG = f"[3/8] {max(encoders, key=len)} · ImageNet · 100% · seed 0"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make stdout look like a terminal of 80 columns."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setattr(console, "width", 80)


def train(bar: Progress, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Train ten epochs of two steps, 5 s each, and test; return every line that was shown."""
    shown: list[str] = []
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(bar.live, "_drawn", lambda text: shown.append(text) or text)
    trainer = SimpleNamespace(
        num_training_batches=2, global_step=0, is_global_zero=True, current_epoch=0
    )
    bar.on_train_start(trainer, None)
    for epoch in range(10):
        trainer.current_epoch = epoch
        for _ in range(2):
            now[0] += 5
            bar.on_train_batch_end(trainer)
        bar.show({"epoch": epoch, "val_dice": None if epoch == 8 else epoch / 10})
    bar.on_train_end(trainer, None)
    bar.on_test_start(trainer, None)
    bar.on_test_end(trainer, None)
    return shown


def test_in_a_file_it_is_one_line_an_epoch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(Progress(TITLE, 10), monkeypatch) == []
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\r" not in out
    lines = out.splitlines()
    assert len(lines) == 10
    assert lines[0] == f"{TITLE}  epoch  1/10  val Dice 0.000  ETA 1:30"
    assert lines[8] == f"{TITLE}  epoch  9/10  val Dice     –  ETA 0:10"
    assert lines[9] == f"{TITLE}  epoch 10/10  val Dice 0.900  ETA 0:00"
    assert {cell_len(line) for line in lines} == {80}


def test_in_a_file_a_long_name_is_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train(Progress(LONG, 10), monkeypatch)
    assert capsys.readouterr().out.count(f"{LONG}  epoch ") == 10


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("title", [TITLE, LONG])
def test_in_a_terminal_it_is_redrawn_and_vanishes(
    title: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = train(Progress(title, 10), monkeypatch)
    assert shown[0].startswith("[3/8] ")
    assert shown[1].endswith(" · 100% · seed 0  epoch  1/10  step 1/2        ETA 1:35")
    assert ("[3/8] densenet" if title == TITLE else "[3/8] …t_lite0") in shown[1]
    assert shown[4].endswith("seed 0  epoch  2/10  val Dice 0.000  ETA 1:25")
    assert shown[-1] == f"{title}  testing"
    assert all(cell_len(line) <= 80 for line in shown)
    assert "\n" not in capsys.readouterr().out.strip().replace("\x1b[?25h", "")


@pytest.mark.usefixtures("terminal")
def test_a_title_is_shortened_to_the_terminal() -> None:
    line = fitted(f"✓ {LONG}", "test Dice 0.416", "MLA 0.881", "1:40")
    assert cell_len(line) == 80
    assert line.startswith("✓ [3/8] …")
    assert line.endswith("_lite0 · ImageNet · 100% · seed 0  test Dice 0.416  MLA 0.881  1:40")
    assert shortened(TITLE, 20) == "[3/8] densenet · Im…"


def test_hours() -> None:
    assert [clock(s) for s in (0, 59.6, 3599, 3600, 90_061)] == [
        "0:00", "1:00", "59:59", "1:00:00", "25:01:01",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "epoch", "line"),
    [
        (0.6, 0, "about 1.2 min per epoch, 18 min in all"),
        (0.01, 0, ""),
        (0.6, 1, ""),
    ],
)
def test_the_time_of_training_is_told_once(
    seconds: float,
    epoch: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    data = SimpleNamespace(rows={"val": range(480)}, batch_size=16)  # a third of 30 steps
    trainer = SimpleNamespace(
        num_training_batches=110, global_step=0, is_global_zero=True, current_epoch=epoch,
        datamodule=data,
    )  # fmt: skip
    bar = Progress(TITLE, 15)
    bar.on_train_start(trainer, None)
    for step in range(50):
        now[0] += seconds if step else 30  # the first step is slower
        bar.on_train_batch_end(trainer)
    assert capsys.readouterr().out.strip() == line
