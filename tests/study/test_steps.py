"""Step statistics of an epoch; recording them does not change the training."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import Callback

from tlunet.data.augment import Augment
from tlunet.data.batches import Rows
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import Strips
from tlunet.machine.device import Hardware
from tlunet.model.network import TLUNet
from tlunet.model.task import DefectTask
from tlunet.study.training.callbacks import steps as module
from tlunet.study.training.callbacks.history import COLUMNS, History
from tlunet.study.training.callbacks.steps import Steps
from tlunet.study.training.trainer import make_trainer

CPU = Hardware("cpu", "32-true", "a CPU", 1)
SLOW = 0.02  # seconds of waiting per batch


class Plain(Callback):
    """Record loss and gradient norm of each step, the slow and obvious way."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.norms: list[float] = []

    def on_after_backward(self, trainer: Any, module: Any) -> None:
        squares = [float((p.grad.double() ** 2).sum()) for p in module.parameters()]
        self.norms.append(sum(squares) ** 0.5)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *args: Any) -> None:
        self.losses.append(float(outputs["loss"]))


def train(cache: Path, file: Path, *callbacks: Callback, steps: Steps | None = None) -> Any:
    """Train one epoch of 6 batches; return the weights and the history."""
    data = DefectDataModule(
        Strips(cache / "synthetic", n=32), cache, batch_size=4, augment=Augment()
    )
    data.prepare_data()
    data.setup()
    torch.manual_seed(0)
    task = DefectTask(TLUNet("resnet18", 4, data.mean, data.std))
    history = History(file, steps=steps)
    ours = [*callbacks, *([steps] if steps else []), history]
    profiler = steps.waiting if steps else None
    make_trainer(CPU, epochs=1, callbacks=ours, profiler=profiler).fit(task, data)
    return task.state_dict(), history


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Steps, Plain]:
    """Train without and with the callback, with delayed batches."""
    cache = tmp_path_factory.mktemp("cache")
    bare, _ = train(cache, cache / "bare.csv")
    steps, plain = Steps(), Plain()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DefectDataModule, "_loader", late(DefectDataModule._loader))
        weights, history = train(cache, cache / "history.csv", plain, steps=steps)
    assert all(torch.equal(weights[name], bare[name]) for name in bare)
    return bare, history, steps, plain


def late(loader: Any) -> Any:
    """Return the loader with a slow sampler."""

    def make(self: DefectDataModule, subset: str, train: bool) -> Any:
        made = loader(self, subset, train)
        order = type(made.sampler)

        class Late(order):  # type: ignore[misc, valid-type]
            def __iter__(self) -> Iterator[Rows]:
                for rows in super().__iter__():
                    time.sleep(SLOW)
                    yield rows

        made.sampler.__class__ = Late
        return made

    return make


def test_the_points_are_what_the_training_did(measured: tuple[Any, Any, Steps, Plain]) -> None:
    _, history, steps, plain = measured
    assert [p["step"] for p in steps.points] == [1, 2, 3, 4, 5, 6]
    assert [p["samples"] for p in steps.points] == [4, 8, 12, 16, 20, 24]
    assert [p["train_loss_step"] for p in steps.points] == plain.losses
    norms = [p["gradient_norm_step"] for p in steps.points]
    assert norms == pytest.approx(plain.norms, rel=1e-5)
    [row] = history.rows
    assert row["gradient_norm"] == pytest.approx(sum(norms) / 6)
    seconds = [p["elapsed_seconds"] for p in steps.points]
    assert seconds == sorted(seconds)
    assert seconds[-1] <= row["elapsed_seconds"] == row["seconds"]


def test_the_row_of_an_epoch(measured: tuple[Any, Any, Steps, Plain]) -> None:
    _, history, _, _ = measured
    [row] = history.rows
    by_class = [f"val_{name}/{m}" for name in ("dice_class", "auc") for m in (1, 2, 3, 4)]
    assert list(row) == [*COLUMNS, *by_class]
    assert history.path.read_text().splitlines()[0].split(",") == list(row)
    assert (row["step"], row["samples"], row["learning_rate"]) == (6, 24, 5e-4)
    assert 0 < row["waiting_share"] < 1
    training = row["waiting_share"] * history.training_seconds
    assert 6 * SLOW <= training < 6 * SLOW + 0.5 * history.training_seconds
    assert all(row[name] is not None for name in by_class[:4])


def test_a_long_epoch_has_few_points(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "POINTS", 4)
    steps = Steps()
    train(tmp_path, tmp_path / "history.csv", steps=steps)
    assert [p["step"] for p in steps.points] == [2, 4, 6]
