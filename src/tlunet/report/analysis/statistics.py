"""Intervals, tests and verdicts for contrasts measured by seed.

Every measurement is an array (S, R + 1): one row per seed, the value of the sample first, then R
bootstrap replicates over test images (:mod:`tlunet.report.analysis.bootstrap`). Seeds and images
are crossed: every seed's network sees the same images. Seeds are few and are not resampled; their
part of the uncertainty comes from their variance and Student's t, as in the analysis of studies
with several readers and cases (Obuchowski and Rockette 1995; Hillis 2007), with seeds as readers.

With fewer than three seeds an interval covers the test images only and describes *this training*.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

Floats = NDArray[np.float64]
Verdict = Literal[
    "supported", "contradicted", "inconclusive", "compatible, not shown", "one training",
    "not measured",
]  # fmt: skip

LEVEL = 0.95
SEEDS_NEEDED = 3  # with fewer, an interval covers the test images only
SIZE_TOLERANCE = 0.5  # a claimed size is shown by an interval within the number ± half of it
SMALLEST_P = 1e-12
EDGE = 1e-3  # a level of 0 or 1 has no logit


class Estimate(NamedTuple):
    """A value, its 95% interval, and the p of "the value is zero"; NaN if undefined."""

    value: float
    low: float
    high: float
    p: float = math.nan

    def __neg__(self) -> "Estimate":
        return Estimate(-self.value, -self.high, -self.low, self.p)


UNKNOWN = Estimate(np.nan, np.nan, np.nan)


def estimate(by_seed: Floats, others: Sequence[float] = ()) -> Estimate:
    """Estimate the mean over seeds, with an interval over seeds and images.

    The seed part is t · s̃ / √S. s̃² is the variance over seeds, or its average with the mean
    variance of similar contrasts, which steadies the estimate from few seeds (Student's t then
    has 2 (S − 1) degrees of freedom instead of S − 1). The image part are the distances from the
    value to the 2.5% and 97.5% points of the replicates' mean over seeds, times κ: the root of
    the share of its variance that the seeds have in common. The rest is already in the variance
    over seeds. Both parts are combined by ``hypot``.

    Args:
        by_seed: (S, R + 1), the sample first. Replicates undefined for any seed are ignored.
        others: variances over seeds of similar contrasts.

    Returns:
        With fewer than three seeds: the percentile interval over images, without p.

    >>> replicates = np.random.default_rng(0).normal(0, 0.01, 2000)
    >>> seeds = np.array([0.10, 0.12, 0.17])
    >>> interval = estimate(np.column_stack([seeds, seeds[:, None] + replicates]))
    >>> [round(v, 2) for v in interval]
    [0.13, 0.04, 0.22, 0.03]
    """
    if not len(by_seed) or np.isnan(by_seed[:, 0]).any():
        return UNKNOWN
    S, value = len(by_seed), float(by_seed[:, 0].mean())
    replicates = by_seed[:, 1:][:, ~np.isnan(by_seed[:, 1:]).any(0)]  # (S, R)
    if not replicates.shape[1]:
        return UNKNOWN
    mean = replicates.mean(0)
    low, high = np.quantile(mean, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    below, above = max(value - float(low), 0.0), max(float(high) - value, 0.0)
    if S < SEEDS_NEEDED:
        return Estimate(value, value - below, value + above)
    variance, df = seed_variance(by_seed), S - 1
    if len(others):
        variance, df = (variance + float(np.mean(others))) / 2, 2 * (S - 1)
    total = float(mean.var())
    shared = max(0.0, (S * total - float(replicates.var(1).mean())) / (S - 1))
    kappa = math.sqrt(min(1.0, shared / total)) if total > 0 else 0.0
    seed_part, below, above = math.sqrt(variance / S), kappa * below, kappa * above
    t = float(special.stdtrit(df, (1 + LEVEL) / 2))
    return Estimate(
        value,
        value - math.hypot(t * seed_part, below),
        value + math.hypot(t * seed_part, above),
        _p(value, seed_part, df, below if value > 0 else above),
    )


def seed_variance(by_seed: Floats) -> float:
    """Compute the variance of the sample's value over seeds; NaN with fewer than three seeds."""
    return float(by_seed[:, 0].var(ddof=1)) if len(by_seed) >= SEEDS_NEEDED else math.nan


def _p(value: float, seed_part: float, df: int, image_part: float) -> float:
    """Find the two-sided p at which the interval just touches zero."""
    image_sd = image_part / special.ndtri((1 + LEVEL) / 2)

    def beyond(p: float) -> float:
        t, z = -special.stdtrit(df, p / 2), -special.ndtri(p / 2)  # as scipy.stats, but faster
        return float(math.hypot(t * seed_part, z * image_sd) - abs(value))

    if seed_part == image_sd == 0:
        return 1.0 if value == 0 else SMALLEST_P
    if beyond(SMALLEST_P) < 0:
        return SMALLEST_P
    return float(optimize.brentq(beyond, SMALLEST_P, 1.0))


def level(by_seed: Floats) -> Estimate:
    """Estimate a level in [0, 1]; its interval is taken on the logit scale and stays inside.

    >>> interval = level(np.repeat([[0.95], [0.97], [0.99]], 9, axis=1))
    >>> [round(v, 2) for v in interval[:3]]
    [0.97, 0.8, 1.0]
    """
    inside = np.clip(by_seed, EDGE, 1 - EDGE)
    logit, value = (
        estimate(special.logit(inside)),
        float(by_seed[:, 0].mean()) if len(by_seed) else 0,
    )
    if np.isnan(logit.value):
        return UNKNOWN
    centre = special.logit(np.clip(value, EDGE, 1 - EDGE))
    low = float(special.expit(centre - (logit.value - logit.low)))
    high = float(special.expit(centre + (logit.high - logit.value)))
    return Estimate(value, min(low, value), max(high, value))


def ratio(a: Floats, b: Floats) -> Floats:
    """Compute pseudo-values of mean(a) / mean(b) − 1 by a jackknife over seeds.

    Args:
        a: (S, R + 1).
        b: (S, R + 1); where its mean is not above zero, the ratio is undefined.

    Returns:
        (S, R + 1) whose mean over seeds is the ratio, up to the jackknife's correction.
    """
    S = len(a)

    def of(x: Floats, y: Floats) -> Floats:
        return np.divide(x, y, out=np.full_like(x, np.nan), where=y > 0) - 1

    whole = of(a.mean(0), b.mean(0))
    if S < 2:
        return whole[None]
    without = of((a.sum(0) - a) / (S - 1), (b.sum(0) - b) / (S - 1))  # (S, R + 1)
    return S * whole - (S - 1) * without


def t_interval(values: Sequence[float]) -> Estimate:
    """Compute mean and t interval over seeds only, for values without images: epoch curves.

    Args:
        values: one per seed. With fewer than three seeds the interval is NaN.
    """
    known = np.asarray([v for v in values if not np.isnan(v)], float)
    if len(known) < SEEDS_NEEDED:
        return Estimate(float(known.mean()), np.nan, np.nan) if len(known) else UNKNOWN
    return estimate(np.repeat(known[:, None], 2, axis=1))


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


def direction(interval: Estimate, n_seeds: int) -> Verdict:
    """Judge the claim that a value is above zero: the interval must exclude zero."""
    if np.isnan(interval.value):
        return "not measured"
    if n_seeds < SEEDS_NEEDED:
        return "one training"
    if interval.low > 0:
        return "supported"
    return "contradicted" if interval.high < 0 else "inconclusive"


def size(interval: Estimate, number: float, n_seeds: int) -> Verdict:
    """Judge a claimed size.

    Supported if the direction is and the interval lies within the number ± half of it,
    contradicted if the interval excludes the number, else compatible, but not shown.
    """
    if np.isnan(interval.value) or np.isnan(interval.low):
        return "not measured"
    if n_seeds < SEEDS_NEEDED:
        return "one training"
    if not interval.low <= number <= interval.high:
        return "contradicted"
    around = SIZE_TOLERANCE * abs(number)
    is_near = number - around <= interval.low and interval.high <= number + around
    has_sign = interval.low > 0 if number > 0 else interval.high < 0
    return "supported" if is_near and has_sign else "compatible, not shown"
