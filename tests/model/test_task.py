import math
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from tlunet.data.datamodule import DefectDataModule
from tlunet.model.losses import BCEDiceLoss
from tlunet.model.metrics import DefectMetrics
from tlunet.model.network import TLUNet
from tlunet.model.task import DefectTask


@pytest.fixture
def data(strips: Path, tmp_path: Path) -> DefectDataModule:
    module = DefectDataModule("severstal", strips, tmp_path, batch_size=8)
    module.prepare_data()
    module.setup()
    return module


def trainer(**kwargs: object) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(
        accelerator="cpu", use_distributed_sampler=False, num_sanity_val_steps=0,
        log_every_n_steps=1, **(quiet | {"enable_checkpointing": False} | kwargs),
    )  # fmt: skip


def test_it_learns_four_images_by_heart(data: DefectDataModule) -> None:
    pl.seed_everything(0, verbose=False)
    defective = np.flatnonzero(data.pack.labels.sum(1) > 0)[:4]
    data.rows = data.rows | dict.fromkeys(("train", "val", "test"), defective)
    task = DefectTask(TLUNet("resnet18", mean=data.mean, std=data.std), lr=2e-3, betas=(0.9, 0.99))
    fit = trainer(max_epochs=60, limit_val_batches=0)
    fit.fit(task, data)
    task.train()  # batch statistics of these very images
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
