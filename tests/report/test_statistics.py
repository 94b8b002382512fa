import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from tlunet.report.analysis.statistics import (
    UNKNOWN,
    Estimate,
    direction,
    holm,
    percentile_interval,
    signed_rank,
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


def test_signed_rank_by_hand() -> None:
    # Ranks 1…6, one negative of rank 1: P(W- <= 1) = 2/64, two-sided 4/64.
    assert signed_rank(np.array([-1.0, 2, 3, 4, 5, 6])) == pytest.approx(4 / 64)
    assert signed_rank(np.zeros(9)) == 1.0
    assert np.isnan(signed_rank(np.array([])))


def test_a_few_values_with_ties_agree_with_scipy() -> None:
    rng = np.random.default_rng(0)
    for n in (2, 5, 8):
        for _ in range(5):
            d = rng.integers(-2, 4, n) / 4
            if d.any():
                expected = stats.wilcoxon(d, zero_method="pratt", method="auto").pvalue
                assert signed_rank(d) == pytest.approx(expected), d


def test_specks_of_rounding_are_ties() -> None:
    d = np.array([0.3, -0.1, 0.2, 0.25, 0.11, -0.05, 0.4, 0.0, 0.0])
    specks = d + np.where(d == 0, 1e-17, 0)
    assert signed_rank(specks) == signed_rank(d)


def test_percentile_interval_leaves_undefined_replicates_out() -> None:
    replicates = np.array([0.5, *np.linspace(0, 1, 41), np.nan, np.nan])
    assert percentile_interval(replicates) == pytest.approx((0.5, 0.025, 0.975))
    for undefined in (np.array([np.nan, 1.0, 2.0]), np.array([1.0, np.nan])):
        assert np.isnan(percentile_interval(undefined)).all()


def test_t_interval_by_hand() -> None:
    values = [0.1, 0.2, 0.4]
    half = stats.t.ppf(0.975, 2) * np.std(values, ddof=1) / np.sqrt(3)
    mean = np.mean(values)
    assert t_interval(values) == pytest.approx((mean, mean - half, mean + half))
    assert t_interval([0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5)
    assert t_interval([0.1, 0.2]) == pytest.approx((0.15, np.nan, np.nan), nan_ok=True)
    assert np.isnan(t_interval([])).all()


@pytest.mark.parametrize(
    ("estimate", "of_direction", "of_size", "of_size_with_two_seeds"),
    [
        (Estimate(0.05, 0.01, 0.09), "supported", "supported", "inconclusive"),
        (Estimate(0.02, 0.01, 0.03), "supported", "contradicted", "inconclusive"),
        (Estimate(0.02, -0.01, 0.06), "inconclusive", "supported", "inconclusive"),
        (Estimate(-0.02, -0.03, -0.01), "contradicted", "contradicted", "inconclusive"),
        (Estimate(0.0, 0.0, 0.0), "inconclusive", "contradicted", "inconclusive"),
        (UNKNOWN, "not measured", "not measured", "not measured"),
        (Estimate(0.05, np.nan, np.nan), "inconclusive", "inconclusive", "inconclusive"),
    ],
)
def test_verdicts(
    estimate: Estimate, of_direction: str, of_size: str, of_size_with_two_seeds: str
) -> None:
    assert direction(estimate) == of_direction
    assert size(estimate, 0.05, 3) == of_size
    assert size(estimate, 0.05, 2) == of_size_with_two_seeds
