"""Where cuDNN may time its kernels: full training batches, and nothing else."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import OnDisk
from tlunet.machine.device import Hardware
from tlunet.study.training.trainer import make_trainer


class Noted(pl.LightningModule):
    """A module of one weight that notes the flag in each step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.found: list[tuple[str, int, bool]] = []

    def _note(self, stage: str, batch: dict[str, Any]) -> None:
        self.found.append((stage, len(batch["id"]), torch.backends.cudnn.benchmark))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        self._note("train", batch)
        return self.weight.square()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self._note("val", batch)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self._note("test", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_only_full_training_batches_are_tuned(
    strips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    data = DefectDataModule(OnDisk("severstal", strips), tmp_path, batch_size=4)
    module = Noted()
    trainer = make_trainer(Hardware("cpu", "32-true", "a CPU", 1), epochs=2, callbacks=[])
    trainer.fit(module, data)
    trainer.test(module, data, verbose=False)
    assert module.found == [
        *[("train", 4, True)] * 4, ("train", 2, False), ("val", 3, False),
        *[("train", 4, True)] * 4, ("train", 2, False), ("val", 3, False),
        ("test", 3, False),
    ]  # fmt: skip
    assert not torch.backends.cudnn.benchmark
