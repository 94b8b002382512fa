"""Untrained networks in folders that look like those of finished runs."""

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from tlunet.data.augment import Augment
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.split import fingerprint
from tlunet.model.metrics import DefectMetrics
from tlunet.model.network import TLUNet
from tlunet.model.task import DefectTask, load_network
from tlunet.runs.data import datamodule

CLASSES = ("pits", "lines", "dents", "<b>x</b>")
SIZE = (32, 64)
THRESHOLD = 0.45


def lively(network: TLUNet) -> TLUNet:
    """Set statistics as after training, with outputs on both sides of the threshold."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return network.eval()


def write_checkpoint(
    folder: Path, encoder: str = "resnet18", size: tuple[int, int] = SIZE, arch: str = "unet"
) -> Path:
    """Write the files of a run that prediction needs."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    network = lively(TLUNet(encoder, len(CLASSES), [90.0], [50.0], arch))
    task = DefectTask(network, threshold=THRESHOLD, classes=CLASSES)
    state = {k: v for k, v in task.state_dict().items() if k.startswith("network.")}
    content = {"state_dict": state, "hyper_parameters": dict(task.hparams)}
    torch.save(content, folder / "best.ckpt")
    meta = {"size": size, "digest": "0123456789abcdef", "classes": CLASSES}
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder


def write_run(root: Path) -> Path:
    """Write a run with its data (synthetic strips) and its test scores."""
    folder = write_checkpoint(root / "runs" / "synthetic" / "resnet-random-1.0-s0-0123")
    config: dict[str, Any] = {
        "data": {
            "name": "synthetic", "root": None, "split": "random", "split_seed": 0, "subset": "all",
            "size": list(SIZE), "residency": "auto", "workers": None, "on_error": "stop",
            "classes": [], "n": 96, "seed": 0, "balance": "even",
        },
        "paths": {"runs": str(root / "runs"), "data": str(root / "data")},
        "frac": 1.0, "batch_size": 8, "seed": 0,
        "augment": {"_target_": "tlunet.data.augment.Augment"},
    }  # fmt: skip
    data = datamodule(config, Augment())
    data.prepare_data()
    data.setup()
    config["data"]["root"] = str(data.dataset.root)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    meta = {
        "size": SIZE, "digest": "0123456789abcdef", "accelerator": "cpu", "precision": "32-true",
        "data_fingerprint": data.pack.fingerprint, "split_fingerprint": fingerprint(data.split),
    }  # fmt: skip
    (folder / "meta.json").write_text(json.dumps(meta))
    (folder / "status.json").write_text(json.dumps({"state": "finished"}))
    (folder / "metrics.json").write_text(json.dumps(tested(load_network(folder), data)))
    return folder


def tested(network: TLUNet, data: DefectDataModule) -> dict[str, object]:
    """Compute the test scores."""
    metrics = DefectMetrics(THRESHOLD)
    with torch.no_grad():
        for batch in data.batches("test"):
            metrics.update(*network(batch["image"]), batch["mask"], batch["label"], batch["index"])
    return metrics.compute()
