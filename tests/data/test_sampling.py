"""Which images an epoch contains: repeated, or rare classes more often."""

import numpy as np
import pytest

from tlunet.data.augment import Augment
from tlunet.data.batches import EpochOrder
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import Strips
from tlunet.data.sampling.images import balanced_weights, sample

ROWS = np.arange(100, 118)


def test_without_repeats_the_order_is_that_of_recorded_runs() -> None:
    drawn = sample(ROWS, seed=7, epoch=3)
    assert drawn.rows.tolist() == np.random.default_rng((0, 7, 3)).permutation(ROWS).tolist()
    assert set(drawn.turns.tolist()) == {3}


def test_repeats_are_one_permutation_after_the_other() -> None:
    drawn = sample(ROWS, seed=7, epoch=2, repeat=3)
    for k, part in enumerate(np.split(drawn.rows, 3)):
        assert part.tolist() == sample(ROWS, seed=7, epoch=6 + k).rows.tolist()
    assert drawn.turns.tolist() == [6] * 18 + [7] * 18 + [8] * 18


@pytest.mark.parametrize(("number", "repeat"), [(1, 3), (2, 2), (3, 5)])
@pytest.mark.parametrize("is_balanced", [False, True])
def test_batches_cover_the_epoch_in_any_number_of_processes(
    number: int, repeat: int, is_balanced: bool
) -> None:
    weights = np.linspace(1, 3, len(ROWS)) if is_balanced else None
    expected = sample(ROWS, 7, 1, repeat, weights)
    orders = [
        EpochOrder(ROWS, 4, 7, True, share=(rank, number), repeat=repeat, weights=weights)
        for rank in range(number)
    ]
    pairs = []
    for order in orders:
        order.set_epoch(1)
        pairs += [
            pair
            for batch in order
            for pair in zip(batch.rows[: batch.counted], batch.turns, strict=False)
        ]
    assert sorted(pairs) == sorted(zip(*expected, strict=True))
    assert len(expected.rows) == repeat * len(ROWS)
    assert len(set(pairs)) == len(pairs)  # an image drawn again is augmented differently


def test_a_resumed_epoch_continues_within_its_repeats() -> None:
    whole = list(EpochOrder(ROWS, 4, 7, True, repeat=3))
    rest = list(EpochOrder(ROWS, 4, 7, True, start=(0, 9), repeat=3))
    assert len(whole) == 14
    for batch, again in zip(whole[9:], rest, strict=True):
        assert batch.rows.tolist() == again.rows.tolist()
        assert batch.turns.tolist() == again.turns.tolist()


def test_weights_are_those_of_the_rarest_class() -> None:
    labels = np.zeros((100, 3), bool)
    labels[:64, 0] = True  # 64%: 1 / 0.8
    labels[60:64, 1] = True  # 4%: 1 / 0.2, though common otherwise
    weights = balanced_weights(labels)
    assert weights[:60] == pytest.approx(1.25)
    assert weights[60:64] == pytest.approx(5.0)
    assert weights[64:] == pytest.approx(weights[64])  # defect-free
    assert weights[64:].sum() / weights.sum() == pytest.approx(1 / 3)


@pytest.mark.parametrize(("free", "share"), [(0, 0), (5, 0.05), (40, 1 / 3), (90, 0.6953)])
def test_the_share_of_defect_free_images(free: int, share: float) -> None:
    """Their own share if that is below a third, else by their weight of 1, but at least a third."""
    labels = np.zeros((100, 2), bool)
    labels[free:, 0] = True
    labels[-2:, 1] = True
    weights = balanced_weights(labels)
    assert weights[:free].sum() / weights.sum() == pytest.approx(share, abs=1e-4)


def test_draws_are_as_frequent_as_the_weights() -> None:
    weights = np.array([1.0, 2.0, 4.0, 1.0])
    counts = np.zeros(4)
    for epoch in range(50):
        drawn = np.bincount(sample(np.arange(4), 0, epoch, 5, weights).rows, minlength=4)
        assert (np.abs(drawn - 20 * weights / 8) < 1).all()  # systematic: rounded up or down
        counts += drawn
    assert counts / 1000 == pytest.approx(weights / 8, abs=0.02)
    first, again, other = (sample(np.arange(4), 0, epoch, 5, weights).rows for epoch in (0, 0, 1))
    assert first.tolist() == again.tolist() != other.tolist()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DefectDataModule:
    cache = tmp_path_factory.mktemp("cache")
    module = DefectDataModule(Strips(cache / "synthetic", n=32), cache, batch_size=16)
    module.augment = Augment()
    module.setup()
    return module


@pytest.mark.parametrize(
    ("steps", "epochs", "repeat"),
    [(None, 10, 1), (20, 10, 1), (21, 10, 2), (30, 10, 2), (31, 10, 3), (300, 10, 20)],
)
def test_steps_repeat_a_small_training_set(
    data: DefectDataModule, steps: int | None, epochs: int, repeat: int
) -> None:
    assert len(data.rows["train"]) == 24  # 2 steps, 3 for two passes
    data.repeat_for(steps, epochs)
    assert data.repeat == repeat
    assert epochs * len(data.training_order()) >= (steps or 1)
    assert data.images_per_epoch == 24 * repeat


def test_an_image_seen_again_is_flipped_differently(data: DefectDataModule) -> None:
    data.repeat = 2
    flips: dict[int, list[list[bool]]] = {}
    for batch in data.train_dataloader():
        for row, flip in zip(batch["index"].tolist(), batch["flip"].tolist(), strict=True):
            flips.setdefault(row, []).append(flip)
    assert {len(pair) for pair in flips.values()} == {2}
    assert any(first != second for first, second in flips.values())
    for turn in (0, 1):
        expected = Augment().draw(0, turn, np.array(sorted(flips)))
        assert [flips[row][turn] for row in sorted(flips)] == expected.tolist()
