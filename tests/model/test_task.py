import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tlunet.data.augment import Augment
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import OnDisk
from tlunet.data.residency import to_device
from tlunet.machine.device import _does_bf16_well
from tlunet.model.losses import BCEDiceLoss
from tlunet.model.metrics import DefectMetrics, predicted_masks
from tlunet.model.network import TLUNet
from tlunet.model.task import DefectTask


@pytest.fixture
def data(strips: Path, tmp_path: Path) -> DefectDataModule:
    module = DefectDataModule(OnDisk("severstal", strips), tmp_path, batch_size=8)
    module.prepare_data()
    module.setup()
    return module


def trainer(**kwargs: object) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(
        accelerator="cpu", use_distributed_sampler=False, num_sanity_val_steps=0,
        log_every_n_steps=1, **(quiet | {"enable_checkpointing": False} | kwargs),
    )  # fmt: skip


@pytest.mark.slow
def test_it_learns_four_images_by_heart(data: DefectDataModule) -> None:
    pl.seed_everything(0, verbose=False)
    defective = np.flatnonzero(data.pack.labels.sum(1) > 0)[:4]
    data.rows = data.rows | dict.fromkeys(("train", "val", "test"), defective)
    task = DefectTask(TLUNet("resnet18", mean=data.mean, std=data.std), lr=2e-3, betas=(0.9, 0.99))
    fit = trainer(max_epochs=60, limit_val_batches=0)
    fit.fit(task, data)
    task.train()  # use batch statistics of these images
    metrics = DefectMetrics()
    for batch in data.test_dataloader():
        batch = data.on_after_batch_transfer(batch, 0)
        with torch.no_grad():
            logits = task.network(batch["image"])
        metrics.update(*logits, batch["mask"], batch["label"], batch["index"])
    scores = metrics.compute()
    assert scores["dice_image"] > 0.9
    assert scores["subset_accuracy"] == 1


def test_validation_logs_the_same_definition_as_the_metrics(data: DefectDataModule) -> None:
    task = DefectTask(TLUNet("resnet18", mean=data.mean, std=data.std))
    [logged] = trainer().validate(task, data, verbose=False)
    metrics = DefectMetrics()
    losses = []
    for batch in data.val_dataloader():
        batch = data.on_after_batch_transfer(batch, 0)
        with torch.no_grad():
            logits = task.eval().network(batch["image"])
        outputs = *logits, batch["mask"], batch["label"]
        metrics.update(*outputs, batch["index"])
        losses += [float(task.loss(*outputs))] * len(batch["id"])
    scores = metrics.compute()
    assert logged["val_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert logged["val_dice"] == pytest.approx(scores["dice_image"])
    assert logged["val_mla"] == pytest.approx(scores["mla"])
    auc = scores["auc"]["mean"]
    assert logged["val_auc"] == pytest.approx(math.nan if auc is None else auc, nan_ok=True)


def test_a_larger_batch_of_evaluation_changes_no_definition(strips: Path, tmp_path: Path) -> None:
    """A batch Dice is not a mean over images: the loss is always over `batch_size` images."""
    torch.manual_seed(0)
    network = TLUNet("resnet18", mean=[80.0], std=[40.0])
    logged = []
    for eval_batch_size in (None, 8):
        data = DefectDataModule(
            OnDisk("severstal", strips), tmp_path, batch_size=2, eval_batch_size=eval_batch_size
        )
        task = DefectTask(network, BCEDiceLoss(), batch_size=2)
        data.prepare_data()
        data.setup()
        data.rows["val"] = np.arange(11)  # full, partial and incomplete batches
        logged.append(trainer().validate(task, data, verbose=False)[0])
        assert len(data.val_dataloader()) == (6 if eval_batch_size is None else 2)
    assert logged[0].keys() == logged[1].keys()
    for name, value in logged[0].items():
        assert logged[1][name] == pytest.approx(value, rel=1e-5), name


class Losses(pl.Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer, task, outputs, batch, batch_idx) -> None:
        self.values.append(float(outputs["loss"]))


def losses(data: DefectDataModule, steps: int, **kwargs: object) -> np.ndarray:
    pl.seed_everything(0, verbose=False)
    task = DefectTask(TLUNet("mobilenet_v2", mean=data.mean, std=data.std))  # small and fast
    kept = Losses()
    fit = trainer(max_steps=steps, max_epochs=-1, limit_val_batches=0, callbacks=[kept], **kwargs)
    fit.fit(task, data)
    return np.array(kept.values)


@pytest.fixture
def small(strips: Path, tmp_path: Path) -> Callable[[], DefectDataModule]:
    def make() -> DefectDataModule:
        data = DefectDataModule(
            OnDisk("severstal", strips), tmp_path, batch_size=2, size=(32, 32), augment=Augment()
        )
        data.prepare_data()
        data.setup()
        return data

    return make


@pytest.mark.slow
def test_50_steps_are_the_same_from_wherever_the_pack_lies(
    small: Callable[[], DefectDataModule],
) -> None:
    mapped, resident = small(), small()
    resident._resident = to_device(resident.pack, torch.device("cpu"))
    assert np.array_equal(losses(mapped, 50), losses(resident, 50))


@pytest.mark.slow
def test_bf16_learns_as_float32_does(small: Callable[[], DefectDataModule]) -> None:
    """Each loss is within 5%, their mean within 1%."""
    # Emulated bf16 takes a second per step, so use only a few.
    steps = 50 if _does_bf16_well("cpu") else 3
    exact, rounded = (losses(small(), steps, precision=p) for p in ("32-true", "bf16-mixed"))
    apart = rounded / exact - 1
    assert 0 < np.abs(apart).max() < 0.05
    assert abs(apart.mean()) < 0.01


#: Operations that make the host wait for the device.
SYNCS = {"aten._local_scalar_dense", "aten.nonzero", "aten.equal", "aten.masked_select"}


class Waits(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func).rpartition(".")[0]
        if name in SYNCS:
            self.found.append(name)
        return func(*args, **kwargs or {})


def test_no_step_waits_for_the_device(data: DefectDataModule) -> None:
    """Check from the batch's arrival to the optimiser step, in Lightning's own loop."""
    waits = Waits()

    class Watch(pl.Callback):
        def on_train_batch_start(self, *args) -> None:
            waits.__enter__()

        def on_train_batch_end(self, *args) -> None:
            waits.__exit__(None, None, None)

        on_validation_batch_start = on_train_batch_start
        on_validation_batch_end = on_train_batch_end

    task = DefectTask(
        TLUNet("resnet18", mean=data.mean, std=data.std),
        ema=0.9, clip=1.0, schedule="cosine", warmup=0.1, steps=3,
    )  # fmt: skip
    predicted_masks(torch.zeros(1, 1, 1, 1))  # computes the threshold on the host, once
    trainer(max_steps=3, callbacks=[Watch()]).fit(task, data)
    assert waits.found == []
    with waits:
        torch.ones(2).sum().item()
    assert waits.found == ["aten._local_scalar_dense"]  # the check works


@pytest.mark.slow
def test_tasks_of_one_process_share_compiled_code(data: DefectDataModule) -> None:
    compiled = []

    def backend(graph, inputs):
        compiled.append(len(inputs))
        return graph.forward

    torch._dynamo.reset()
    image = torch.zeros(4, 1, 32, 64, dtype=torch.uint8)
    for _ in range(2):
        task = DefectTask(TLUNet("resnet18", mean=data.mean, std=data.std)).eval()
        expected = task.network(image)
        task.compile_for(4, backend=backend)
        assert torch.equal(task._logits(image).masks, expected.masks)
        assert task._logits(image[:3]).masks.shape[0] == 3  # the last batch is not compiled
        assert set(task.state_dict()) == {f"network.{k}" for k in task.network.state_dict()}
    assert len(compiled) == 1
    torch._dynamo.reset()


def test_adam_is_the_papers() -> None:
    optimizer = DefectTask(TLUNet("resnet18")).configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.defaults["lr"] == 5e-4
    assert optimizer.defaults["betas"] == (0.99, 0.99)
    assert optimizer.defaults["weight_decay"] == 0


def test_checkpoints_hold_plain_values_and_load_safely(
    data: DefectDataModule, tmp_path: Path
) -> None:
    network = TLUNet("resnet18", mean=data.mean, std=data.std)
    task = DefectTask(network, BCEDiceLoss(), classes=["a", "b", "c", "d"])
    fit = trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    fit.fit(task, data)
    fit.save_checkpoint(tmp_path / "x.ckpt")
    loaded = torch.load(tmp_path / "x.ckpt", weights_only=True)
    rebuilt = TLUNet(**loaded["hyper_parameters"]["network"])
    prefix = "network."
    state = {k.removeprefix(prefix): v for k, v in loaded["state_dict"].items()}
    rebuilt.load_state_dict(state)
    assert loaded["hyper_parameters"]["classes"] == ["a", "b", "c", "d"]


def test_forward_gives_probabilities() -> None:
    masks, labels = DefectTask(TLUNet("resnet18")).eval()(torch.zeros(1, 1, 32, 32))
    for p in (masks, labels):
        assert 0 <= p.min() <= p.max() <= 1
