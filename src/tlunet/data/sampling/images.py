"""Which training images an epoch contains, and in which order: a function of (seed, epoch)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ORDER, BALANCED = 0, 4  # keys of random streams, independent of those in tlunet.data.augment
DEFECT_FREE = 1 / 3  # of the draws: balanced sampling lowers the share to no less than this


class Sampled(NamedTuple):
    """The images of an epoch, in order.

    ``turns`` tells repeated draws of an image apart: flips and crops are drawn by
    (seed, turn, image).
    """

    rows: NDArray[np.int64]  # (n · repeat,) rows of the pack
    turns: NDArray[np.int64]  # (n · repeat,)


def sample(
    rows: NDArray[np.int64],
    seed: int,
    epoch: int,
    repeat: int = 1,
    weights: NDArray[np.float64] | None = None,
) -> Sampled:
    """Draw the images of one epoch.

    Args:
        rows: (n,) rows of the training images.
        seed: seed of the order.
        epoch: the epoch.
        repeat: how often each image is drawn per epoch, on average.
        weights: (n,) relative frequency of each image; ``None``: each is drawn equally often.

    >>> sample(np.arange(3), seed=0, epoch=2, repeat=2).turns
    array([4, 4, 4, 5, 5, 5])
    """
    if weights is not None:
        return _weighted(rows, seed, epoch, repeat, weights)
    turns = range(epoch * repeat, (epoch + 1) * repeat)
    orders = [np.random.default_rng((ORDER, seed, turn)).permutation(rows) for turn in turns]
    return Sampled(np.concatenate(orders), np.repeat(turns, len(rows)))


def _weighted(
    rows: NDArray[np.int64], seed: int, epoch: int, repeat: int, weights: NDArray[np.float64]
) -> Sampled:
    rng = np.random.default_rng((BALANCED, seed, epoch))
    total = len(rows) * repeat
    order = rng.permutation(len(rows))
    counts = systematic(weights[order], total, rng.random())
    picks = rng.permutation(np.repeat(order, counts))
    return Sampled(rows[picks], epoch * total + occurrences(picks))


def systematic(weights: NDArray[np.float64], total: int, start: float) -> NDArray[np.int64]:
    """How often each item is drawn in systematic sampling: its expectation, rounded up or down.

    Args:
        weights: (n,) relative frequencies.
        total: number of draws.
        start: random number in [0, 1).

    >>> systematic(np.array([2.0, 1.0, 1.0]), total=6, start=0.25)
    array([3, 1, 2])
    """
    ends = np.floor(total * np.cumsum(weights / weights.sum()) + start).astype(np.int64)
    ends[-1] = total
    return np.diff(ends, prepend=0)


def occurrences(items: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the occurrences of each item: 0 for its first, 1 for its second, and so on.

    >>> occurrences(np.array([5, 7, 5, 5, 7]))
    array([0, 0, 1, 2, 1])
    """
    order = np.argsort(items, kind="stable")
    _, starts, sizes = np.unique(items[order], return_index=True, return_counts=True)
    numbers = np.empty(len(items), np.int64)
    numbers[order] = np.arange(len(items)) - np.repeat(starts, sizes)
    return numbers


def balanced_weights(labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Relative frequency of each image when images of rare classes are drawn more often.

    An image weighs ``1 / √f`` of its rarest class, f being the fraction of images with that class:
    the repeat factors of Gupta, Dollár and Girshick (2019), LVIS, §4.1, without their cut-off.
    Defect-free images weigh 1, or more if less than a third of the draws would be theirs; but they
    are never drawn more often than without balancing.

    Args:
        labels: (N, M), whether an image contains a class.

    >>> balanced_weights(np.array([[1, 0], [1, 0], [1, 0], [1, 1]], bool))
    array([1., 1., 1., 2.])
    """
    frequency = np.maximum(labels.mean(0), 1 / max(len(labels), 1))
    weights = np.where(labels, 1 / np.sqrt(frequency), 0.0).max(1, initial=0.0)
    free = ~labels.any(1)
    natural, defective = free.mean(), weights.sum()
    if 0 < natural < 1:
        share = max(free.sum() / (free.sum() + defective), min(DEFECT_FREE, natural))
        weights[free] = defective * share / (1 - share) / free.sum()
    else:
        weights[free] = 1.0
    return weights
