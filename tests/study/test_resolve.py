"""What does not fit together is found before a cell begins."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tlunet.data.batches import EpochOrder

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    ("images", "batch_size", "processes", "smallest"),
    [
        (33, 16, 1, 16),  # the last one joins the batch before it
        (34, 16, 1, 2),
        (8, 16, 1, 8),
        (8, 1, 1, 1),
        (1, 16, 1, 1),
        (35, 16, 2, 1),
        (32, 16, 2, 8),
        (33, 16, 16, 1),
    ],
)
def test_the_smallest_batch_of_a_process(
    images: int, batch_size: int, processes: int, smallest: int
) -> None:
    ranks = [
        EpochOrder(np.arange(images), batch_size, 0, True, share=(rank, processes))
        for rank in range(processes)
    ]
    assert {order.smallest for order in ranks} == {smallest}
    assert min(len(batch.rows) for order in ranks for batch in order) == smallest


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("batch_size=1 data.size=[32,32]", "be trained on batches of one image of 32×32"),
        ("arch=fpn data.size=[40,70]", "use data.size=[32,64] (multiples of 32)"),
        ("encoder.name=tu-swin_tiny_patch4_window7_224", "of 32×64; use data.size=[224,224]"),
    ],
)
def test_a_cell_that_cannot_be_trained_is_refused(
    words: str, says: str, tiny: tuple[str, ...], run_here: Run, strips: Path, tmp_path: Path
) -> None:
    line = (*tiny, "data=severstal", f"data.root={strips}", *words.split())
    done = run_here(*line, cwd=tmp_path)
    assert done.returncode == 2
    [said] = done.stderr.splitlines()
    assert says in said
    assert not list(tmp_path.glob("runs/*/*/status.json"))
