"""Scores of a test part drawn again and again: the crossed bootstrap over seeds and images.

A replicate draws seeds with replacement and, independently, one set of near-duplicate groups of
test images, which all seeds share: seeds and images are crossed, not nested. A draw is a row of
weights, how often each seed or image is in it, so that a score of all replicates is one matrix
product. Row 0 is the sample itself, every image once: its score is the estimate.

Reference: Owen and Eckles (2012), Bootstrapping data arrays of arbitrary order.

Shapes: R replicates, N images, M classes, S seeds.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlunet.model.scores import PixelCounts, dice, iou

Floats = NDArray[np.float64]

#: Scores that are the mean of one value an image, and those that are not.
PER_IMAGE = (
    "dice_image", "iou_image", "dice_kaggle", "iou_kaggle", "mla", "label_accuracy",
    "subset_accuracy",
)  # fmt: skip
BY_CLASS = ("dice_class", "iou_class", "dice_pooled", "iou_pooled", "auc", "ap")
METRICS = PER_IMAGE + BY_CLASS

SEEDS_NEEDED = 3  # under three, seeds are not drawn and the interval is over images only
CHUNK = 20_000_000  # weights held at a time


def draw_images(groups: NDArray[np.int64], replicates: int, seed: int = 0) -> NDArray[np.uint16]:
    """How often each image is in each replicate; near-duplicates come and go together.

    Args:
        groups: (N,) the group of each image, numbered 0, 1, …
        replicates: R.
        seed: of the draws.

    Returns:
        (R + 1, N); row 0 is all ones.
    """
    rng = np.random.default_rng(seed)
    G = int(groups.max(initial=-1)) + 1
    times = np.ones((replicates + 1, G), np.uint16)
    if G:
        times[1:] = rng.multinomial(G, np.full(G, 1 / G), size=replicates)
    return times[:, groups]


def draw_seeds(n_seeds: int, replicates: int, seed: int = 0) -> Floats:
    """The weight of each seed in each replicate; equal in all of them under three seeds.

    Returns:
        (R + 1, S), rows sum to 1; row 0 is 1/S throughout.
    """
    weights = np.full((replicates + 1, n_seeds), 1 / n_seeds)
    if n_seeds >= SEEDS_NEEDED:
        rng = np.random.default_rng([seed, n_seeds])
        weights[1:] = rng.multinomial(n_seeds, weights[0], size=replicates) / n_seeds
    return weights


def image_scores(counts: PixelCounts[NDArray[Any]], threshold: float) -> dict[str, Floats]:
    """One value an image, for every score that is a mean over images; NaN where it has no part.

    Returns:
        (N,) each: the names of :data:`PER_IMAGE`, and ``dice_class_1``, ``iou_class_1`` … for
        each class. Definitions: :func:`tlunet.model.scores.summarise`.
    """
    both, truth, predicted = (
        np.asarray(a, np.int64) for a in (counts.intersection, counts.truth, counts.predicted)
    )  # each (N, M)
    label, guess = np.asarray(counts.label, bool), np.asarray(counts.prob) > threshold  # (N, M)
    either = (label | guess).sum(1)  # (N,)
    right = (label & guess).sum(1)
    out = {
        "mla": np.where(either, right / np.maximum(either, 1), 1.0),
        "label_accuracy": (label == guess).mean(1),
        "subset_accuracy": (label == guess).all(1).astype(float),
    }
    for name, score in (("dice", dice), ("iou", iou)):
        image = score(both.sum(1), truth.sum(1), predicted.sum(1))  # (N,)
        pair = score(both, truth, predicted, empty=1)  # (N, M)
        out[f"{name}_image"] = np.where(truth.any(1), image, np.nan)
        out[f"{name}_kaggle"] = pair.mean(1)
        for m in range(label.shape[1]):
            out[f"{name}_class_{m + 1}"] = np.where(truth[:, m] > 0, pair[:, m], np.nan)
    return out


def resampled(
    counts: PixelCounts[NDArray[Any]], threshold: float, weights: NDArray[Any]
) -> dict[str, Floats]:
    """Every score of every replicate.

    Args:
        counts: N images × M classes of one network.
        threshold: a label is positive where its probability is above it.
        weights: (R, N), how often each image is in each replicate.

    Returns:
        (R,) each: the names of :data:`METRICS`, and ``auc_1`` … for each class; NaN where a
        replicate leaves a score undefined. A mean over classes leaves undefined ones out.
    """
    M = counts.label.shape[1]
    parts = [_resampled(counts, threshold, part) for part in _chunks(weights)]
    out = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    for name in BY_CLASS:
        per_class = np.stack([out[f"{name}_{m + 1}"] for m in range(M)], 1)  # (R, M)
        known = ~np.isnan(per_class)
        out[name] = _divide(np.where(known, per_class, 0).sum(1), known.sum(1))
    return out


def weighted_sums(weights: NDArray[Any], values: NDArray[Any]) -> Floats:
    """Sums over the images of every replicate.

    Args:
        weights: (R, N).
        values: (N, C).

    Returns:
        (R, C).
    """
    return np.concatenate([part @ values.astype(np.float64) for part in _chunks(weights)])


def _chunks(weights: NDArray[Any]) -> Iterator[Floats]:
    step = max(1, CHUNK // max(1, weights.shape[1]))
    for start in range(0, len(weights), step):
        yield weights[start : start + step].astype(np.float64)


def _resampled(
    counts: PixelCounts[NDArray[Any]], threshold: float, weights: Floats
) -> dict[str, Floats]:
    values = image_scores(counts, threshold)
    stacked = np.stack(list(values.values()), 1)  # (N, scores)
    known = ~np.isnan(stacked)
    sums = weights @ np.where(known, stacked, 0)  # (R, scores)
    means = _divide(sums, weights @ known)
    out = dict(zip(values, means.T, strict=True))

    areas = [np.asarray(a, float) for a in (counts.intersection, counts.truth, counts.predicted)]
    both, truth, predicted = (weights @ a for a in areas)  # (R, M)
    scores = {
        "dice": _divide(2 * both, truth + predicted),
        "iou": _divide(both, truth + predicted - both),
    }
    label, prob = np.asarray(counts.label, bool), np.asarray(counts.prob)
    for m in range(label.shape[1]):
        for name, pooled in scores.items():
            out[f"{name}_pooled_{m + 1}"] = np.where(truth[:, m] > 0, pooled[:, m], np.nan)
        auc, ap = _ranked(label[:, m], prob[:, m], weights)
        out |= {f"auc_{m + 1}": auc, f"ap_{m + 1}": ap}
    return out


def _ranked(label: NDArray[np.bool_], prob: NDArray[Any], weights: Floats) -> list[Floats]:
    """AUC and average precision, (R,) each, of images that count ``weights`` times."""
    order = np.argsort(prob, kind="stable")
    first = np.flatnonzero(np.diff(prob[order], prepend=np.nan) != 0)  # of each distinct score
    positives, negatives = (
        np.add.reduceat(weights[:, order] * chosen[order], first, axis=1)
        for chosen in (label, ~label)
    )  # (R, distinct scores), ascending
    P, Q = positives.sum(1), negatives.sum(1)  # (R,)
    below = negatives.cumsum(1) - negatives / 2  # ties count half
    auc = _divide((positives * below).sum(1), P * Q)
    hits = positives[:, ::-1].cumsum(1)[:, ::-1]  # positives scored at least as high
    false_alarms = negatives[:, ::-1].cumsum(1)[:, ::-1]
    precision = _divide(hits, hits + false_alarms, empty=0)
    return [auc, _divide((positives * precision).sum(1), P)]


def _divide(a: Floats, b: NDArray[Any], empty: float = np.nan) -> Floats:
    out = np.full(np.broadcast_shapes(a.shape, b.shape), float(empty))
    return np.divide(a, b, out=out, where=b != 0)
