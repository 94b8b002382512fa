from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tlunet.data.batches import pack_bits
from tlunet.data.rle import decode
from tlunet.runs.masks import read_masks
from tlunet.study.training.callbacks.masks import PredictedMasks


def test_every_predicted_mask_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    masks = torch.rand(5, 3, 8, 12) > 0.7
    masks[1] = False
    masks[2, 0] = False
    kept = PredictedMasks()
    for rows in ([3, 4], [0, 1, 2]):  # batches come in any order
        batch = {"index": torch.tensor([10 + r for r in rows])}
        kept.on_test_batch_end(None, None, {"bits": pack_bits(masks[rows])}, batch, 0)
    table = kept.table([f"{i}.jpg" for i in range(20)])
    table.to_parquet(tmp_path / "test_masks.parquet")
    found = read_masks(tmp_path)
    for r in range(5):
        for m in range(3):
            runs = found.get((f"{10 + r}.jpg", m + 1), "")
            assert np.array_equal(decode(runs, (8, 12)), masks[r, m].numpy())
    assert len(found) == 15 - 4


def test_a_run_without_masks_says_so(tmp_path: Path) -> None:
    assert read_masks(tmp_path) is None
    pd.DataFrame(PredictedMasks().table([])).to_parquet(tmp_path / "test_masks.parquet")
    assert read_masks(tmp_path) == {}
