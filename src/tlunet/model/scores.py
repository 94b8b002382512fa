"""Computes every score in `metrics.json` and `test_images.parquet` from pixel counts.

Validation, test and reports use the same definitions. Shapes: N images, M classes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from tlunet.errors import DataError

if TYPE_CHECKING:
    pass

if TYPE_CHECKING:
    from torch import Tensor  # reports do not import torch

DEAD_BELOW = 0.01
"""A class of the test set with a pooled Dice below this counts as not found."""

A = TypeVar("A", "Tensor", NDArray[Any])


@dataclass(frozen=True, eq=False)
class PixelCounts(Generic[A]):
    """The counts of N images and M classes, as tensors or as NumPy arrays."""

    index: A  # (N,) int64, row of the image in the data set
    intersection: A  # (N, M) int64, pixels both in the truth and predicted
    truth: A  # (N, M) int64, pixels in the truth
    predicted: A  # (N, M) int64, pixels predicted
    label: A  # (N, M) bool, whether the image shows the class
    prob: A  # (N, M) float32, predicted probability of the label


def check_threshold(threshold: float) -> None:
    """Raise ValueError unless it is a probability between 0 and 1, exclusive."""
    if not 0 < threshold < 1:
        raise ValueError(f"threshold is {threshold}, expected a probability between 0 and 1")


def _ratio(part: ArrayLike, whole: ArrayLike, empty: float) -> NDArray[np.float64]:
    """`part / whole`, and `empty` where `whole` is 0."""
    out = np.full(np.shape(whole), empty, dtype=np.float64)
    return np.divide(part, whole, out=out, where=np.asarray(whole) > 0)


def dice(
    intersection: NDArray[Any],
    truth: NDArray[Any],
    predicted: NDArray[Any],
    empty: float = math.nan,
) -> NDArray[np.float64]:
    """Eq. (2): 2 |X ∩ Y| / (|X| + |Y|), element-wise, in [0, 1].

    Args:
        intersection: pixels in both masks, any shape.
        truth: pixels in the truth.
        predicted: pixels in the prediction.
        empty: what two empty masks score.

    >>> dice(np.array([2, 0, 0]), np.array([4, 5, 0]), np.array([2, 0, 0])).round(3).tolist()
    [0.667, 0.0, nan]
    """
    return _ratio(2 * intersection, truth + predicted, empty)


def iou(
    intersection: NDArray[Any],
    truth: NDArray[Any],
    predicted: NDArray[Any],
    empty: float = math.nan,
) -> NDArray[np.float64]:
    """Eq. (3): |X ∩ Y| / |X ∪ Y|, element-wise, in [0, 1]; arguments as for `dice`.

    >>> iou(np.array([2, 0, 0]), np.array([4, 5, 0]), np.array([2, 0, 0])).round(3).tolist()
    [0.5, 0.0, nan]
    """
    return _ratio(intersection, truth + predicted - intersection, empty)


def mla(label: NDArray[np.bool_], guess: NDArray[np.bool_]) -> NDArray[np.float64]:
    """|T ∩ P| / |T ∪ P| of each image's labels, both empty = 1 (Section III-C).

    Args:
        label: (N, M) the truth.
        guess: (N, M) the prediction.

    >>> mla(np.array([[True, True], [False, False]]), np.array([[True, False]] * 2)).tolist()
    [0.5, 0.0]
    """
    return _ratio((label & guess).sum(1), (label | guess).sum(1), empty=1)


def roc_auc(label: NDArray[np.bool_], prob: NDArray[Any]) -> float | None:
    """Area under the ROC curve: P(prob of a positive > prob of a negative), ties count half.

    Computed from ranks (Mann-Whitney): (R₊ - n₊(n₊ + 1)/2) / (n₊ n₋), where R₊ is the sum of the
    positives' mean ranks.

    Args:
        label: (N,) the truth.
        prob: (N,) the scores, without NaN.

    Returns:
        A value in [0, 1]; None if there are only positives or only negatives.

    >>> roc_auc(np.array([False, True, True]), np.array([0.1, 0.1, 0.9]))
    0.75
    """
    positives = int(label.sum())
    negatives = len(label) - positives
    if not positives or not negatives:
        return None
    ranks = float(rankdata(prob)[label].sum())
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def average_precision(label: NDArray[np.bool_], prob: NDArray[Any]) -> float | None:
    """Area under the precision-recall curve as steps: Σ (Rₖ - Rₖ₋₁) Pₖ over distinct scores.

    Each positive increases the recall by 1/n₊, so this is the mean over the positives of the
    precision at their score.

    Args:
        label: (N,) the truth.
        prob: (N,) the scores, without NaN.

    Returns:
        A value in (0, 1]; None if there are no positives.

    >>> round(average_precision(np.array([True, False, True]), np.array([0.9, 0.5, 0.5])), 4)
    0.8333
    """
    if not label.any():
        return None
    scored_as_high = rankdata(-prob, method="max")[label]  # (n₊,) images at or above the score
    hits_as_high = rankdata(-prob[label], method="max")  # (n₊,) of those, the positives
    return float((hits_as_high / scored_as_high).mean())


def _mean(values: ArrayLike) -> float | None:
    values = np.asarray(values, dtype=np.float64)
    return float(values.mean()) if values.size else None


def _by_class(per_class: Sequence[float | None]) -> dict[str, Any]:
    known = [value for value in per_class if value is not None]
    by_id = {str(class_id): value for class_id, value in enumerate(per_class, start=1)}
    return {"mean": _mean(known), "per_class": by_id}


def _scores(
    counts: PixelCounts[NDArray[Any]], threshold: float | Sequence[float]
) -> dict[str, Any]:
    both, truth, predicted = counts.intersection, counts.truth, counts.predicted  # (N, M)
    label, prob = counts.label, counts.prob  # (N, M)
    guess = prob > np.asarray(threshold, prob.dtype)  # (N, M)
    shown = np.asarray(truth > 0)  # (N, M)
    classes = range(label.shape[1])
    scores: dict[str, Any] = {
        "mla": _mean(mla(label, guess)),
        "label_accuracy": _mean(label == guess),
        "subset_accuracy": _mean((label == guess).all(1)),
        "auc": _by_class([roc_auc(label[:, m], prob[:, m]) for m in classes]),
        "ap": _by_class([average_precision(label[:, m], prob[:, m]) for m in classes]),
    }
    for name, score in (("dice", dice), ("iou", iou)):
        image = score(both.sum(1), truth.sum(1), predicted.sum(1))  # (N,)
        pair = score(both, truth, predicted, empty=1)  # (N, M)
        pooled = score(both.sum(0), truth.sum(0), predicted.sum(0))  # (M,)
        scores[f"{name}_image"] = _mean(image[shown.any(1)])
        scores[f"{name}_class"] = _by_class([_mean(pair[shown[:, m], m]) for m in classes])
        scores[f"{name}_pooled"] = _by_class(
            [float(pooled[m]) if shown[:, m].any() else None for m in classes]
        )
        scores[f"{name}_kaggle"] = _mean(pair)
    pooled_dice = scores["dice_pooled"]["per_class"]
    scores["dead_classes"] = [
        int(class_id)
        for class_id, value in pooled_dice.items()
        if value is not None and value < DEAD_BELOW
    ]
    return scores | {"n_images": len(label), "threshold": np.asarray(threshold).tolist()}


def summarise(
    counts: PixelCounts[NDArray[Any]], threshold: float | Sequence[float] = 0.5
) -> dict[str, Any]:
    """Compute every score of `metrics.json` from the counts.

    T and P are an image's true and predicted sets of classes (prob > threshold), X and Y its true
    and predicted pixels of one class:

    - `mla`: |T ∩ P| / |T ∪ P|, both empty = 1, mean over images (Section III-C, as defined
      by Godbole and Sarawagi 2004).
    - `label_accuracy`: fraction of correct image × class pairs (1 - Hamming loss), the other
      interpretation of that section.
    - `subset_accuracy`: fraction of images with T = P.
    - `auc`, `ap`: one-vs-rest per class; see `roc_auc`, `average_precision`.
    - `dice_image`: 2 Σ|X ∩ Y| / Σ(|X| + |Y|), sums over the classes within the image, mean over
      images with any defect pixel (Figs. 4, 7 and 9).
    - `dice_class`: per class, 2 |X ∩ Y| / (|X| + |Y|), mean over the images whose ground truth
      contains the class.
    - `dice_pooled`: per class, 2 Σ|X ∩ Y| / Σ(|X| + |Y|), sums over all images; null for a class
      without truth.
    - `dice_kaggle`: 2 |X ∩ Y| / (|X| + |Y|), both empty = 1, mean over all image × class pairs.
    - `iou_image`, `iou_class`, `iou_pooled`, `iou_kaggle`: the same with |X ∩ Y| / |X ∪ Y|.
    - `dead_classes`: ids of the classes that occur in the truth with a `dice_pooled` below 0.01, so
      that a few stray pixels do not count: these classes are not found.
    - `empty_predictor`: the same scores for a predictor that predicts no defects (all
      probabilities 0, no pixels).
    - `n_images`, `threshold`: number of images, and the threshold used.

    A score per class is `{"mean": …, "per_class": {"1": …}}`; a mean ignores nulls (None), and is
    null if there is nothing to average.

    Args:
        counts: N images × M classes as NumPy arrays, every image once.
        threshold: a label is positive if its probability is above it (pixels are already
            counted); one value for all classes, or one per class.

    Returns:
        Plain Python values for `json.dumps`.

    Raises:
        ValueError: a probability is NaN, or `threshold` is out of range.
    """
    for one in np.ravel(threshold).tolist():
        check_threshold(one)
    if np.isnan(counts.prob).any():
        raise ValueError("a predicted probability is NaN: the network's weights have diverged")
    nothing = np.zeros_like(counts.truth)
    blind = replace(
        counts, intersection=nothing, predicted=nothing, prob=np.zeros_like(counts.prob)
    )
    return _scores(counts, threshold) | {"empty_predictor": _scores(blind, threshold)}


def per_image(
    counts: PixelCounts[NDArray[Any]], image_ids: Sequence[str], class_names: Sequence[str]
) -> pd.DataFrame:
    """Convert the counts to a table, one row per image × class: `test_images.parquet`.

    Args:
        counts: N images × M classes as NumPy arrays.
        image_ids: names of *all* images of the data set, looked up by `counts.index`.
        class_names: names of the M classes.

    Returns:
        Columns `image_id, class_id, class_name, label, prob, intersection, truth_pixels,
        predicted_pixels, dice, iou`; `class_id` starts at 1, dice and iou are null where truth
        and prediction are both empty.

    Raises:
        ValueError: the number of class names is not M.
        IndexError: an index is not a row of `image_ids`.
    """
    N, M = counts.label.shape
    if len(class_names) != M:
        raise ValueError(f"{len(class_names)} class names for {M} classes")
    areas = counts.intersection, counts.truth, counts.predicted  # each (N, M)
    return pd.DataFrame(
        {
            "image_id": np.repeat(np.asarray(image_ids, dtype=object)[counts.index], M),
            "class_id": np.tile(np.arange(1, M + 1), N),
            "class_name": np.tile(np.asarray(class_names, dtype=object), N),
            "label": counts.label.ravel(),
            "prob": counts.prob.ravel(),
            "intersection": counts.intersection.ravel(),
            "truth_pixels": counts.truth.ravel(),
            "predicted_pixels": counts.predicted.ravel(),
            "dice": dice(*areas).ravel(),
            "iou": iou(*areas).ravel(),
        }
    )


def from_table(table: pd.DataFrame) -> PixelCounts[NDArray[Any]]:
    """Invert `per_image`: `summarise(from_table(table))` gives the same scores.

    Args:
        table: a table from `per_image`, with rows in any order.

    Returns:
        The counts; `index` numbers the images in the order of their first row.

    Raises:
        DataError: a column is missing or has nulls, or an image does not have each class once.
    """
    dtypes = {
        "intersection": np.int64,
        "truth_pixels": np.int64,
        "predicted_pixels": np.int64,
        "label": np.bool_,
        "prob": np.float32,
    }
    needed = ["image_id", "class_id", *dtypes]
    if bad := [c for c in needed if c not in table or table[c].hasnans]:
        raise DataError(
            *(
                f"test_images.parquet, column {column!r}: missing or has nulls; "
                "run the cell again with force=true"
                for column in bad
            )
        )
    row, ids = pd.factorize(table["image_id"])
    class_id = table["class_id"].to_numpy(dtype=np.int64)
    N, M = len(ids), int(class_id.max(initial=0))
    cell = row * M + class_id - 1
    if len(table) != N * M or not np.array_equal(np.sort(cell), np.arange(N * M)):
        by_image = table.groupby("image_id", sort=False)["class_id"].agg(list)
        image_id, classes = next(
            (image_id, sorted(classes))
            for image_id, classes in by_image.items()
            if len(classes) != M or set(classes) != {*range(1, len(classes) + 1)}
        )
        raise DataError(
            f"test_images.parquet, image {image_id!r}: has the classes {classes}, expected 1 to "
            f"{M} once each; run the cell again with force=true"
        )
    order = np.argsort(cell)
    columns = [table[c].to_numpy(dtype=d)[order].reshape(N, M) for c, d in dtypes.items()]
    return PixelCounts(np.arange(N), *columns)


def flatten(scores: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested scores to paths joined by slashes; omit undefined ones.

    >>> flatten({"mla": 0.5, "auc": {"mean": 0.7, "per_class": {"1": 0.7, "2": None}}})
    {'mla': 0.5, 'auc/mean': 0.7, 'auc/per_class/1': 0.7}
    """
    flat: dict[str, Any] = {}
    for name, value in scores.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}/")
        elif value is not None:
            flat[f"{prefix}{name}"] = value
    return flat
