"""Compare the vectorised replicates with the definition: repeat the images and score again."""

import numpy as np
import pytest

from tlunet.model.scores import PixelCounts, summarise
from tlunet.report.analysis.bootstrap import (
    BY_CLASS,
    PER_IMAGE,
    draw_images,
    image_scores,
    resampled,
)


def make_counts(n: int = 40, classes: int = 3, seed: int = 0, ties: bool = True) -> PixelCounts:
    """Counts with empty truths, empty predictions, and tied probabilities."""
    rng = np.random.default_rng(seed)
    label = rng.random((n, classes)) < 0.4
    truth = np.where(label, rng.integers(1, 90, (n, classes)), 0)
    both = np.where(rng.random((n, classes)) < 0.6, rng.binomial(truth, 0.7), 0)
    predicted = both + np.where(rng.random((n, classes)) < 0.5, rng.integers(0, 40, both.shape), 0)
    prob = rng.random((n, classes))
    prob = np.round(prob, 1) if ties else prob
    return PixelCounts(np.arange(n), both, truth, predicted, label, prob.astype(np.float32))


def take(counts: PixelCounts, rows: np.ndarray) -> PixelCounts:
    return PixelCounts(
        np.arange(len(rows)), *(v[rows] for k, v in vars(counts).items() if k != "index")
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_every_replicate_is_the_score_of_the_images_it_drew(seed: int) -> None:
    counts = make_counts(seed=seed)
    groups = np.minimum(np.arange(40), 36)  # four near-duplicates
    weights = draw_images(groups, 25, seed)
    weights[-1, counts.label[:, 0]] = 0  # a replicate without class 1
    found = resampled(counts, 0.5, weights)
    for r, times in enumerate(weights):
        scores = summarise(take(counts, np.repeat(np.arange(40), times.astype(int))))
        expected = {name: scores[name] for name in PER_IMAGE}
        for name in BY_CLASS:
            expected[name] = scores[name]["mean"]
            expected |= {f"{name}_{m}": v for m, v in scores[name]["per_class"].items()}
        for name, value in expected.items():
            value = np.nan if value is None else value
            assert found[name][r] == pytest.approx(value, abs=1e-12, nan_ok=True), (r, name)
    assert np.isnan(found["auc_1"][-1])
    assert set(found) == set(expected)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, weights = make_counts(ties=False), draw_images(np.arange(40), 30)
    whole = resampled(counts, 0.5, weights)
    monkeypatch.setattr("tlunet.report.analysis.bootstrap.CHUNK", 31 * 7)
    monkeypatch.setattr("tlunet.report.analysis.bootstrap.BLOCK", 3)
    np.testing.assert_array_equal(draw_images(np.arange(40), 30), weights)
    for name, values in resampled(counts, 0.5, weights).items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-12, err_msg=name)


def test_near_duplicates_come_and_go_together() -> None:
    weights = draw_images(np.array([0, 0, 1, 2, 2, 2]), 500)
    assert (weights[0] == 1).all()
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 4]).all()
    assert (weights[1:, [0, 2, 3]].sum(1) == 3).all()  # three groups drawn
    assert 0.9 < weights[1:, 0].mean() < 1.1


def test_the_draws_are_those_of_the_recorded_experiments() -> None:
    """Different draws would change every recorded interval."""
    drawn = draw_images(np.array([0, 0, 1, 2, 3]), 4)
    assert drawn[1:].tolist() == [
        [1, 1, 0, 0, 3],
        [0, 0, 2, 2, 0],
        [1, 1, 1, 1, 1],
        [2, 2, 1, 0, 1],
    ]


def test_values_an_image_are_null_where_it_has_no_part() -> None:
    counts = make_counts()
    values = image_scores(counts, 0.5)
    assert np.isnan(values["dice_image"]).tolist() == (~counts.truth.any(1)).tolist()
    assert np.isnan(values["iou_class_2"]).tolist() == (counts.truth[:, 1] == 0).tolist()
    assert not np.isnan(values["dice_kaggle"]).any()
