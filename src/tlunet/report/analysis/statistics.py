"""Intervals, tests and verdicts for differences.

Conventions: 95% intervals from the percentiles of bootstrap replicates
(:mod:`tlunet.report.analysis.bootstrap`); tests are two-sided.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tlunet.report.analysis.bootstrap import SEEDS_NEEDED

Floats = NDArray[np.float64]
Verdict = Literal["supported", "contradicted", "inconclusive", "not measured"]

LEVEL = 0.95
ENUMERATED = 13  # up to this many values, all sign combinations are enumerated, as in scipy
ZERO_METHOD = "pratt"  # ties are ranked, then dropped from the sum (Pratt 1959)


class Estimate(NamedTuple):
    """A value and its 95% interval; NaN if undefined."""

    value: float
    low: float
    high: float

    def __neg__(self) -> "Estimate":
        return Estimate(-self.value, -self.high, -self.low)


UNKNOWN = Estimate(np.nan, np.nan, np.nan)


def percentile_interval(replicates: Floats) -> Estimate:
    """Compute the percentile interval of an estimate.

    Args:
        replicates: (R + 1,), the estimate first. Undefined replicates are ignored.

    >>> [round(v, 3) for v in percentile_interval(np.array([5.0, *range(1, 42)]))]
    [5.0, 2.0, 40.0]
    """
    known = replicates[1:][~np.isnan(replicates[1:])]
    if np.isnan(replicates[0]) or not len(known):
        return UNKNOWN
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(replicates[0]), float(low), float(high))


def t_interval(values: Sequence[float]) -> Estimate:
    """Compute mean and t interval over seeds only, for values without images: epoch curves.

    Args:
        values: one per seed. With fewer than three seeds the interval is NaN.
    """
    known = np.asarray([v for v in values if not np.isnan(v)], float)
    if len(known) < SEEDS_NEEDED:
        return Estimate(float(known.mean()), np.nan, np.nan) if len(known) else UNKNOWN
    if np.ptp(known) == 0:  # no spread: the test would divide by zero
        return Estimate(float(known[0]), float(known[0]), float(known[0]))
    low, high = stats.ttest_1samp(known, 0.0).confidence_interval(LEVEL)
    return Estimate(float(known.mean()), float(low), float(high))


def signed_rank(differences: Floats) -> float:
    """Compute the two-sided Wilcoxon signed-rank p of paired differences; 1 if all are ties.

    Exact where scipy's ``auto`` is, otherwise the normal approximation with tie correction.

    Args:
        differences: (N,), one per image: the mean over its seeds.
    """
    if not len(differences):
        return float("nan")
    # Where the differences of a few seeds cancel, rounding errors remain: these are ties.
    d = np.where(np.abs(differences) < 1e-12, 0.0, differences)
    if not d.any():
        return 1.0
    has_ties = not d.all() or len(np.unique(np.abs(d))) < len(d)
    if has_ties and len(d) <= ENUMERATED:
        return _by_enumeration(d)
    return float(stats.wilcoxon(d, zero_method=ZERO_METHOD, method="auto").pvalue)


def _by_enumeration(d: Floats) -> float:
    """Compute the exact p of a few values with ties; scipy takes seconds per call."""
    ranks = stats.rankdata(np.abs(d))[d != 0]
    signs = (np.arange(2 ** len(ranks))[:, None] >> np.arange(len(ranks))) & 1  # (2^n, n)
    null, seen = signs @ ranks, ranks[d[d != 0] > 0].sum()
    tails = (null >= seen - 1e-9).mean(), (null <= seen + 1e-9).mean()
    return float(min(1.0, 2 * min(tails)))


def holm(p_values: Sequence[float]) -> Floats:
    """Apply Holm's step-down correction (1979); NaN stays NaN and is not part of the family.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, float)
    out = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return out


def direction(estimate: Estimate) -> Verdict:
    """Judge the claim that a value is above zero: the interval must exclude zero."""
    if np.isnan(estimate.value):
        return "not measured"
    if estimate.low > 0:
        return "supported"
    return "contradicted" if estimate.high < 0 else "inconclusive"


def size(estimate: Estimate, number: float, n_seeds: int) -> Verdict:
    """Judge whether the interval includes a claimed number; needs at least three seeds."""
    if np.isnan(estimate.value):
        return "not measured"
    if n_seeds < SEEDS_NEEDED or np.isnan(estimate.low):
        return "inconclusive"
    return "supported" if estimate.low <= number <= estimate.high else "contradicted"
