"""A tested cell for its logger: a run folder and a pack, without training."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from studies import CLASSES, SIZE, make_truth, write_run


class Cell(NamedTuple):
    """The attributes of a cell that its logger uses."""

    folder: Path
    digest: str
    config: dict[str, Any]
    data: Any
    study: str = "study"
    dataset: str = "synthetic"
    encoder: str = "resnet"
    init: str = "random"
    frac: float = 1.0
    title: str = "resnet · random"


def make_cell(runs: Path, **settings: Any) -> Cell:
    """Make a cell in `runs/study/a cell`; in the first image the first two classes overlap.

    Args:
        runs: a folder.
        **settings: logger settings.
    """
    truth = make_truth(12)
    first = next(name for name, masks in truth.items() if masks[:2].any((1, 2)).all())
    truth[first][1] |= truth[first][0]
    made = write_run(runs / "study", truth, with_masks=True)
    folder = made.rename(made.with_name("a cell"))
    (folder / "best.ckpt").write_bytes(b"weights" * 1000)
    powers = np.array([1 << m for m in range(len(CLASSES))])
    bits = [np.tensordot(powers, masks, 1) for masks in truth.values()]
    pack = SimpleNamespace(
        index=pd.DataFrame({"image_id": list(truth)}),
        images=np.random.default_rng(0).integers(0, 256, (len(truth), *SIZE)).astype(np.uint8),
        masks=np.stack(bits).astype(np.uint8),
        classes=CLASSES,
        size=SIZE,
        region=lambda row: (slice(None), slice(None)),
    )
    logger = {"name": "wandb", "project": "tlunet", "mode": "auto", "images": 4, "checkpoint": True}
    config = {"logger": logger | settings, "seed": 0}
    return Cell(folder, "digest", config, SimpleNamespace(pack=pack))
