"""Training on a GPU: it waits for nothing, resumes where it stopped and gives its memory back."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from tlunet.data import residency
from tlunet.data.datamodule import DefectDataModule
from tlunet.machine.device import Hardware
from tlunet.machine.memory import free_memory
from tlunet.model.network import TLUNet
from tlunet.model.task import DefectTask
from tlunet.study.training.callbacks.checkpoints import Checkpoints
from tlunet.study.training.callbacks.history import History
from tlunet.study.training.callbacks.reseed import Reseed
from tlunet.study.training.callbacks.rewind import RewindValidation
from tlunet.study.training.callbacks.steps import Steps
from tlunet.study.training.signals import Stopped, Stopping
from tlunet.study.training.snapshots import Snapshots
from tlunet.study.training.trainer import make_trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype"),
]
Make = Callable[..., DefectDataModule]


class Watch(pl.Callback):
    """Lets every wait for the GPU fail, from the first step of an epoch to its last."""

    def __init__(self) -> None:
        self.steps = 0

    def on_train_batch_start(
        self, trainer: pl.Trainer, task: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # Not in the first epoch: kernels are chosen, buffers allocated.
        if task.device.type == "cuda" and trainer.current_epoch:
            torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(
        self, trainer: pl.Trainer, task: pl.LightningModule, outputs: Any, batch: Any, i: int
    ) -> None:
        self.steps += 1
        if task.device.type == "cuda" and trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("where", ["memmap", "auto"])
def test_no_step_waits_for_the_gpu(strip_data: Make, machine: Hardware, where: str) -> None:
    data = strip_data(residency=where)
    data.mask_format = machine.mask_format
    task = DefectTask(TLUNet("resnet18", 4, data.mean, data.std))
    task.network.to(memory_format=machine.memory_format)
    watch, steps = Watch(), Steps()
    callbacks = [watch, Reseed(), steps]
    trainer = make_trainer(machine, epochs=2, callbacks=callbacks, validate=False)
    try:
        trainer.fit(task, data)
    finally:
        if machine.accelerator == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    assert watch.steps == 10


def test_what_waits_is_seen(machine: Hardware, device: torch.device) -> None:
    if machine.accelerator != "cuda":
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pytest.raises(RuntimeError, match="synchroniz"):
            torch.ones(2, device=device).sum().item()
    finally:
        torch.cuda.set_sync_debug_mode("default")


class Strike(pl.Callback):
    """Stops after some training batches, and notes which batches were seen."""

    def __init__(self, stopping: Stopping, after: int | None) -> None:
        self.stopping, self.after, self.seen = stopping, after, []

    def on_train_batch_end(self, trainer, task, outputs, batch, batch_idx) -> None:  # type: ignore[no-untyped-def]
        self.seen.append(tuple(batch["id"]))
        if len(self.seen) == self.after:
            self.stopping.requested = 15


def train(
    folder: Path, make: Make, machine: Hardware, after: int | None = None
) -> tuple[DefectTask, list[dict[str, Any]], list[Any]]:
    """Train two epochs, or what is left of them, or until a strike."""
    data = make()
    data.mask_format = machine.mask_format
    torch.manual_seed(0)
    task = DefectTask(TLUNet("resnet18", 4, data.mean, data.std))
    task.network.to(memory_format=machine.memory_format)
    stopping, steps = Stopping(), Steps()
    history = History(folder / "history.csv", steps=steps)
    strike = Strike(stopping, after)
    ours = [Reseed(), RewindValidation(), steps, history, Checkpoints(folder, stopping=stopping)]
    trainer = make_trainer(machine, epochs=2, callbacks=[strike, *ours], profiler=steps.waiting)
    last = folder / "last.ckpt"
    with pytest.raises(Stopped) if after else nullcontext():
        trainer.fit(task, data, ckpt_path=last if last.exists() else None, weights_only=True)
    return task, history.rows, strike.seen


def test_a_resumed_run_is_the_uninterrupted_one(
    strip_data: Make, tmp_path: Path, machine: Hardware, figures: Callable[..., None]
) -> None:
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole, rows, batches = train(tmp_path / "whole", strip_data, machine)
    *_, first = train(tmp_path / "parts", strip_data, machine, after=7)
    task, again, rest = train(tmp_path / "parts", strip_data, machine)
    assert first + rest == batches
    assert [r["step"] for r in again] == [r["step"] for r in rows]
    pairs = zip(task.network.parameters(), whole.network.parameters(), strict=True)
    squares = [((a - b).detach().square().sum(), b.detach().square().sum()) for a, b in pairs]
    apart = float((sum(a for a, _ in squares) / sum(b for _, b in squares)).sqrt())
    losses = [abs(a["train_loss"] / b["train_loss"] - 1) for a, b in zip(again, rows, strict=True)]
    figures(weights=apart, losses=max(losses), is_equal=apart == 0)
    # Kernels that add in no fixed order differ in the last digits from run to run.
    assert apart < (1e-2 if machine.accelerator == "cuda" else 1e-12)
    assert max(losses) < 1e-2


def test_a_checkpoint_is_the_moment_and_does_not_wait_for_the_queue(
    tmp_path: Path, machine: Hardware, device: torch.device, figures: Callable[..., None]
) -> None:
    network = TLUNet("densenet121").to(device).to(memory_format=machine.memory_format)
    weights = network.state_dict()
    before = {k: v.clone() for k, v in weights.items()}
    snapshots, path = Snapshots(), tmp_path / "last.ckpt"
    snapshots.save_checkpoint({"state_dict": weights}, tmp_path / "first.ckpt")  # pins memory
    snapshots.teardown()
    n = 8192 if machine.accelerator == "cuda" else 64
    a = torch.randn(n, n, device=device)
    for _ in range(3):
        a @ a
    _wait(machine)
    began = time.perf_counter()
    snapshots.save_checkpoint({"state_dict": weights}, path)
    caller = time.perf_counter() - began
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()  # the next step
    for _ in range(200):
        a = (a @ a).clamp_(-1, 1)  # a queue of about five seconds on an H200 in float32
    queued = time.perf_counter() - began
    while not path.exists():
        assert time.perf_counter() - began < 60
        time.sleep(0.005)
    lag = time.perf_counter() - began
    _wait(machine)
    drained = time.perf_counter() - began
    snapshots.teardown()
    found = torch.load(path, weights_only=True)["state_dict"]
    assert found.keys() == before.keys()
    for name, value in before.items():
        assert torch.equal(found[name], value.cpu()), name
        assert found[name].stride() == value.stride(), name
    figures(caller=caller, queued=queued, lag=lag, queue=drained)
    if machine.accelerator == "cuda":
        assert lag < drained, "the file waited for steps that were queued after it"


def _wait(machine: Hardware) -> None:
    if machine.accelerator == "cuda":
        torch.cuda.synchronize()


def test_memory_comes_back_between_cells(
    strip_data: Make, tmp_path: Path, machine: Hardware, figures: Callable[..., None]
) -> None:
    held = []
    for k in range(3):
        folder = tmp_path / str(k)
        folder.mkdir()
        train(folder, strip_data, machine)
        free_memory(machine.accelerator)
        is_gpu = machine.accelerator == "cuda"
        held.append(torch.cuda.memory_allocated() - residency.resident_bytes() if is_gpu else 0)
    figures(held=held)
    assert held[2] <= held[1] + 2**20
