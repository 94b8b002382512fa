"""How many labels pre-training is worth: where random weights reach the same score.

Random weights, trained on several shares of the labels, have a curve R of scores by share. A
pre-trained network, trained on the share f, has the score I. Its label-worth is k = q / f for the
share q with R(q) = I: with k times the labels, random weights are as good.

Between two measured shares, R is linear in the logarithm of the share; where the means fall with
more labels, the estimate takes their isotonic regression instead. The interval contains every share
at which R(q) − I is not clearly different from zero, by the interval of every other contrast
(Fieller's method, as for doses and calibrations): where the curve does not reach I, it has no
upper end. It also contains one where the comparison at the fraction f itself is not clear, so that
it never says more than that comparison.

Shapes: S seeds, R bootstrap replicates.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize

from tlunet.report.analysis.blocks import Key
from tlunet.report.analysis.comparisons import PRIMARY, kindred
from tlunet.report.analysis.resampled import Resampled, common_seeds, interval_over
from tlunet.report.analysis.statistics import LEVEL, UNKNOWN, Estimate, direction, estimate

Floats = NDArray[np.float64]

QUARTER = 0.25  # of the labels: the fraction that is shown where only one is, or the nearest to it
TINY = 1e-12
STEPS = 24  # shares between two measured ones at which the difference is tested
COLUMNS = (
    *("block", "encoder", "init", "frac", "metric", "score", "share", "worth", "low", "high"),
    *("most", "n_seeds", "interval", "verdict"),
)


class Worth(NamedTuple):
    """How many times the labels pre-training is worth, and its 95% interval; NaN if undefined.

    Attributes:
        value: k; infinite if random weights do not reach the score with the largest share, zero
            if they do with the smallest.
        low: end of the interval; zero if there is none.
        high: end of the interval; infinite if there is none.
        p: of "k is one"; NaN if that share lies outside of the measured ones.
    """

    value: float
    low: float
    high: float
    p: float

    @property
    def octaves(self) -> Estimate:
        """The same as powers of two: above zero, pre-training is worth more labels.

        Where the measured shares end at one, so does the interval, with one outside of it.
        """
        with np.errstate(divide="ignore"):
            value, low, high = np.log2([self.value, self.low, self.high]).tolist()
        if self.p < 1 - LEVEL:
            low = TINY if low == 0 < value else low
            high = -TINY if high == 0 > value else high
        return Estimate(value, low, high, self.p)


def label_worth(
    curve: Mapping[float, Floats], target: Floats, frac: float, others: Sequence[float] = ()
) -> Worth:
    """Estimate how many times the labels pre-training is worth.

    Args:
        curve: at least two shares of the labels → the score of random weights by seed, (S, R + 1)
            each, the sample first.
        target: the score of pre-trained weights, (S, R + 1).
        frac: the share of the labels that they were trained on.
        others: variances over seeds of comparisons similar to that at this share, see
            :func:`tlunet.report.analysis.statistics.estimate`.

    >>> curve = {q: np.full((3, 9), 0.4 + 0.1 * np.log2(q)) for q in (0.25, 0.5, 1.0)}
    >>> round(label_worth(curve, np.full((3, 9), 0.3), 0.25).value, 6)
    2.0
    """
    shares, tested = _differences(curve, target)
    if np.isnan([d.value for d in tested]).any():
        return Worth(*UNKNOWN)
    lows, highs = np.array([d.low for d in tested]), np.array([d.high for d in tested])
    low, high = _first(shares, highs), _first(shares[::-1], -lows[::-1])
    means = {share: float(by_seed[:, 0].mean()) for share, by_seed in curve.items()}
    value = _reached(means, float(target[:, 0].mean()))
    low = 0.0 if low == shares[0] else shares[-1] if low is None else low
    high = np.inf if high == shares[-1] else shares[0] if high is None else high
    p = np.nan
    if shares[0] <= frac <= shares[-1]:
        same = estimate(_at(curve, frac) - target, others)
        low = low if same.high < 0 else min(low, frac)
        high = high if same.low > 0 else max(high, frac)
        p = same.p
    return Worth(value / frac, min(low, value) / frac, max(high, value) / frac, p)


def _differences(curve: Mapping[float, Floats], target: Floats) -> tuple[Floats, list[Estimate]]:
    """Estimate R(q) − I at many shares q, from the smallest to the largest."""
    fracs = sorted(curve)
    shares = [np.geomspace(a, b, STEPS + 1)[:-1] for a, b in pairwise(fracs)]
    every = np.append(np.concatenate(shares), fracs[-1])
    return every, [estimate(_at(curve, share) - target) for share in every]


def _at(curve: Mapping[float, Floats], share: float) -> Floats:
    """Interpolate the curve of every seed and replicate in the logarithm of the share."""
    fracs = sorted(curve)
    right = min(max(int(np.searchsorted(fracs, share)), 1), len(fracs) - 1)
    a, b = fracs[right - 1], fracs[right]
    weight = np.log(share / a) / np.log(b / a)
    return (1 - weight) * curve[a] + weight * curve[b]


def _first(shares: Floats, values: Floats) -> float | None:
    """Find the first share at which the values reach zero; ``None`` if they never do."""
    there = np.flatnonzero(values >= 0)
    if not len(there):
        return None
    k = int(there[0])
    if k == 0:
        return float(shares[0])
    weight = -values[k - 1] / (values[k] - values[k - 1])
    return float(shares[k - 1] * (shares[k] / shares[k - 1]) ** weight)


def _reached(means: Mapping[float, float], score: float) -> float:
    """Find the share at which the monotone curve reaches a score; infinite or 0 outside of it."""
    fracs = sorted(means)
    rising = optimize.isotonic_regression([means[frac] for frac in fracs]).x
    if score > rising[-1]:
        return float(np.inf)
    if score <= rising[0]:
        return fracs[0] if score == rising[0] else 0.0
    k = int(np.searchsorted(rising, score))  # rising[k - 1] < score <= rising[k]
    weight = (score - rising[k - 1]) / (rising[k] - rising[k - 1])
    return float(fracs[k - 1] * (fracs[k] / fracs[k - 1]) ** weight)


def curve_of(block: Resampled, key: Key, metric: str) -> tuple[dict[float, Floats], Floats]:
    """Return the curve of random weights and the score of a pre-trained cell, by seed.

    Args:
        block: of both.
        key: the pre-trained cell.
        metric: a score.

    Returns:
        Share → (S, R + 1), and (S, R + 1), for the seeds that all cells have.
    """
    random = key._replace(init="random")
    known = [k for k in block.data.keys if k._replace(frac=key.frac) == random]
    cells = {k.frac: block.cell(k) for k in known}
    seeds = common_seeds(block.cell(key), *cells.values())
    by_seed = {frac: cell.by_seed(metric, seeds) for frac, cell in cells.items()}
    return by_seed, block.cell(key).by_seed(metric, seeds)


def others_of(block: Resampled, key: Key, metric: str) -> list[float]:
    """Return the variances over seeds of the block's other gains from pre-training."""
    return kindred(metric, block.cell(key), block.cell(key._replace(init="random")))


def worth_table(blocks: Sequence[Resampled]) -> pd.DataFrame:
    """Tabulate label-worth in Dice and MLA, where random weights have at least two fractions.

    Returns:
        Columns :data:`COLUMNS`, one row per encoder, initialisation, fraction (below the largest
        of random weights) and metric: ``score`` to be reached, ``share`` of the labels at which
        random weights reach it, ``worth`` (share / frac) with its interval ``low, high``, ``most``
        (the largest that could be measured), ``verdict`` (more, fewer, undecided, one training or
        undefined). Infinite: not reached with the largest fraction; 0: with the smallest.
    """
    rows = []
    for block in blocks:
        for key in block.data.keys:
            if key.init == "random":
                continue
            for metric in PRIMARY:
                curve, target = curve_of(block, key, metric)
                if len(curve) > 1 and key.frac < max(curve):
                    worth = label_worth(curve, target, key.frac, others_of(block, key, metric))
                    rows.append(_row(block.data.title, key, metric, max(curve), target, worth))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def one_fraction(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the fraction nearest to a quarter for each encoder, initialisation and metric."""
    distance = np.log(table["frac"] / QUARTER).abs()
    keys = ["block", "encoder", "init", "metric"]
    return table.loc[distance.groupby([table[key] for key in keys], sort=False).idxmin()]


def _row(
    title: str, key: Key, metric: str, largest: float, target: Floats, worth: Worth
) -> tuple[object, ...]:
    n_seeds = len(target)
    score = float(target[:, 0].mean()) if n_seeds else np.nan
    share, most = worth.value * key.frac, largest / key.frac
    return (
        *(title, *key, metric, score, share, *worth[:3], most),
        *(n_seeds, interval_over(n_seeds), worth_more(worth, n_seeds)),
    )


def worth_more(worth: Worth, n_seeds: int) -> str:
    """Return ``more``, ``fewer``, ``undecided`` or ``one training``; ``undefined`` if NaN."""
    words = {"supported": "more", "contradicted": "fewer", "inconclusive": "undecided",
             "one training": "one training"}  # fmt: skip
    return words.get(direction(worth.octaves, n_seeds), "undefined")
