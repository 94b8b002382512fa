"""The images that a fraction leaves out, beside the labelled ones of each training step."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from tlunet.data.augment import Augment, flip
from tlunet.data.batches import EpochOrder
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import OnDisk
from tlunet.data.residency import to_device
from tlunet.data.sampling.rest import BothOrders, RestStream
from tlunet.errors import ConfigError


def module(root: Path, cache: Path, **kwargs: object) -> DefectDataModule:
    options = {"batch_size": 4, "frac": 0.5, "rest_batch_size": 3, "augment": Augment()} | kwargs
    data = DefectDataModule(OnDisk("severstal", root), cache, **options)
    data.prepare_data()
    data.setup()
    return data


def orders(number: int, **kwargs: object) -> list[BothOrders]:
    stream = RestStream(np.arange(50, 57), 3, 1)
    options = {"rows": np.arange(10), "batch_size": 4, "seed": 1, "shuffle": True} | kwargs
    return [BothOrders(stream, **options, share=(rank, number)) for rank in range(number)]


def test_every_row_comes_once_before_any_comes_again() -> None:
    stream = RestStream(np.arange(50, 57), 3, 1)
    drawn = np.concatenate([stream.at(step).rows for step in range(14)])
    for turn in drawn.reshape(6, 7):
        assert sorted(turn) == list(range(50, 57))
    assert len({tuple(turn) for turn in drawn.reshape(6, 7)}) > 1
    assert np.array_equal(RestStream(np.arange(50, 57), 3, 1).at(9).rows, drawn[27:30])
    assert not np.array_equal(RestStream(np.arange(50, 57), 3, 2).at(9).rows, drawn[27:30])


def test_it_does_not_change_the_labelled_rows_and_resumes_in_the_middle() -> None:
    [both], alone = orders(1), EpochOrder(np.arange(10), 4, 1, True)
    whole = []
    for epoch in range(3):
        both.set_epoch(epoch)
        alone.set_epoch(epoch)
        batches = list(both)
        assert [b.rows.tolist() for b in batches] == [b.rows.tolist() for b in alone]
        whole += [b.rest.rows.tolist() for b in batches]
    [resumed] = orders(1, start=(1, 2))
    resumed.set_epoch(1)
    rest = [b.rest.rows.tolist() for b in resumed]
    resumed.set_epoch(2)
    assert rest + [b.rest.rows.tolist() for b in resumed] == whole[5:]


@pytest.mark.parametrize("number", [2, 3, 5])
def test_the_rest_of_a_step_is_shared_out(number: int) -> None:
    for whole, *shares in zip(*orders(1), *orders(number), strict=True):
        rests = [share.rest for share in shares]
        counted = [row for rest in rests for row in rest.rows[: rest.counted]]
        assert sorted(counted) == sorted(whole.rest.rows)
        assert sum(rest.weight for rest in rests) == pytest.approx(number)
        assert all(len(rest.rows) for rest in rests)  # a dummy row keeps a rank in step


@pytest.mark.parametrize("path", ["memory-mapped", "resident", "workers"])
@pytest.mark.filterwarnings("ignore:This DataLoader will create 1 worker processes")
def test_images_are_flipped_and_carry_nothing_of_their_annotation(
    strips: Path, tmp_path: Path, path: str
) -> None:
    data = module(strips, tmp_path, workers=int(path == "workers"))
    if path == "resident":
        data._resident = to_device(data.pack, torch.device("cpu"))
    left_out = data.split["subset"] == "unused"
    assert sorted(data.rest_rows) == np.flatnonzero(left_out).tolist()
    seen: Counter[int] = Counter()
    for epoch in range(2):
        for batch in data.batches("train", epoch):
            rest = batch["rest"]
            assert set(rest) == {"image", "index"}
            rows = rest["index"].numpy()
            turns = np.array([seen[row] for row in rows.tolist()])
            seen.update(rows.tolist())
            original = torch.from_numpy(data.pack.images[rows]).unsqueeze(1)
            flips = torch.from_numpy(data.augment.draw_rest(data.seed, turns, rows))
            assert torch.equal(rest["image"], flip(original, flips))
    assert set(seen) <= set(data.rest_rows)
    assert max(seen.values()) - min(seen[row] for row in data.rest_rows.tolist()) <= 1
    assert "rest" not in next(data.batches("val"))


def test_labels_come_only_where_they_are_asked_for(strips: Path, tmp_path: Path) -> None:
    for batch in module(strips, tmp_path, rest_labels=True).batches("train"):
        rest = batch["rest"]
        assert set(rest) == {"image", "index", "label"}
        assert rest["label"].dtype == torch.bool
    data = module(strips, tmp_path, rest_labels=True)
    for batch in data.batches("train"):
        truth = torch.from_numpy(data.pack.labels[batch["rest"]["index"]])
        assert torch.equal(batch["rest"]["label"], truth)


def test_the_labelled_part_is_the_same_with_and_without(strips: Path, tmp_path: Path) -> None:
    with_rest = module(strips, tmp_path).batches("train", 1)
    without = module(strips, tmp_path, rest_batch_size=0).batches("train", 1)
    for a, b in zip(with_rest, without, strict=True):
        assert a["id"] == b["id"]
        assert torch.equal(a["image"], b["image"])
        assert torch.equal(a["mask"], b["mask"])


def test_crops_are_cut_without_a_look_at_masks(strips: Path, tmp_path: Path) -> None:
    data = module(strips, tmp_path, augment=Augment(0, 0, crop=(32, 32)))
    [first, *_] = data.batches("train")
    assert first["rest"]["image"].shape == (3, 1, 32, 32)
    data.pack.masks = np.full_like(data.pack.masks, 15)
    [again, *_] = data.batches("train")
    assert torch.equal(first["rest"]["image"], again["rest"]["image"])


def test_nothing_left_out_is_told_in_one_line(strips: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        module(strips, tmp_path, frac=1.0)
    assert list(error.value.lines) == [
        "frac=1.0: no training image is left out for rest to learn from; use a smaller frac, or "
        "rest=none"
    ]


def test_near_duplicates_of_test_images_are_not_learnt_from(strips: Path, tmp_path: Path) -> None:
    data = module(strips, tmp_path)
    row = int(data.rest_rows[0])
    spare = module(strips, tmp_path)
    split = data.split.copy()
    tested = split.loc[split["subset"] == "test", "group"].iloc[0]
    split.loc[row, "group"] = tested
    del spare.split
    spare._make_split = lambda chosen: split  # type: ignore[method-assign]
    spare.setup()
    assert set(data.rest_rows) - set(spare.rest_rows) == {row}
