"""Random windows of training images."""

import numpy as np
import pytest

from tlunet.data.augment import Augment
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import Strips
from tlunet.data.sampling.crop import crop
from tlunet.errors import ConfigError

SIZE = (32, 64)
ROWS = np.arange(400)


def numbered(height: int, width: int) -> np.ndarray:
    """Images whose pixels tell where they are from: row and column."""
    places = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), axis=-1)
    return np.broadcast_to(places.astype(np.uint8), (len(ROWS), height, width, 2))


def test_half_of_the_windows_are_around_a_defect() -> None:
    images, bits = numbered(96, 200), np.zeros((len(ROWS), 96, 200), np.uint8)
    bits[:, 50, 150] = 2
    turns = np.zeros(len(ROWS), np.int64)
    cut = crop(SIZE, 3, turns, ROWS, images, bits, None)
    assert cut.images.shape == (400, 32, 64, 2)
    corners = cut.images[:, 0, 0].astype(int)
    assert (cut.images[:, -1, -1] == corners + np.array([31, 63])).all()
    centred = (corners == [50 - 16, 150 - 32]).all(1)
    assert centred.mean() == pytest.approx(0.5, abs=0.08)
    assert (cut.bits[centred][:, 16, 32] == 2).all()
    others = corners[~centred]
    assert others.min(0).tolist() == [0, 0]
    assert (others.max(0) >= [60, 130]).all()
    assert (others.max(0) <= [64, 136]).all()


def test_a_window_is_drawn_by_seed_turn_and_image() -> None:
    images, bits = numbered(96, 200), np.zeros((len(ROWS), 96, 200), np.uint8)
    turns = ROWS % 2
    whole = crop(SIZE, 3, turns, ROWS, images, bits, None).images
    some = crop(SIZE, 3, turns[7:9], ROWS[7:9], images[7:9], bits[7:9], None).images
    assert np.array_equal(whole[7:9], some)
    for other in (crop(SIZE, 4, turns, ROWS, images, bits, None),
                  crop(SIZE, 3, turns + 1, ROWS, images, bits, None)):  # fmt: skip
        assert not np.array_equal(whole, other.images)


def test_a_window_is_within_the_content_of_a_padded_image() -> None:
    images, bits = numbered(96, 200), np.zeros((len(ROWS), 96, 200), np.uint8)
    content = np.tile([[40, 100], [20, 200]], (200, 1))
    cut = crop(SIZE, 3, np.zeros(len(ROWS), np.int64), ROWS, images, bits, content)
    assert cut.content is not None
    assert cut.content[::2].tolist() == [[32, 64]] * 200
    assert cut.content[1::2].tolist() == [[20, 64]] * 200
    assert (cut.images[::2, -1, -1] < [40, 100]).all()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DefectDataModule:
    cache = tmp_path_factory.mktemp("cache")
    module = DefectDataModule(
        Strips(cache / "synthetic", n=32), cache, size=(32, 64), batch_size=8,
        augment=Augment(crop=(32, 32)),
    )  # fmt: skip
    module.setup()
    return module


def test_only_training_images_are_cut_and_labels_follow(data: DefectDataModule) -> None:
    lost = 0
    for batch in data.batches("train"):
        assert batch["image"].shape[-2:] == batch["mask"].shape[-2:] == (32, 32)
        seen = batch["mask"].flatten(2).any(2).numpy()
        rows = batch["index"].numpy()
        vanished = data.pack.labels[rows] & ~data.pack.mask_labels[rows]
        assert np.array_equal(batch["label"].numpy(), seen | vanished)
        lost += int((data.pack.labels[rows] & ~batch["label"].numpy()).sum())
    assert lost > 0
    assert next(data.batches("val"))["image"].shape[-2:] == (32, 64)


@pytest.mark.parametrize("wrong", [(30, 32), (32,), (0, 32)])
def test_a_wrong_size_is_one_line(wrong: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"augment.crop=.*multiples of 32"):
        Augment(crop=wrong)
