"""Generate study folders quickly: run folders as the runner writes them, without training."""

import json
import zlib
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from tlunet.data.rle import encode
from tlunet.model.scores import PixelCounts, per_image, summarise

CLASSES = ("pits", "lines", "scratches", "patches")
SIZE = (16, 32)


def make_truth(n: int, seed: int = 0, classes: Sequence[str] = CLASSES) -> dict[str, np.ndarray]:
    """Map image ids to masks (M, H, W): one block of pixels per class; a fifth have none."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((n, len(classes), *SIZE), bool)
    for i, m in product(range(n), range(len(classes))):
        if rng.random() < 0.45 and i % 5:
            top, left = rng.integers(0, 8, 2)
            masks[i, m, top : top + 6, 6 * m + left % 4 : 6 * m + left % 4 + 5] = True
    return {f"{k:04}.jpg": mask for k, mask in enumerate(masks)}


def write_run(
    study: Path,
    truth: dict[str, np.ndarray],
    *,
    encoder: str = "resnet",
    init: str = "random",
    frac: float = 1.0,
    seed: int = 0,
    skill: float = 0.7,
    dead: Sequence[int] = (),
    loss: str = "tlunet.model.losses.PaperLoss",
    classes: Sequence[str] = CLASSES,
    dataset: str = "synthetic",
    groups: Sequence[int] | None = None,
    with_masks: bool = False,
    root: str = "nowhere",
    data: dict[str, Any] | None = None,
    cache: str = "nowhere",
    science: dict[str, Any] | None = None,
    facts: dict[str, Any] | None = None,
    time: str | None = None,
    tag: str = "",
    **init_settings: Any,
) -> Path:
    """Write a finished run that finds a defect with probability ``skill``, ``dead`` classes never.

    ``data`` and ``cache`` go to ``config.yaml``, ``science`` and ``facts`` to ``meta.json``,
    ``time`` to ``status.json``; ``tag`` distinguishes folders of the same cell.
    """
    # All runs share the images' difficulty; the noise is specific to the network.
    own = np.random.default_rng(zlib.crc32(repr((encoder, init, frac, seed, loss)).encode()))
    hard = np.random.default_rng(9).random((len(truth), len(classes)))
    ids, masks = list(truth), np.stack(list(truth.values()))
    predicted = np.zeros_like(masks)
    for i, m in product(range(len(ids)), range(len(classes))):
        found = skill + 0.2 * own.normal() > hard[i, m]
        if m + 1 not in dead and masks[i, m].any() and found:
            predicted[i, m] = masks[i, m] & (own.random(masks.shape[2:]) < 0.4 + 0.6 * skill)
    areas = [a.sum((2, 3)) for a in (masks & predicted, masks, predicted)]
    label = masks.any((2, 3))
    prob = np.clip(0.2 + 0.6 * label * skill + 0.15 * own.normal(size=label.shape), 0.001, 0.999)
    counts = PixelCounts(np.arange(len(ids)), *areas, label, prob.astype(np.float32))
    folder = study / f"{encoder}-{init}-{frac}-s{seed}-{loss[-12:-4]}{len(init_settings)}{tag}"
    folder.mkdir(parents=True)
    fixed = {"encoder": encoder, "init": init, "start": init, "frac": frac, "seed": seed}
    fixed |= {"loss": loss, "data": "d", "split": "s", "epochs": 3} | (science or {})
    meta = {
        "study": study.name, "dataset": dataset, "encoder": encoder, "init": init, "frac": frac,
        "seed": seed, "digest": "0123456789abcdef", "kin": "k", "science": fixed,
        "split_fingerprint": "5" * 64, "data_fingerprint": "6" * 64, "left_out": [],
        "size": list(masks.shape[2:]), "classes": list(classes), "threshold": 0.5,
        "accelerator": "cpu", "hardware": "a CPU", "precision": "32-true",
        "versions": {"torch": "2.11"},
        "train_images": int(100 * frac), "test_images": len(ids), "commit": "c" * 40,
        "dirty": False, "epochs": 3, "best_epoch": 2, "seconds": 30.0, "images_per_second": 10.0,
        "peak_memory": 2**30, "parameters": 14_000_000, "encoder_parameters": 11_000_000,
        "gflop_per_image": 1.5,
    } | (facts or {})  # fmt: skip
    (folder / "meta.json").write_text(json.dumps(meta))
    (folder / "metrics.json").write_text(json.dumps(summarise(counts)))
    (folder / "status.json").write_text(
        json.dumps(
            {"state": "finished", "error": None, "time": time or f"2026-01-01T00:00:{seed:02}"}
        )
    )
    config = {
        "loss": {"_target_": loss}, "augment": {"_target_": "tlunet.data.augment.Augment"},
        "data": {"root": root, "split": "random", "split_seed": 0, "subset": "all", "size": None,
                 "n": len(ids), "seed": 0, "balance": "even", "name": dataset} | (data or {}),
        "paths": {"runs": str(study.parent), "data": cache}, "frac": frac, "seed": seed,
        "epochs": 3, "batch_size": 16, "threshold": 0.5,
        "optimizer": {"lr": 5e-4, "betas": [0.99, 0.99]}, "early_stopping": {"patience": 5},
        "init": {"name": init, "path": None, "n": 192, "size": [32, 64], "epochs": 6, "seed": 0}
        | init_settings,
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    table = per_image(counts, ids, classes)
    table.to_parquet(folder / "test_images.parquet", index=False)
    groups = list(range(len(ids))) if groups is None else list(groups)
    split = pd.DataFrame({"image_id": ids, "subset": "test", "group": groups})
    split.to_csv(folder / "split.csv", index=False)
    epochs = np.arange(3)
    history = {"epoch": epochs, "seconds": 10.0, "train_loss": 3.0 - epochs}
    history |= {"val_loss": 3.1 - epochs, "val_dice": skill * (epochs + 1) / 3 + 0.01 * seed}
    history |= {"val_iou": 0.5, "val_mla": skill, "val_auc": 0.8, "images_per_second": 10.0}
    pd.DataFrame(history).to_csv(folder / "history.csv", index=False)
    if with_masks:
        rows = [(ids[i], m + 1, encode(predicted[i, m])) for i, m in np.argwhere(areas[2] > 0)]
        found_masks = pd.DataFrame(rows, columns=["image_id", "class_id", "runs"])
        found_masks.to_parquet(folder / "test_masks.parquet", index=False)
    return folder


def write_grid(
    study: Path,
    n: int = 60,
    *,
    encoders: Sequence[str] = ("resnet", "densenet"),
    inits: Sequence[str] = ("random", "imagenet"),
    fracs: Sequence[float] = (1.0, 0.5),
    seeds: Sequence[int] = (0, 1, 2),
    gain: float = 0.15,
    **more: Any,
) -> Path:
    """Write a grid where pre-training adds ``gain`` to the skill, more with less data."""
    truth = make_truth(n)
    for encoder, init, frac, seed in product(encoders, inits, fracs, seeds):
        skill = 0.55 + (init != "random") * gain * (2 - frac)
        write_run(
            study, truth, encoder=encoder, init=init, frac=frac, seed=seed, skill=skill, **more
        )
    return study


def set_state(run: Path, state: str, error: str | None = None) -> Path:
    """Turn a finished run into a failed or running one."""
    status = {"state": state, "error": error, "time": "2026-01-02T00:00:00"}
    (run / "status.json").write_text(json.dumps(status))
    for name in ("metrics.json", "test_images.parquet"):
        (run / name).unlink()
    return run
