"""Resuming after a signal at any batch of training or validation."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import Callback

from tlunet.data.augment import Augment
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import Strips
from tlunet.machine.device import Hardware
from tlunet.model.network import TLUNet
from tlunet.model.task import DefectTask
from tlunet.study.training.callbacks.checkpoints import Checkpoints
from tlunet.study.training.callbacks.history import TIMED, History
from tlunet.study.training.callbacks.reseed import Reseed
from tlunet.study.training.callbacks.rewind import RewindValidation
from tlunet.study.training.callbacks.steps import Steps
from tlunet.study.training.signals import Stopped, Stopping, heed_signals
from tlunet.study.training.trainer import make_trainer

CPU = Hardware("cpu", "32-true", "a CPU", 1)


class Strike(Callback):
    """Send a signal in the n-th batch of training or validation."""

    def __init__(
        self, stopping: Stopping, train: int | None = None, val: int | None = None
    ) -> None:
        self.stopping, self.left = stopping, {"train": train, "val": val}

    def on_train_batch_start(self, *args: Any) -> None:
        self.count("train")

    def on_validation_batch_start(self, *args: Any) -> None:
        self.count("val")

    def count(self, part: str) -> None:
        if self.left[part] is not None:
            self.left[part] -= 1  # type: ignore[operator]
            if self.left[part] == 0:
                self.stopping.note(signal.SIGTERM, None)


class Seen(Callback):
    """Record the images of each step."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, ...]] = []

    def on_train_batch_end(self, trainer: Any, module: Any, out: Any, batch: Any, _: int) -> None:
        self.batches.append(tuple(batch["id"]))


def train(
    folder: Path, cache: Path, encoder: str, workers: int = 0, **strike: int
) -> tuple[DefectTask, list[dict[str, Any]], list[tuple[str, ...]]]:
    """Train two epochs (6 + 2 validation batches), or the rest; return rows, points and batches.

    With everything that has a state or depends on the step: averaged weights, a schedule, clipping,
    rare classes drawn more often, images
    repeated within an epoch.
    """
    data = DefectDataModule(
        Strips(cache / "synthetic", n=32), cache, batch_size=8, eval_batch_size=2, seed=5,
        augment=Augment(), sampling="balanced", workers=workers,
    )  # fmt: skip
    data.prepare_data()
    data.setup()
    data.repeat = 2
    torch.manual_seed(0)
    task = DefectTask(
        TLUNet(encoder, 4, data.mean, data.std), batch_size=2, ema=0.9, optimizer="adamw",
        weight_decay=0.01, clip=1.0, schedule="one_cycle", warmup=0.2, steps=12,
    )  # fmt: skip
    steps, seen, stopping = Steps(), Seen(), Stopping()
    history = History(folder / "history.csv", steps=steps)
    checkpoints = Checkpoints(folder, stopping=stopping, monitor="val_dice")
    ours = [Reseed(), RewindValidation(), steps, history, checkpoints]
    callbacks = [Strike(stopping, **strike), seen, *ours]
    trainer = make_trainer(CPU, epochs=2, callbacks=callbacks, profiler=steps.waiting)
    last = folder / "last.ckpt"
    try:
        trainer.fit(task, data, ckpt_path=last if last.exists() else None, weights_only=True)
    except Stopped:
        assert strike
    return task, [*history.rows, *steps.points], seen.batches


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def scores(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of epochs and steps without the wall-clock columns."""
    return [{k: v for k, v in row.items() if k not in TIMED} for row in rows]


@pytest.mark.parametrize(
    ("encoder", "strikes"),
    [
        ("mobilenet_v2", [{"train": 6}]),
        pytest.param(
            "mobilenet_v2",
            [{"train": 2}, {"train": 9}, {"val": 1}, {"val": 3}],
            marks=pytest.mark.slow,
        ),
        # This encoder uses stochastic depth.
        pytest.param("efficientnet-b0", [{"train": 3}], marks=pytest.mark.slow),
    ],
)
def test_stopped_anywhere_it_goes_on_with_the_very_next_batch(
    tmp_path: Path, cache: Path, encoder: str, strikes: list[dict[str, int]]
) -> None:
    (tmp_path / "whole").mkdir()
    whole, rows, batches = train(tmp_path / "whole", cache, encoder)
    assert len(batches) == 12
    for strike in strikes:
        folder = tmp_path / str(strike)
        folder.mkdir()
        _, _, first = train(folder, cache, encoder, **strike)
        task, ours, rest = train(folder, cache, encoder)
        assert first + rest == batches, strike
        assert scores(ours) == scores(rows), strike
        for name, tensor in whole.state_dict().items():
            assert torch.equal(task.state_dict()[name], tensor), (strike, name)


@pytest.mark.slow
def test_stopped_again_and_again_with_workers_reading_ahead(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "whole").mkdir()
    _, rows, batches = train(tmp_path / "whole", cache, "mobilenet_v2")
    seen = []
    for strike in ({"train": 2}, {"train": 3}, {"val": 1}, {"train": 2}, {}):
        _, ours, some = train(tmp_path, cache, "mobilenet_v2", workers=1, **strike)
        seen += some
    assert seen == batches
    assert scores(ours) == scores(rows)


def test_a_signal_waits_only_where_somebody_looks_at_it() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Stopped, match="SIGTERM"), heed_signals():
        os.kill(os.getpid(), signal.SIGTERM)
    with heed_signals() as stopping:
        stopping.is_deferred = True
        os.kill(os.getpid(), signal.SIGINT)
        assert stopping.requested == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)  # shells and schedulers send the same signal twice
        time.sleep(1.1)
        with pytest.raises(Stopped, match="SIGINT"):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_schedulers_own_handler_gets_its_signal_afterwards() -> None:
    got = []
    before = signal.signal(signal.SIGUSR2, lambda signum, _: got.append(signum))
    try:
        with pytest.raises(Stopped, match="SIGUSR2"), heed_signals():
            os.kill(os.getpid(), signal.SIGUSR2)
        assert got == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_off_the_main_thread_signals_are_left_alone() -> None:
    def heed() -> None:
        with heed_signals():
            handlers.append(signal.getsignal(signal.SIGTERM))

    handlers: list[Any] = []
    thread = threading.Thread(target=heed)
    thread.start()
    thread.join()
    assert handlers == [signal.SIG_DFL]
