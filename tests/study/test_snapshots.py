"""Checkpoints written in the background: what waits, what is replaced, and in which order."""

from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch

from tlunet.study.training.snapshots import Snapshots

BEST, LAST = Path("run/best.ckpt"), Path("run/last.ckpt")


class SlowDisk:
    """Records what is written; the first checkpoint is held until :meth:`go_on`."""

    def __init__(self) -> None:
        self.written: list[tuple[str, Any]] = []
        self.began, self.may_end = Event(), Event()

    def __call__(self, content: dict[str, Any], path: Path) -> None:
        self.began.set()
        assert self.may_end.wait(10)
        self.written.append((path.name, content["epoch"]))


@pytest.fixture
def disk() -> SlowDisk:
    return SlowDisk()


def save_behind(disk: SlowDisk, *later: tuple[Path, int]) -> Snapshots:
    """Save ``last.ckpt`` of epoch 0, and the others while that is being written."""
    snapshots = Snapshots(disk)
    snapshots.save_checkpoint({"epoch": 0}, LAST)
    assert disk.began.wait(10)
    for path, epoch in later:
        snapshots.save_checkpoint({"epoch": epoch}, path)
    disk.may_end.set()
    snapshots.teardown()
    return snapshots


def test_at_most_one_waits_and_a_newer_one_takes_its_place(disk: SlowDisk) -> None:
    save_behind(disk, (LAST, 1), (LAST, 2), (LAST, 3))
    assert disk.written == [("last.ckpt", 0), ("last.ckpt", 3)]


@pytest.mark.parametrize(
    ("later", "written"),
    [
        ([(BEST, 1), (LAST, 1)], [("best.ckpt", 1), ("last.ckpt", 1)]),
        ([(BEST, 1), (LAST, 1), (BEST, 2), (LAST, 2)], [("best.ckpt", 2), ("last.ckpt", 2)]),
        ([(BEST, 1), (LAST, 1), (LAST, 2)], [("best.ckpt", 1), ("last.ckpt", 2)]),
        ([(LAST, 1), (BEST, 2)], [("best.ckpt", 2), ("last.ckpt", 1)]),
        ([(LAST, 1), (BEST, 2), (LAST, 2)], [("best.ckpt", 2), ("last.ckpt", 2)]),
    ],
)
def test_no_last_checkpoint_is_ahead_of_its_best_one(
    disk: SlowDisk, later: list[tuple[Path, int]], written: list[tuple[str, int]]
) -> None:
    save_behind(disk, *later)
    assert disk.written[1:] == written


def test_it_is_the_moment_of_saving_with_every_layout(tmp_path: Path) -> None:
    weight = torch.rand(4, 3, 2, 2).to(memory_format=torch.channels_last)
    content = {
        "state_dict": {"weight": weight, "running": torch.rand(3)},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(7.0), "empty": torch.empty(0)}}}],
        "flags": (torch.tensor([True, False]), [torch.tensor(2**40)]),
        "epoch": 3,
    }
    before = weight.clone()
    snapshots, path = Snapshots(), tmp_path / "last.ckpt"
    snapshots.save_checkpoint(content, path)
    weight.zero_()  # training continues in place
    snapshots.teardown()
    found = torch.load(path, weights_only=True)
    assert torch.equal(found["state_dict"]["weight"], before)
    assert found["state_dict"]["weight"].stride() == weight.stride()
    assert torch.equal(found["state_dict"]["running"], content["state_dict"]["running"])
    state = found["optimizer_states"][0]["state"][0]
    assert state["step"] == 7
    assert state["empty"].numel() == 0
    assert torch.equal(found["flags"][0], torch.tensor([True, False]))
    assert (found["flags"][1][0], found["epoch"]) == (2**40, 3)
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_after_an_error_nothing_more_is_written(disk: SlowDisk) -> None:
    def full(content: dict[str, Any], path: Path) -> None:
        disk(content, path)
        raise OSError(28, "No space left on device")

    snapshots = Snapshots(full)
    snapshots.save_checkpoint({"epoch": 0}, LAST)
    assert disk.began.wait(10)
    snapshots.save_checkpoint({"epoch": 1}, BEST)
    disk.may_end.set()
    refused: list[Callable[[], None]] = [
        snapshots.teardown,
        lambda: snapshots.save_checkpoint({"epoch": 2}, LAST),
    ]
    for ask in refused:
        with pytest.raises(OSError, match="No space left"):
            ask()
    assert disk.written == [("last.ckpt", 0)]


def test_a_second_fit_writes_again(disk: SlowDisk) -> None:
    snapshots = save_behind(disk)
    snapshots.save_checkpoint({"epoch": 5}, LAST)
    snapshots.teardown()
    assert disk.written == [("last.ckpt", 0), ("last.ckpt", 5)]
