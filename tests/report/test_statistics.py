"""Intervals and verdicts by hand, by scipy, and by simulation."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from tlunet.report.analysis.bootstrap import draw_images
from tlunet.report.analysis.statistics import (
    SMALLEST_P,
    UNKNOWN,
    Estimate,
    direction,
    estimate,
    holm,
    level,
    ratio,
    seed_variance,
    size,
    t_interval,
)


def test_holm_agrees_with_statsmodels() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 20):
        p = rng.random(n) ** 3
        np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], rtol=1e-12)


def test_an_undefined_p_is_no_part_of_the_family() -> None:
    assert holm([0.01, np.nan, 0.04]).tolist() == pytest.approx([0.02, np.nan, 0.04], nan_ok=True)
    assert holm([]).tolist() == []


def test_without_spread_over_images_it_is_students_t() -> None:
    values = np.array([0.1, 0.2, 0.4])
    found = estimate(np.repeat(values[:, None], 50, axis=1))
    test = stats.ttest_1samp(values, 0.0)
    low, high = test.confidence_interval(0.95)
    assert found == pytest.approx((values.mean(), low, high, test.pvalue))


def test_without_spread_over_seeds_it_is_the_percentile_interval() -> None:
    replicates = np.random.default_rng(0).gamma(2, 0.1, 4000)
    same = np.tile([0.2, *replicates], (3, 1))
    found = estimate(same)
    low, high = np.quantile(replicates, [0.025, 0.975])
    assert found[:3] == pytest.approx((0.2, low, high))  # κ is 1: the seeds share it all


def test_what_seeds_do_not_share_counts_once() -> None:
    """Independent replicates: κ is 0, the variance over seeds holds all of it."""
    rng = np.random.default_rng(0)
    values = np.array([0.1, 0.2, 0.4])
    found = estimate(np.column_stack([values, values[:, None] + rng.normal(0, 0.01, (3, 20000))]))
    alone = estimate(np.repeat(values[:, None], 50, axis=1))
    assert found[1:3] == pytest.approx(alone[1:3], abs=0.003)


def test_similar_comparisons_steady_the_variance() -> None:
    values = np.array([0.1, 0.2, 0.4])
    found = estimate(np.repeat(values[:, None], 50, axis=1), others=[0.01, 0.03])
    variance = (values.var(ddof=1) + 0.02) / 2
    half = stats.t.ppf(0.975, 4) * np.sqrt(variance / 3)
    assert found[1:3] == pytest.approx((values.mean() - half, values.mean() + half))


def test_with_one_or_two_seeds_it_is_over_images_only() -> None:
    replicates = np.linspace(0.0, 1.0, 41)
    for values in ([0.5], [0.5, 0.5]):
        found = estimate(np.tile([values[0], *replicates], (len(values), 1)))
        assert found[:3] == pytest.approx((0.5, 0.025, 0.975))
        assert np.isnan(found.p)
    assert np.isnan(seed_variance(np.ones((2, 4))))


def test_undefined_replicates_are_left_out() -> None:
    row = np.array([0.5, *np.linspace(0, 1, 41), np.nan, np.nan])
    assert estimate(row[None])[:3] == pytest.approx((0.5, 0.025, 0.975))
    for undefined in (np.array([[np.nan, 1.0, 2.0]]), np.array([[1.0, np.nan]]), np.empty((0, 3))):
        assert np.isnan(estimate(undefined)).all()


@pytest.mark.parametrize("shift", [0.005, 0.02, 0.05])
def test_p_is_005_where_the_interval_touches_zero(shift: float) -> None:
    rng = np.random.default_rng(1)
    shared = rng.normal(0, 0.01, 2000)
    values = np.array([-0.01, 0.0, 0.012])
    by_seed = np.column_stack([values, values[:, None] + shared])
    low = estimate(by_seed + shift).low
    assert estimate(by_seed + shift - low).p == pytest.approx(0.05, abs=1e-6)
    assert (estimate(by_seed + shift).p < 0.05) == (low > 0)


def test_p_without_any_spread() -> None:
    assert estimate(np.zeros((3, 9))).p == 1.0
    assert estimate(np.ones((3, 9))).p == SMALLEST_P


def test_levels_stay_between_0_and_1() -> None:
    value, low, high, _ = level(np.repeat([[0.94], [0.97], [1.0]], 9, axis=1))
    assert 0 < low < value == pytest.approx(0.97)
    assert value < high < 1
    middle = np.array([0.49, 0.5, 0.51])  # there the scale is as good as linear
    near = estimate(np.repeat(middle[:, None], 9, axis=1))
    assert level(np.repeat(middle[:, None], 9, axis=1))[:3] == pytest.approx(near[:3], abs=1e-4)
    assert level(np.zeros((3, 9)))[:3] == pytest.approx((0, 0, 0), abs=2e-3)
    assert np.isnan(level(np.empty((0, 9)))).all()


def test_ratio_by_hand() -> None:
    a, b = np.array([[0.6], [0.8], [0.7]]), np.array([[0.5], [0.5], [0.6]])
    pseudo = ratio(a, b)[:, 0]
    whole = 2.1 / 1.6 - 1
    without_first = 1.5 / 1.1 - 1
    assert pseudo[0] == pytest.approx(3 * whole - 2 * without_first)
    assert ratio(a, np.ones((3, 1)))[:, 0] == pytest.approx(a[:, 0] - 1)  # linear: no correction
    assert ratio(a[:1], b[:1])[0, 0] == pytest.approx(0.2)
    assert np.isnan(ratio(a, np.zeros((3, 1)))).all()


def test_t_interval_by_hand() -> None:
    values = [0.1, 0.2, 0.4]
    half = stats.t.ppf(0.975, 2) * np.std(values, ddof=1) / np.sqrt(3)
    mean = np.mean(values)
    assert t_interval(values)[:3] == pytest.approx((mean, mean - half, mean + half))
    assert t_interval([0.5, 0.5, 0.5])[:3] == (0.5, 0.5, 0.5)
    assert t_interval([0.1, 0.2])[:3] == pytest.approx((0.15, np.nan, np.nan), nan_ok=True)
    assert np.isnan(t_interval([])).all()


@pytest.mark.parametrize(
    ("found", "of_direction", "of_size"),
    [
        (Estimate(0.05, 0.03, 0.07), "supported", "supported"),
        (Estimate(0.05, 0.01, 0.09), "supported", "compatible, not shown"),  # too wide
        (Estimate(0.02, 0.01, 0.03), "supported", "contradicted"),
        (Estimate(0.02, -0.01, 0.06), "inconclusive", "compatible, not shown"),
        (Estimate(-0.02, -0.03, -0.01), "contradicted", "contradicted"),
        (Estimate(0.0, 0.0, 0.0), "inconclusive", "contradicted"),
        (UNKNOWN, "not measured", "not measured"),
        (Estimate(0.05, np.nan, np.nan), "inconclusive", "not measured"),
    ],
)
def test_verdicts(found: Estimate, of_direction: str, of_size: str) -> None:
    assert direction(found, 3) == of_direction
    assert size(found, 0.05, 3) == of_size
    if of_direction != "not measured":
        assert direction(found, 2) == "one training"
    if of_size != "not measured":
        assert size(found, 0.05, 2) == "one training"


# Interval coverage for δ + a_s + b_i + e_si, as in experiments/interval_coverage.
IMAGES, TRIALS = 40, 300


@pytest.mark.parametrize("n_seeds", [3, 5])
@pytest.mark.parametrize("seed_sd", [0.0, 0.03, 0.06])
def test_intervals_cover_the_truth_as_often_as_they_say(n_seeds: int, seed_sd: float) -> None:
    """For 300 trials, 0.95 ± three standard errors is 0.91 to 0.99."""
    rng = np.random.default_rng(n_seeds)
    weights = draw_images(np.arange(IMAGES), 400) / IMAGES  # (R + 1, N)
    covered = 0
    for _ in range(TRIALS):
        d = rng.normal(0, seed_sd, (n_seeds, 1)) + rng.normal(0, 0.15, IMAGES)
        found = estimate((weights @ (d + rng.normal(0, 0.1, (n_seeds, IMAGES))).T).T)
        covered += found.low <= 0 <= found.high
        assert (found.p >= 0.05) == (found.low <= 0 <= found.high) or abs(found.p - 0.05) < 1e-3
    assert 0.91 <= covered / TRIALS <= 0.99


@pytest.mark.parametrize("n_seeds", [3, 5])
@pytest.mark.parametrize("seed_sd", [0.01, 0.04])
def test_intervals_of_a_relative_growth_cover_the_truth(n_seeds: int, seed_sd: float) -> None:
    """Levels of four cells; true ratios 0.6 / 0.5 with all data and 0.45 / 0.3 with half."""
    rng = np.random.default_rng(100 + n_seeds)
    weights = draw_images(np.arange(IMAGES), 400) / IMAGES
    levels, covered = np.array([0.45, 0.3, 0.6, 0.5]), 0
    truth = 0.45 / 0.3 - 0.6 / 0.5
    for _ in range(TRIALS):
        image = rng.normal(0, 0.15, IMAGES) + rng.normal(0, 0.05, (4, 1, IMAGES))
        x = levels[:, None, None] + image + rng.normal(0, seed_sd, (4, n_seeds, 1))
        x = x + rng.normal(0, 0.05, (4, n_seeds, IMAGES))
        a, b, c, d = ((weights @ one.T).T for one in x)
        found = estimate(ratio(a, b) - ratio(c, d))
        covered += found.low <= truth <= found.high
    assert 0.91 <= covered / TRIALS <= 0.99
