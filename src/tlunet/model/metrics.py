"""What a network is judged by: one definition for validation, test and reports.

Pixels are counted on the device, image by image and class by class (`count`); every score is
computed from those counts (`summarise`), and a table of them (`per_image`, written as
`test_images.parquet`) gives every score again. Shapes: B images in a batch, N in the part of the
data set, M classes, masks of H × W pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from tlunet.errors import DataError

A = TypeVar("A", Tensor, NDArray[Any])


@dataclass(frozen=True, eq=False)
class PixelCounts(Generic[A]):
    """All that the scores need of N images and M classes, as tensors or as NumPy arrays."""

    index: A  # (N,) int64, the image's row in the data set
    intersection: A  # (N, M) int64, pixels both in the truth and predicted
    truth: A  # (N, M) int64, pixels in the truth
    predicted: A  # (N, M) int64, pixels predicted
    label: A  # (N, M) bool, the image shows the class
    prob: A  # (N, M) float32, predicted probability that it does


DTYPES = {
    "index": torch.int64,
    "intersection": torch.int64,
    "truth": torch.int64,
    "predicted": torch.int64,
    "label": torch.bool,
    "prob": torch.float32,
}


def _check_threshold(threshold: float) -> None:
    if not 0 < threshold < 1:
        raise ValueError(f"threshold is {threshold}, expected a probability between 0 and 1")


def _cut(threshold: float, dtype: torch.dtype) -> float:
    """The largest value of `dtype` that is at most logit(threshold): `logits > cut` is exact."""
    logit = math.log(threshold / (1 - threshold))
    cut = torch.tensor(logit, dtype=dtype)
    if float(cut) > logit:  # rounded up: a bfloat16 logit just above the threshold would be lost
        cut = torch.nextafter(cut, torch.tensor(-math.inf, dtype=dtype))
    return float(cut)


def _pixels(masks_logits: Tensor, masks: Tensor, cut: float) -> Tensor:
    """(B, M, H, W) twice -> (3, B, M) int64: pixels in both, in the truth, predicted."""
    # On a CPU image by image, in one memory order: that stays in the cache (40 times faster for
    # channels_last). On a GPU all at once: few kernels.
    step = 1 if masks_logits.is_cpu else len(masks)
    counts = []
    for logits, truth in zip(masks_logits.split(step), masks.split(step), strict=True):
        predicted = (logits > cut).contiguous()  # (step, M, H, W)
        truth = truth.bool().contiguous()
        # The sum copies its input to its own type; int64 would be eight times the masks.
        areas = [m.sum((2, 3), dtype=torch.int32) for m in (predicted & truth, truth, predicted)]
        counts.append(torch.stack(areas))
    return torch.cat(counts, dim=1).long()


@torch.no_grad()
def count(
    masks_logits: Tensor,
    labels_logits: Tensor,
    masks: Tensor,
    labels: Tensor,
    index: Tensor,
    threshold: float = 0.5,
) -> PixelCounts[Tensor]:
    """Count the pixels of one batch, on its device and without a sync.

    A pixel is positive where its probability is > `threshold` (Section II-D), that is, where its
    logit is > logit(threshold).

    Args:
        masks_logits: (B, M, H, W), any floating type.
        labels_logits: (B, M), any floating type.
        masks: (B, M, H, W), bool or 0/1.
        labels: (B, M), bool or 0/1.
        index: (B,), the images' rows in the data set.
        threshold: a probability between 0 and 1, both excluded.

    Returns:
        The counts as tensors on the device of `masks_logits`.

    Raises:
        ValueError: shapes do not fit, or `threshold` is out of range.
    """
    _check_threshold(threshold)
    B, M = labels_logits.shape
    shapes = masks_logits.shape[:2], masks.shape, labels.shape, index.shape
    if shapes != ((B, M), masks_logits.shape, (B, M), (B,)):
        raise ValueError(
            f"shapes do not fit: logits {tuple(masks_logits.shape)} and {(B, M)}, "
            f"masks {tuple(masks.shape)}, labels {tuple(labels.shape)}, index {tuple(index.shape)}"
        )
    cut = _cut(threshold, masks_logits.dtype)
    intersection, truth, predicted = _pixels(masks_logits, masks, cut)
    return PixelCounts(
        index=index.to(masks_logits.device, torch.int64),
        intersection=intersection,
        truth=truth,
        predicted=predicted,
        label=labels.bool(),
        prob=labels_logits.float().sigmoid(),
    )


class DefectMetrics(Metric):
    """The counts of one part of the data set, gathered over batches and processes.

    Args:
        threshold: a pixel or label is positive where its probability is above it; between 0 and 1.
        **kwargs: passed on to `torchmetrics.Metric`.

    Raises:
        ValueError: `threshold` is out of range.
    """

    full_state_update = False
    is_differentiable = False

    index: list[Tensor]

    def __init__(self, threshold: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _check_threshold(threshold)
        self.threshold = threshold
        for name in DTYPES:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(
        self,
        masks_logits: Tensor,
        labels_logits: Tensor,
        masks: Tensor,
        labels: Tensor,
        index: Tensor,
    ) -> None:
        """Count one batch; see `count` for the shapes and what it raises."""
        self._append(count(masks_logits, labels_logits, masks, labels, index, self.threshold))

    def compute(self) -> dict[str, Any]:
        """The scores of all images so far, in all processes; see `summarise`."""
        return summarise(self._rows(), self.threshold)

    def counts(self) -> PixelCounts[NDArray[Any]]:
        """The counts of all images so far, in all processes.

        Returns:
            NumPy arrays sorted by `index`, every image once (a distributed sampler repeats some).
        """
        with self.sync_context(self.dist_sync_fn, self.process_group):
            return self._rows()

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the counts of all processes; see `torchmetrics.Metric.sync`."""
        if isinstance(self.index, list) and not self.index:
            # A process without images must send tensors of the types the others send.
            empty = {k: torch.empty(0, dtype=v, device=self.device) for k, v in DTYPES.items()}
            self._append(PixelCounts(**empty))
        super().sync(*args, **kwargs)

    def _append(self, counts: PixelCounts[Tensor]) -> None:
        for name, values in vars(counts).items():
            # Flat: a process without images does not know M, yet must send as many dimensions.
            getattr(self, name).append(values.flatten())

    def _rows(self) -> PixelCounts[NDArray[Any]]:
        flat = {name: dim_zero_cat(getattr(self, name)).cpu().numpy() for name in DTYPES}
        index = flat.pop("index")
        shape = len(index), len(flat["label"]) // max(len(index), 1)  # (N, M)
        index, first = np.unique(index, return_index=True)
        return PixelCounts(index, **{k: v.reshape(shape)[first] for k, v in flat.items()})


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
    """Eq. (2): 2 |X ∩ Y| / (|X| + |Y|), element by element, in [0, 1].

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
    """Eq. (3): |X ∩ Y| / |X ∪ Y|, element by element, in [0, 1]; Dice = 2 IoU / (1 + IoU).

    Args:
        intersection: pixels in both masks, any shape.
        truth: pixels in the truth.
        predicted: pixels in the prediction.
        empty: what two empty masks score.

    >>> iou(np.array([2, 0, 0]), np.array([4, 5, 0]), np.array([2, 0, 0])).round(3).tolist()
    [0.5, 0.0, nan]
    """
    return _ratio(intersection, truth + predicted - intersection, empty)


def roc_auc(label: NDArray[np.bool_], prob: NDArray[Any]) -> float | None:
    """Area under the ROC curve: P(prob of a positive > prob of a negative), ties half.

    By ranks (Mann-Whitney): (R₊ - n₊(n₊ + 1)/2) / (n₊ n₋), R₊ the sum of the positives' mean ranks.

    Args:
        label: (N,) the truth.
        prob: (N,) the scores, without NaN.

    Returns:
        A value in [0, 1]; None where there are only positives or only negatives.

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
    """Area under the precision-recall steps: Σ (Rₖ - Rₖ₋₁) Pₖ over distinct scores.

    Each positive raises the recall by 1/n₊, so that is the mean over the positives of the precision
    at their score.

    Args:
        label: (N,) the truth.
        prob: (N,) the scores, without NaN.

    Returns:
        A value in (0, 1]; None where there are no positives.

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


def _scores(counts: PixelCounts[NDArray[Any]], threshold: float) -> dict[str, Any]:
    both, truth, predicted = counts.intersection, counts.truth, counts.predicted  # (N, M)
    label, prob = counts.label, counts.prob  # (N, M)
    guess = np.asarray(prob > threshold)  # (N, M)
    shown = np.asarray(truth > 0)  # (N, M)
    classes = range(label.shape[1])
    scores: dict[str, Any] = {
        "mla": _mean(_ratio((label & guess).sum(1), (label | guess).sum(1), empty=1)),
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
    dead = shown.any(0) & ~predicted.any(0)  # (M,)
    scores["dead_classes"] = (np.flatnonzero(dead) + 1).tolist()
    return scores | {"n_images": len(label), "threshold": float(threshold)}


def summarise(counts: PixelCounts[NDArray[Any]], threshold: float = 0.5) -> dict[str, Any]:
    """Every score of `metrics.json`, from the counts alone.

    T and P are an image's true and predicted sets of classes (prob > threshold), X and Y its true
    and predicted pixels of one class:

    - `mla`: |T ∩ P| / |T ∪ P|, both empty = 1, mean over images (Section III-C, in the words of
      Godbole and Sarawagi 2004).
    - `label_accuracy`: share of correct image × class pairs (1 - Hamming loss), the other reading
      of those words.
    - `subset_accuracy`: share of images with T = P.
    - `auc`, `ap`: one-vs-rest per class; see `roc_auc`, `average_precision`.
    - `dice_image`: 2 Σ|X ∩ Y| / Σ(|X| + |Y|), sums over the classes within the image, mean over
      images with any defect pixel (Figs. 4, 7 and 9).
    - `dice_class`: per class, 2 |X ∩ Y| / (|X| + |Y|), mean over the images in whose truth it is.
    - `dice_pooled`: per class, 2 Σ|X ∩ Y| / Σ(|X| + |Y|), sums over all images; null for a class
      without truth.
    - `dice_kaggle`: 2 |X ∩ Y| / (|X| + |Y|), both empty = 1, mean over all image × class pairs.
    - `iou_image`, `iou_class`, `iou_pooled`, `iou_kaggle`: the same with |X ∩ Y| / |X ∪ Y|.
    - `dead_classes`: ids of the classes in the truth of which no pixel is predicted in any image.
    - `empty_predictor`: the same scores for the predictor that never finds a defect (all
      probabilities 0, no pixel).
    - `n_images`, `threshold`: what the scores were taken over and at.

    A score per class is `{"mean": …, "per_class": {"1": …}}`; a mean leaves nulls (None) out, and
    with nothing to average it is null.

    Args:
        counts: N images × M classes as NumPy arrays, every image once.
        threshold: a label is positive where its probability is above it (pixels are counted).

    Returns:
        Plain Python values that `json.dumps` takes.

    Raises:
        ValueError: a probability is NaN, or `threshold` is out of range.
    """
    _check_threshold(threshold)
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
    """The counts as a table, one row per image × class: `test_images.parquet`.

    Args:
        counts: N images × M classes as NumPy arrays.
        image_ids: names of *all* the data set's images, looked up by `counts.index`.
        class_names: the M classes' names.

    Returns:
        Columns `image_id, class_id, class_name, label, prob, intersection, truth_pixels,
        predicted_pixels, dice, iou`; `class_id` counts from 1, dice and iou are null where truth
        and prediction are both empty.

    Raises:
        ValueError: there are not M class names.
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
    """The inverse of `per_image`: `summarise(from_table(table))` gives every score again.

    Args:
        table: as `per_image` makes it; the order of the rows does not matter.

    Returns:
        The counts; `index` numbers the images in the order in which the table first names them.

    Raises:
        DataError: a column is missing or has nulls, or an image has not each class once.
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
                f"test_images.parquet, column {column!r}: missing or with nulls; "
                "run the cell again with force=true"
                for column in bad
            )
        )
    row, ids = pd.factorize(table["image_id"])
    class_id = table["class_id"].to_numpy(dtype=np.int64)
    N, M = len(ids), int(class_id.max(initial=0))
    cell = row * M + class_id - 1
    if len(table) != N * M or not np.array_equal(np.sort(cell), np.arange(N * M)):
        found = table.groupby("image_id", sort=False)["class_id"].agg(list)
        image_id, classes = next(
            (image_id, sorted(classes))
            for image_id, classes in found.items()
            if len(classes) != M or set(classes) != {*range(1, len(classes) + 1)}
        )
        raise DataError(
            f"test_images.parquet, image {image_id!r}: has the classes {classes}, expected 1 to "
            f"{M} once each; run the cell again with force=true"
        )
    order = np.argsort(cell)
    columns = [table[c].to_numpy(dtype=d)[order].reshape(N, M) for c, d in dtypes.items()]
    return PixelCounts(np.arange(N), *columns)
