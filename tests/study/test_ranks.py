"""One cell in several processes: the same images, each counted once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from tlunet.data.augment import Augment
from tlunet.data.batches import EpochOrder
from tlunet.errors import ConfigError
from tlunet.machine.device import Hardware
from tlunet.machine.files import read_json
from tlunet.model.network import TLUNet
from tlunet.model.scores import per_image
from tlunet.model.task import DefectTask
from tlunet.runs.data import datamodule
from tlunet.study.training import processes, run
from tlunet.study.training.signals import Stopping
from tlunet.study.training.trainer import make_trainer

ROOT = Path(__file__).parents[2]
DDP = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "encoder.name=mobilenet_v2")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("number", [2, 3, 5])
def test_each_batch_of_training_is_shared_out(number: int) -> None:
    rows = np.arange(100, 118)
    for epoch in (0, 1):
        orders = [EpochOrder(rows, 4, 7, True, share=(rank, number)) for rank in range(number)]
        alone = EpochOrder(rows, 4, 7, True)
        for order in (alone, *orders):
            order.set_epoch(epoch)
        assert {len(order) for order in orders} == {len(alone)}
        for whole, *shares in zip(alone, *orders, strict=True):
            counted = [row for s in shares for row in s.rows[: s.counted]]
            assert sorted(counted) == sorted(whole.rows)
            # DistributedDataParallel averages the mean losses of the processes.
            weights = [s.weight / number for s in shares]
            assert weights == pytest.approx([s.counted / len(whole.rows) for s in shares])
            assert all(len(s.rows) for s in shares)  # a rank without an image gets a dummy row


@pytest.mark.parametrize("number", [1, 2, 3, 7])
def test_every_image_of_an_evaluation_is_counted_once(number: int) -> None:
    rows = np.arange(22)
    runs = {tuple(rows[i : i + 4]) for i in range(0, 22, 4)}
    counted: list[int] = []
    for rank in range(number):
        order = EpochOrder(rows, 8, 0, False, share=(rank, number), loss_size=4)
        for batch in order:
            own = batch.rows[: batch.counted]
            counted += own.tolist()
            assert {tuple(own[i : i + 4]) for i in range(0, len(own), 4)} <= runs
    assert sorted(counted) == rows.tolist()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """Two fake GPUs, and what was called in which order."""
    found: list[tuple[str, object]] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda k: found.append(("set_device", k)))
    monkeypatch.setattr(processes, "_join", lambda *place: found.append(("join", place[0])))
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "")  # restored afterwards
    return found


@pytest.mark.parametrize("accelerator", ["auto", "cuda", "cpu"])
def test_a_rank_takes_its_gpu_before_anything_else(
    calls: list[tuple[str, object]], accelerator: str
) -> None:
    def work(config: dict[str, Any], stopping: Stopping) -> None:
        calls.append(("work", config["trainer"]["accelerator"]))

    processes._child(1, 2, 0, work, {"trainer": {"accelerator": accelerator}}, None)
    first = [] if accelerator == "cpu" else [("set_device", 1)]
    assert calls == [*first, ("join", 1), ("work", accelerator)]


def test_so_does_a_rank_that_slurm_started(
    calls: list[tuple[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(cfg: Any) -> None:
        calls.append(("resolve", None))
        raise ConfigError("far enough")

    monkeypatch.setattr(run, "resolve", resolve)
    cfg = OmegaConf.create({"trainer": {"accelerator": "auto"}})
    assert run.run_cell(cfg) is None
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    monkeypatch.setenv("SLURM_LOCALID", "1")
    assert run.run_cell(cfg) is None
    assert calls == [("resolve", None), ("set_device", 1), ("resolve", None)]


def test_a_batch_script_is_no_step_to_join(monkeypatch: pytest.MonkeyPatch) -> None:
    """``sbatch -n 2`` without ``srun``: the second task does not exist, so nobody waits for it."""
    for key, value in {"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(processes, "_join", lambda *place: pytest.fail("it waits"))
    assert not processes.join_given(2)


@pytest.fixture(scope="module", params=["32-true", "bf16-mixed"])
def shared(
    run_py: Run,
    tiny: tuple[str, ...],
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The folder of a cell trained by two gloo processes, and their output."""
    home = tmp_path_factory.mktemp("shared")
    line = (*DDP, *tiny, "batch_size=6", "init=synthetic", "logger=wandb", "logger.mode=offline",
            f"trainer.precision={request.param}")  # fmt: skip
    done = run_py(*line, cwd=home)
    assert done.returncode == 0, done.stdout + done.stderr
    [folder] = home.glob("runs/synthetic/*/")
    return folder, done


@pytest.mark.slow
def test_two_processes_make_one_run(
    shared: tuple[Path, subprocess.CompletedProcess[str]], run_here: Run
) -> None:
    folder, done = shared
    assert read_json(folder / "meta.json")["science"]["processes"] == 2
    assert pd.read_csv(folder / "history.csv")["epoch"].tolist() == [0]
    assert len(list(folder.glob("wandb/offline-run-*"))) == 1
    assert done.stdout.count("✓") == 1
    assert not done.stderr


@pytest.mark.slow
def test_the_same_checkpoint_gives_the_same_evaluation(
    shared: tuple[Path, subprocess.CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = shared
    monkeypatch.chdir(folder.parents[2])
    config = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    data = datamodule(config, Augment())
    data.prepare_data()
    data.setup()
    network = TLUNet("mobilenet_v2", 4, data.mean, data.std)
    task = DefectTask(network, batch_size=6)
    best = torch.load(folder / "best.ckpt", weights_only=True)
    task.load_state_dict(best["state_dict"])
    precision = config["trainer"]["precision"]
    trainer = make_trainer(Hardware("cpu", precision, "a CPU", 1), epochs=1, callbacks=[])
    [alone] = trainer.validate(task, data, verbose=False)
    trainer.test(task, data, verbose=False)
    ids = data.pack.index["image_id"].tolist()
    ours = per_image(task.test_metrics.counts(), ids, data.pack.classes)
    theirs = pd.read_parquet(folder / "test_images.parquet")
    assert len(theirs) == 4 * len(data.rows["test"])
    row = pd.read_csv(folder / "history.csv").iloc[0]
    if precision == "32-true":
        pd.testing.assert_frame_equal(ours, theirs, rtol=1e-5)
    else:
        # Other batch sizes use other kernels, and bf16 keeps 8 bits: a probability may change by
        # 2**-8, which flips pixels whose probability is that close to the threshold.
        areas = ["intersection", "truth_pixels", "predicted_pixels"]
        same = ["image_id", "class_id", "label", "truth_pixels"]
        pd.testing.assert_frame_equal(ours[same], theirs[same])
        np.testing.assert_allclose(ours["prob"], theirs["prob"], atol=2**-8)
        pixels = np.prod(data.pack.size)
        np.testing.assert_allclose(ours[areas], theirs[areas], atol=0.02 * pixels)
    rel = 1e-5 if precision == "32-true" else 2**-6
    for score in ("val_loss", "val_dice", "val_iou", "val_mla"):
        assert row[score] == pytest.approx(alone[score], rel=rel), score


@pytest.mark.slow
def test_a_signal_to_the_first_stops_all_and_they_go_on(
    run_py: Run, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    line = (*DDP, *tiny, "epochs=60", "early_stopping.patience=null")
    env = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *line], cwd=tmp_path, env=env,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("runs/synthetic/*/last.ckpt")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 1, out
    [folder] = tmp_path.glob("runs/synthetic/*/")
    status = json.loads((folder / "status.json").read_text())
    assert status["state"] == "failed"
    assert "SIGTERM" in status["error"]
    assert "Traceback" not in out
    epochs = len(pd.read_csv(folder / "history.csv"))
    assert 0 < epochs < 60
    last = torch.load(folder / "last.ckpt", weights_only=True)
    assert last["epoch"] >= epochs - 1
