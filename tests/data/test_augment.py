from pathlib import Path

import albumentations as A
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tlunet.data.augment import Augment, flip
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import OnDisk
from tlunet.data.sampling.draws import uniform
from tlunet.errors import ConfigError


def test_draws_are_a_function_of_seed_epoch_and_image() -> None:
    augment = Augment()
    rows = np.arange(500)
    draws = augment.draw(1, 2, rows)
    shuffled = np.random.default_rng(0).permutation(rows)
    # Draws do not depend on the rest of the batch.
    assert np.array_equal(augment.draw(1, 2, shuffled), draws[shuffled])
    for other in (augment.draw(2, 2, rows), augment.draw(1, 3, rows)):
        assert 0.3 < (other == draws).mean() < 0.7
    assert draws.mean(0) == pytest.approx([0.5, 0.5], abs=0.08)
    assert np.corrcoef(draws.T)[0, 1] == pytest.approx(0, abs=0.15)  # the two axes are independent


@given(
    st.lists(st.integers(0, 2**80), max_size=6),
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5),
)
def test_many_generators_at_once_are_numpys(key: list[int], rows: list[int]) -> None:
    one_by_one = [np.random.default_rng((*key, row)).random(3) for row in rows]
    assert np.array_equal(uniform(tuple(key), np.array(rows), 3), one_by_one)


def test_a_known_draw() -> None:
    """Drawn with one NumPy generator per image, as recorded results were."""
    flips = Augment().draw(seed=3, epoch=1, rows=np.array([0, 5, 12567]))
    expected = [np.random.default_rng((1, 3, 1, row)).random(2) < 0.5 for row in (0, 5, 12567)]
    assert np.array_equal(flips, expected)


def test_an_epoch_is_drawn_once(strips: Path, tmp_path: Path) -> None:
    drawn = []

    class Counting(Augment):
        def draw(self, seed: int, epoch: int, rows: np.ndarray) -> np.ndarray:
            drawn.append((epoch, len(rows)))
            return super().draw(seed, epoch, rows)

    data = DefectDataModule(
        OnDisk("severstal", strips), tmp_path, batch_size=4, seed=7, augment=Counting()
    )
    data.prepare_data()
    data.setup()
    loader = data.train_dataloader()
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            alone = Augment().draw(7, epoch, batch["index"].numpy())
            assert np.array_equal(batch["flip"], alone)
    assert drawn == [(0, 24), (1, 24)]


def test_chances() -> None:
    rows = np.arange(50)
    assert Augment(1, 0).draw(0, 0, rows).tolist() == [[True, False]] * 50
    with pytest.raises(ConfigError, match=r"augment\.vertical=1\.5"):
        Augment(0.5, 1.5)


@given(st.booleans(), st.booleans(), st.sampled_from([(5, 7), (3, 5, 7)]))
def test_flips_are_those_of_albumentations(left_right: bool, up_down: bool, shape: tuple) -> None:
    x = torch.arange(2 * int(np.prod(shape)), dtype=torch.uint8).view(2, *shape)
    ours = flip(x, torch.tensor([[left_right, up_down], [False, False]]))
    theirs = A.Compose([A.HorizontalFlip(p=float(left_right)), A.VerticalFlip(p=float(up_down))])
    image = np.moveaxis(x[0].numpy(), 0, -1) if len(shape) == 3 else x[0].numpy()
    expected = theirs(image=np.ascontiguousarray(image))["image"]
    expected = np.moveaxis(expected, -1, 0) if len(shape) == 3 else expected
    assert np.array_equal(ours[0].numpy(), expected)
    assert torch.equal(ours[1], x[1])


def test_transform_is_drawn_from_seed_epoch_and_image_and_keeps_bit_fields() -> None:
    pipeline = A.Compose([A.Affine(rotate=(-30, 30), mask_interpolation=0, p=1.0)])
    augment = Augment(0, 0, pipeline)
    image = np.random.default_rng(0).integers(0, 255, (32, 64), np.uint8)
    bits = np.zeros((32, 64), np.uint8)
    bits[8:20, 10:50] = 0b1010
    first = augment.apply_transform(0, 1, 2, image, bits)
    again = augment.apply_transform(0, 1, 2, image, bits)
    other = augment.apply_transform(0, 1, 3, image, bits)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])
    assert set(np.unique(first[1])) == {0, 0b1010}
    assert not np.array_equal(first[1], bits)


def test_transform_must_keep_the_size() -> None:
    augment = Augment(0, 0, A.Compose([A.RandomCrop(8, 8)]))
    image = np.zeros((32, 64), np.uint8)
    with pytest.raises(ConfigError, match="keep the size"):
        augment.apply_transform(0, 0, 0, image, image)
    with pytest.raises(ConfigError, match="at most 8 classes"):
        augment.apply_transform(0, 0, 0, image, image.astype(np.uint16))
