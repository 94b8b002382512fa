"""Runs with weights from the hub, and killed runs, each in its own process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save
from segmentation_models_pytorch.encoders import encoders
from torchvision.models import resnet18

from hub import serve_hub

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


def test_imagenet_weights_from_the_hub(run_py: Run, tiny: tuple[str, ...], tmp_path: Path) -> None:
    settings = encoders["resnet18"]["pretrained_settings"]["imagenet"]
    weights = {k: v for k, v in resnet18().state_dict().items() if not k.startswith("fc.")}
    name = f"{settings['repo_id']}/resolve/{settings['revision']}/model.safetensors"
    with serve_hub({name: save(weights)}) as url:
        env = {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "hf"), "TLUNET_WEIGHTS": ""}
        done = run_py("init=imagenet", *tiny, cwd=tmp_path, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    [meta] = [json.loads(p.read_text()) for p in tmp_path.glob("runs/synthetic/*/meta.json")]
    identity = f"{settings['repo_id']}@{settings['revision']}"
    assert meta["starting_weights"]["identity"] == identity
    assert meta["starting_weights"]["loaded"] == len(weights)


def test_without_weights_that_cell_fails_and_the_others_run(
    run_py: Run, run_here: Run, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    line = ("-m", "init=imagenet,random", *tiny)
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf")}
    done = run_py(*line, cwd=tmp_path, **nowhere)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.startswith("resnet · ImageNet: 1 of 2 cells will fail: 127.0.0.1:9/")
    table = pd.read_csv(tmp_path / "runs/synthetic/results.csv").set_index("init")
    assert table["state"].to_dict() == {"imagenet": "failed", "random": "finished"}
    for way_out in ("init.path", "TLUNET_WEIGHTS", "init=synthetic"):
        assert way_out in table.loc["imagenet", "error"]
    assert "Traceback" not in done.stdout + done.stderr

    # Weights from a folder: the cell runs, and its failed folder is removed.
    (tmp_path / "weights").mkdir()
    torch.save(resnet18().state_dict(), tmp_path / "weights/resnet18.pth")
    done = run_here(*line, cwd=tmp_path, TLUNET_WEIGHTS=str(tmp_path / "weights"))
    assert done.returncode == 0, done.stdout + done.stderr
    table = pd.read_csv(tmp_path / "runs/synthetic/results.csv").set_index("init")
    assert table["state"].to_dict() == {"imagenet": "finished", "random": "finished"}

    # Weights from a previous run.
    run = next((tmp_path / "runs/synthetic").glob("resnet-random-*"))
    done = run_here("init=checkpoint", f"init.path={run}", *tiny, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def start(cwd: Path, *line: str) -> subprocess.Popen[bytes]:
    env = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *line], cwd=cwd, env=env,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def test_a_killed_cell_goes_on_as_if_nothing_had_happened(
    run_py: Run, run_here: Run, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    line = (*tiny, "epochs=4", "encoder=resnet")
    process = start(tmp_path, *line)
    deadline = time.monotonic() + 280
    while not (found := list(tmp_path.glob("runs/synthetic/*/history.csv"))) or (
        len(pd.read_csv(found[0])) < 2
    ):
        assert time.monotonic() < deadline
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)  # in its third epoch
    process.wait()
    [folder] = [p.parent for p in found]
    assert json.loads((folder / "status.json").read_text())["state"] == "running"
    done = run_py(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    whole = run_here(*line, "study=whole", cwd=tmp_path)
    assert whole.returncode == 0
    [straight] = tmp_path.glob("runs/whole/*/")
    assert straight.name == folder.name
    columns = ["epoch", "train_loss", "val_loss", "val_dice", "val_iou", "val_mla", "val_auc"]
    ours, theirs = (pd.read_csv(f / "history.csv")[columns] for f in (folder, straight))
    assert ours["epoch"].tolist() == [0, 1, 2, 3]
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    metrics = [(f / "metrics.json").read_text() for f in (folder, straight)]
    assert metrics[0] == metrics[1]
    weights = [
        torch.load(f / "last.ckpt", weights_only=True)["state_dict"] for f in (folder, straight)
    ]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[1])
