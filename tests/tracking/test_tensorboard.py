"""A cell as read by TensorBoard's own reader, resumed or not."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tlunet.machine import versions
from tlunet.study.config.values import check
from tlunet.tracking.open import open_logger
from wandb_cells import Cell, make_cell

ROWS = [
    {"epoch": k, "step": 4 * k + 4, "val_loss": 1 / (k + 1), "val_auc/1": None if k else 0.25}
    for k in range(3)
]


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    return make_cell(tmp_path, name="tensorboard")


def log(cell: Cell, epochs: int) -> None:
    with open_logger(cell, 0) as logger:  # type: ignore[arg-type]
        assert logger
        for row in ROWS[:epochs]:
            step = row["step"]
            assert step
            logger.log_epoch(row, [{"epoch": 0, "step": step - 2, "train_loss_step": 2.0}])
        if epochs == len(ROWS):
            logger.log_test(cell)  # type: ignore[arg-type]


def read(cell: Cell, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(cell.folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_a_resumed_cell_stands_there_once(cell: Cell) -> None:
    log(cell, 2)
    assert [step for step, _ in read(cell, "val_loss")] == [4, 8]
    log(cell, 3)  # all its epochs again, from the checkpoint
    assert read(cell, "val_loss") == [(4, 1.0), (8, 0.5), (12, pytest.approx(1 / 3))]
    assert read(cell, "epoch") == [(4, 0.0), (8, 1.0), (12, 2.0)]
    assert read(cell, "val_auc/1") == [(4, 0.25)]
    assert [step for step, _ in read(cell, "train_loss_step")] == [2, 6, 10]
    scores = json.loads((cell.folder / "metrics.json").read_text())
    assert read(cell, "test/dice_image") == [(12, pytest.approx(scores["dice_image"]))]
    assert read(cell, "test/auc/per_class/1")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = OmegaConf.create({"logger": {"name": "tensorboard"}})
    assert check(cfg) == []
    monkeypatch.setattr(versions, "find_spec", lambda name: None)
    assert check(cfg) == [
        "logger=tensorboard: tensorboard is not installed; pip install '.[tensorboard]'"
    ]
