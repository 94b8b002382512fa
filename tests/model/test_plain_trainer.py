"""The data module and the task in a plain Lightning trainer, as in anyone's own script."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import Strips
from tlunet.model.network import TLUNet
from tlunet.model.task import DefectTask

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}


def test_fit_and_test_the_best_checkpoint(tmp_path: Path) -> None:
    data = DefectDataModule(Strips(tmp_path / "synthetic", n=32), tmp_path, batch_size=8)
    task = DefectTask(TLUNet("mobilenet_v2", classes=4))
    best = ModelCheckpoint(tmp_path / "checkpoints", monitor="val_loss")
    trainer = pl.Trainer(accelerator="cpu", max_epochs=2, callbacks=[best], **QUIET)
    trainer.fit(task, data)
    assert trainer.global_step == 6  # 24 training images
    fresh = DefectTask(TLUNet("mobilenet_v2", classes=4, mean=[1.0], std=[2.0]))
    [scores] = trainer.test(
        fresh, data, ckpt_path=best.best_model_path, weights_only=True, verbose=False
    )
    [again] = trainer.test(task, data, ckpt_path="best", weights_only=True, verbose=False)
    assert scores == again
    assert 0 <= scores["test_dice"] <= 1


SCRIPT = """
import pathlib, sys, time
import pytorch_lightning as pl
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import Strips
from tlunet.model.network import TLUNet
from tlunet.model.task import DefectTask

if __name__ == "__main__":
    pl.seed_everything(0)
    here = pathlib.Path(sys.argv[1])
    data = DefectDataModule(Strips(here / "synthetic", n=32), here, batch_size=8)
    task = DefectTask(TLUNet("mobilenet_v2", classes=4))
    trainer = pl.Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )
    trainer.fit(task, data)
    [scores] = trainer.test(task, data, verbose=False)
    line = f"{trainer.global_step} steps, {scores['test_loss']:.6f}"
    (here / f"rank{trainer.global_rank}.txt").write_text(line)
    for _ in range(600):  # the other may still be reading the last sums from this process
        if len(list(here.glob("rank*.txt"))) == 2:
            break
        time.sleep(0.1)
"""


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "data")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = [(tmp_path / "data" / f"rank{rank}.txt").read_text() for rank in (0, 1)]
    assert said[0] == said[1]  # both know the score of all images
    assert said[0].startswith("3 steps")
