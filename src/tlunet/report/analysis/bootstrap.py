"""Bootstrap over test images, one set of draws for all seeds.

A replicate draws near-duplicate groups of test images with replacement; every seed's network is
scored on the same draw, because seeds and images are crossed. Seeds are not drawn: three seeds
with replacement would understate how much they differ
(:mod:`tlunet.report.analysis.statistics`). A draw is a row of weights that says how often each
image was drawn, so the scores of all replicates are one matrix product. Row 0 is the sample
itself, with every image once: its score is the estimate.

Shapes: R replicates, N images, M classes, D = R + 1 draws, K distinct scores.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tlunet.model.scores import PixelCounts, dice, iou

Floats = NDArray[np.float64]
#: How often each image is drawn: whole numbers, so sums are exact in float32 up to 2²⁴.
Draws = NDArray[np.float32]

#: Scores that are a mean of one value per image, and those that are not.
PER_IMAGE = (
    "dice_image", "iou_image", "dice_kaggle", "iou_kaggle", "mla", "label_accuracy",
    "subset_accuracy",
)  # fmt: skip
BY_CLASS = ("dice_class", "iou_class", "dice_pooled", "iou_pooled", "auc", "ap")
METRICS = PER_IMAGE + BY_CLASS

CHUNK = 4_000_000  # weights converted to float64 at a time
BLOCK = 64  # distinct scores processed at a time: their sums stay in the CPU cache


def draw_images(groups: NDArray[np.int64], replicates: int, seed: int = 0) -> Draws:
    """Draw how often each image is in each replicate; near-duplicates are drawn together.

    Args:
        groups: (N,) the group of each image, numbered 0, 1, …
        replicates: R.
        seed: random seed.

    Returns:
        (R + 1, N); row 0 is all ones. Stored image by image, the order in which it is read.
    """
    rng = np.random.default_rng(seed)
    G = int(groups.max(initial=-1)) + 1
    times = np.ones((G, replicates + 1), np.float32)
    step = max(1, CHUNK // max(1, G))
    for start in range(1, (replicates + 1) * bool(G), step):
        part = times[:, start : start + step]
        part[:] = rng.multinomial(G, np.full(G, 1 / G), size=part.shape[1]).T
    return times[groups].T


def image_scores(counts: PixelCounts[NDArray[Any]], threshold: float) -> dict[str, Floats]:
    """Compute one value per image for every score that is a mean over images.

    Returns:
        (N,) each: the names of :data:`PER_IMAGE`, and ``dice_class_1``, ``iou_class_1`` … for
        each class; NaN where the image does not enter the mean. Definitions:
        :func:`tlunet.model.scores.summarise`.
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
    counts: PixelCounts[NDArray[Any]], threshold: float, weights: Draws
) -> dict[str, Floats]:
    """Compute every score of every draw.

    Args:
        counts: N images × M classes of one network.
        threshold: a label is positive if its probability is above it.
        weights: (D, N), how often each image is in each draw.

    Returns:
        (D,) each: the names of :data:`METRICS`, and ``auc_1`` … for each class; NaN where a
        score is undefined in a draw. A mean over classes skips undefined ones.
    """
    weights = np.asarray(weights, np.float32)
    values = image_scores(counts, threshold)
    stacked = np.stack(list(values.values()), 1)  # (N, scores)
    known = ~np.isnan(stacked)
    areas = [counts.intersection, counts.truth, counts.predicted]  # (N, M) each
    sums = weighted_sums(weights, np.hstack([np.where(known, stacked, 0), known, *areas]))
    total, times, both, truth, predicted = np.hsplit(  # (D, scores) twice, (D, M) thrice
        sums, np.cumsum([len(values), len(values), *(area.shape[1] for area in areas[:2])])
    )
    out = dict(zip(values, _divide(total, times).T, strict=True))
    pooled = {
        "dice": _divide(2 * both, truth + predicted),
        "iou": _divide(both, truth + predicted - both),
    }
    by_image = np.ascontiguousarray(weights.T)  # (N, D); no copy of the draws from draw_images
    label, prob = np.asarray(counts.label, bool), np.asarray(counts.prob)
    M = label.shape[1]
    for m in range(M):
        for name, scores in pooled.items():
            out[f"{name}_pooled_{m + 1}"] = np.where(truth[:, m] > 0, scores[:, m], np.nan)
        auc, ap = _ranked(label[:, m], prob[:, m], by_image)
        out |= {f"auc_{m + 1}": auc, f"ap_{m + 1}": ap}
    for name in BY_CLASS:
        per_class = np.stack([out[f"{name}_{m + 1}"] for m in range(M)], 1)  # (D, M)
        known = ~np.isnan(per_class)
        out[name] = _divide(np.where(known, per_class, 0).sum(1), known.sum(1))
    return out


def weighted_sums(weights: Draws, values: NDArray[Any]) -> Floats:
    """Sum values over the images of every draw.

    Args:
        weights: (D, N).
        values: (N, C).

    Returns:
        (D, C).
    """
    sums = np.zeros((len(weights), values.shape[1]))
    step = max(1, CHUNK // len(weights))
    for start in range(0, len(values), step):
        part = slice(start, start + step)
        sums += weights[:, part].astype(np.float64) @ values[part].astype(np.float64)
    return sums


def _ranked(label: NDArray[np.bool_], prob: NDArray[Any], weights: Draws) -> tuple[Floats, Floats]:
    """Compute AUC and average precision, (D,) each, of images that count ``weights`` times.

    Both change only at the distinct scores of the positives. From the highest score down, the
    negatives between two of them are summed at once by a product with a sparse matrix.

    Args:
        label: (N,) the true labels.
        prob: (N,) the scores.
        weights: (N, D), stored image by image.
    """
    D = weights.shape[1]
    scores, place = np.unique(-prob[label], return_inverse=True)  # (K,) the highest first
    row = np.empty(len(prob), np.int64)
    row[label] = 2 * place + 1
    row[~label] = 2 * np.searchsorted(scores, -prob[~label])  # the first score not above this one
    adding = _adding(row, 2 * len(scores) + 1)
    tied = ~label & np.isin(prob, prob[label])
    ties = _adding(np.where(tied, row // 2, len(scores)), len(scores) + 1) if tied.any() else None

    above, precision = np.zeros(D), np.zeros(D)
    so_far = np.zeros((2, D), np.float32)  # negatives and positives
    for start in range(0, len(scores), BLOCK):
        stop = min(start + BLOCK, len(scores))
        sums = (adding[2 * start : 2 * stop] @ weights).reshape(-1, 2, D)  # (K, 2, D)
        positives = sums[:, 1].astype(np.float64)
        sums[0] += so_far
        for before, here in pairwise(sums):  # np.cumsum is four times slower along this axis
            here += before
        so_far = sums[-1].copy()
        others = sums[:, 0].astype(np.float64)  # negatives scored at least as high
        hits = sums[:, 1] / np.maximum(others + sums[:, 1], 1)
        precision += np.einsum("kd,kd->d", positives, hits)
        if ties is not None:
            others -= (ties[start:stop] @ weights) / 2
        above += np.einsum("kd,kd->d", positives, others)
    P = so_far[1].astype(np.float64)
    Q = so_far[0] + (adding[2 * len(scores) :] @ weights)[0].astype(np.float64)
    return _divide(P * Q - above, P * Q), _divide(precision, P)


def _adding(row: NDArray[np.int64], rows: int) -> sparse.csr_matrix:
    """Build the (rows, N) matrix of ones whose product with weights is their exact sum by row."""
    N = len(row)
    return sparse.csr_matrix((np.ones(N, np.float32), (row, np.arange(N))), shape=(rows, N))


def _divide(a: Floats, b: NDArray[Any], empty: float = np.nan) -> Floats:
    out = np.full(np.broadcast_shapes(a.shape, b.shape), float(empty))
    return np.divide(a, b, out=out, where=b != 0)
