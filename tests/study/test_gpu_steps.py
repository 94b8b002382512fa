"""GPU steps checked on shapes only: all tensors are on the GPU, and nothing waits for it.

torch's fake tensors have a shape and a device but no values, so no GPU is needed. Reading a value
on the host (``item()``, ``bool()``, ``nonzero()``) raises an error, and so does an operation on
tensors of two devices. :class:`NoWaiting` detects blocking copies between host and GPU.
"""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchmetrics import Metric

from tlunet.data.augment import Augment
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import OnDisk
from tlunet.data.residency import Resident
from tlunet.deploy.predict import Predictor
from tlunet.deploy.rules import Rules
from tlunet.model import losses
from tlunet.model.network import TLUNet
from tlunet.model.task import DefectTask
from tlunet.study.training.callbacks.steps import Steps

GPU = torch.device("cuda", 0)
CLASSES = 4


class NoWaiting(TorchDispatchMode):
    """Fail on blocking copies of a tensor between host and GPU."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        asked = [x.device.type for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        given = [x.device.type for x in tree_leaves(result) if isinstance(x, torch.Tensor)]
        is_async = (kwargs or {}).get("non_blocking") or (
            func is torch.ops.aten.copy_.default and args[2:] == (True,)
        )
        if len({*asked, *given}) > 1 and not is_async:
            assert func is not torch.ops.aten._to_copy.default, f"{asked} → {given} waits"
            assert func is not torch.ops.aten.copy_.default, f"{asked} → {given} waits"
        return result


@pytest.fixture
def data(strips: Path, tmp_path: Path) -> DefectDataModule:
    data = DefectDataModule(OnDisk("severstal", strips), tmp_path, batch_size=4, augment=Augment())
    data.prepare_data()
    data.setup()
    return data


def on_the_gpu(batch: dict[str, Any]) -> dict[str, Any]:
    """Move a batch as Lightning moves a pinned one."""
    return {
        k: v.to(GPU, non_blocking=True) if isinstance(v, torch.Tensor) else v
        for k, v in batch.items()
    }


def batch_of(data: DefectDataModule, lives_there: bool) -> Callable[[], dict[str, Any]]:
    """Return a function that moves the first training batch; its random numbers are drawn here."""
    if lives_there:  # so that the loader only yields indices
        data._resident = Resident(torch.empty(0), torch.empty(0))
    batch = next(iter(data.train_dataloader()))

    def bring() -> dict[str, Any]:
        if lives_there:
            data._resident = Resident(
                torch.empty(24, 1, 32, 64, dtype=torch.uint8, device=GPU),
                torch.empty(24, 32, 64, dtype=torch.uint8, device=GPU),
            )
        pinned = {
            k: torch.empty(v.shape, dtype=v.dtype) if isinstance(v, torch.Tensor) else v
            for k, v in batch.items()
        }
        with NoWaiting():
            return data.on_after_batch_transfer(on_the_gpu(pinned), 0)

    return bring


def move(model: nn.Module) -> None:
    """Do what ``model.to(GPU)`` does; it cannot move fake parameters."""

    def there(x: torch.Tensor) -> torch.Tensor:
        fake = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=GPU)
        return nn.Parameter(fake) if isinstance(x, nn.Parameter) else fake

    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            tensors |= {k: there(x) for k, x in tensors.items() if x is not None}
        if isinstance(module, Metric):
            for name, default in module._defaults.items():
                if isinstance(default, torch.Tensor):
                    setattr(module, name, there(default))


def task_here(
    loss: nn.Module | None = None, encoder: str = "resnet18", arch: str = "unet"
) -> DefectTask:
    network = TLUNet(encoder, CLASSES, [80.0], [40.0], arch)
    return DefectTask(network.to(memory_format=torch.channels_last), loss, batch_size=2)


LOSSES = [
    losses.PaperLoss(),
    losses.BalancedLoss(),
    losses.BCEDiceLoss(),
    losses.LogDiceLoss(),
    losses.FocalLoss(),
    losses.LovaszLoss(),
]


@pytest.mark.parametrize(
    ("loss", "lives_there"),
    [*((loss, True) for loss in LOSSES), (LOSSES[0], False)],
    ids=[*(type(loss).__name__ for loss in LOSSES), "memory-mapped"],
)
def test_a_training_step_never_waits(
    data: DefectDataModule, loss: torch.nn.Module, lives_there: bool
) -> None:
    bring, task = batch_of(data, lives_there), task_here(loss)
    with FakeTensorMode():
        move(task)
        batch = bring()
        assert {v.device for v in batch.values() if isinstance(v, torch.Tensor)} == {GPU}
        adam, steps, trainer = task.configure_optimizers(), Steps(), _trainer()
        with NoWaiting():
            value = task.training_step(batch, 0)
        for weight in task.parameters():  # torch runs no backward pass without a real GPU
            weight.grad = torch.empty_like(weight)
        with NoWaiting():
            steps.on_before_optimizer_step(trainer, task, adam)
            adam.step()
            steps.on_train_batch_end(trainer, task, {"loss": value}, batch, 0)
        assert value.device == GPU
        assert value.dtype == torch.float32
        assert task.train_loss.total.device == GPU


def _trainer() -> Any:
    """The attributes of a trainer that :class:`Steps` uses."""
    epoch_loop = SimpleNamespace(batch_idx=0)
    return SimpleNamespace(
        fit_loop=SimpleNamespace(epoch_loop=epoch_loop), num_training_batches=1, world_size=1
    )


@pytest.mark.parametrize(
    ("encoder", "arch"),
    [
        ("densenet121", "unet"),
        ("mit_b0", "unet"),
        ("resnet18", "fpn"),
        ("resnet18", "unetplusplus"),
    ],
)
def test_every_kind_of_network_never_waits(data: DefectDataModule, encoder: str, arch: str) -> None:
    bring, task = batch_of(data, lives_there=True), task_here(None, encoder, arch)
    with FakeTensorMode():
        move(task)
        batch = bring()
        with NoWaiting():
            task.training_step(batch, 0)


def test_an_evaluation_step_never_waits(data: DefectDataModule) -> None:
    bring, task = batch_of(data, lives_there=True), task_here().eval()
    with FakeTensorMode():
        move(task)
        batch = bring()
        with NoWaiting(), torch.no_grad():
            task.validation_step(batch, 0)
            bits = task.test_step(batch, 0)["bits"]
        assert bits.device == GPU
        assert bits.shape == (len(batch["index"]), 32, 64)  # one byte per pixel leaves the device
        assert bits.dtype == torch.uint8
        assert {x.device for x in task.val_metrics.intersection} == {GPU}


@pytest.mark.parametrize("is_soft", [False, True])
@pytest.mark.parametrize("flips", ["none", "both"])
def test_predicting_asks_without_waiting(flips: str, is_soft: bool) -> None:
    rules = Rules.plain(CLASSES, 0.5)
    if flips != "none":
        rules = Rules((0.4,) * CLASSES, (0,) * CLASSES, (0.5,) * CLASSES, flips)
    predictor = Predictor(task_here().network, list("abcd"), rules=rules)
    with FakeTensorMode():
        move(predictor.network)
        predictor.device, predictor._thresholds = GPU, torch.empty(CLASSES, 1, 1, device=GPU)
        with NoWaiting():
            images = torch.empty(2, 1, 32, 64, dtype=torch.uint8)
            masks, labels, soft = predictor._decide(images, is_soft)
        assert masks.device == labels.device == GPU
        assert soft is None or soft.device == GPU


def test_what_waits_is_seen() -> None:
    with FakeTensorMode(), NoWaiting():
        there = torch.empty(2, 3, device=GPU)
        with pytest.raises(AssertionError, match="waits"):
            torch.tensor([1, 2, 3], device=GPU)
        with pytest.raises(AssertionError, match="waits"):
            there.cpu()
        with pytest.raises(AssertionError, match="waits"):
            torch.empty(3).copy_(there[0])
        with pytest.raises(DataDependentOutputException):
            there.sum().item()
