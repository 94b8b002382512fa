"""Pixel counts for tuning, in memory that does not depend on the image size.

For each view, threshold, image and class: the number of pixels above the threshold, and how many
of these are in the ground truth. The scores of any rules follow from these counts; probability maps
are not kept.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tlunet.deploy.predict import Predictor, mean
from tlunet.deploy.rules import FLIPS, Rules
from tlunet.model.metrics import DefectMetrics
from tlunet.model.scores import PixelCounts
from tlunet.model.task import without_padding


@dataclass(frozen=True, eq=False)
class Counts:
    """Counts of N images and M classes at T thresholds and F settings of flips.

    Attributes:
        thresholds: T values, ascending.
        predicted: (F, T, N, M) pixels above each threshold.
        intersection: (F, T, N, M) those that are in the ground truth.
        probabilities: (F, N, M) float32, of the labels.
        tested: the counts as in the run's test: at its own threshold, without flips.
    """

    thresholds: tuple[float, ...]
    predicted: NDArray[np.int64]
    intersection: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    tested: PixelCounts[NDArray[Any]]

    @property
    def truth(self) -> NDArray[np.int64]:
        """Pixels in the ground truth, (N, M)."""
        return self.tested.truth

    def under(self, rules: Rules) -> PixelCounts[NDArray[Any]]:
        """Return the counts that `predict` would produce with these rules."""
        f = list(FLIPS).index(rules.flips)
        t = [self.thresholds.index(threshold) for threshold in rules.thresholds]
        m = np.arange(len(t))
        predicted = self.predicted[f, t, :, m].T  # (N, M)
        kept = rules.kept(predicted, self.probabilities[f])
        return PixelCounts(
            index=self.tested.index,
            intersection=self.intersection[f, t, :, m].T * kept,
            truth=self.truth,
            predicted=predicted * kept,
            label=self.tested.label,
            prob=self.probabilities[f],
        )


def count(
    predictor: Predictor,
    batches: Iterable[dict[str, Any]],
    thresholds: Sequence[float],
    progress: Callable[[int], None] | None = None,
) -> Counts:
    """Send a subset through the network, each image in four views.

    Args:
        predictor: the run's network, as in its test.
        batches: with ``image``, ``mask``, ``label`` and ``index``, and ``padding`` if images are
            padded; each image once.
        thresholds: thresholds to count at, ascending.
        progress: called with the number of images after each batch.
    """
    tested = DefectMetrics(predictor.threshold)
    tables, labels, index = [], [], []
    for batch in batches:
        views = [predictor.view(batch["image"], axes) for axes in FLIPS["both"]]
        if "padding" in batch:
            padding = batch["padding"].to(predictor.device)
            views = [without_padding(view, padding) for view in views]
        masks = batch["mask"].to(predictor.device)
        truth = batch["label"].to(predictor.device)
        tested.update(*views[0], masks, truth, batch["index"])
        by_flips = [_pixels_and_labels(views, flips, masks, thresholds) for flips in FLIPS]
        tables.append(np.stack([pixels for pixels, _ in by_flips]))
        labels.append(np.stack([probabilities for _, probabilities in by_flips]))
        index.append(batch["index"].numpy())
        if progress:
            progress(len(batch["index"]))
    order = np.argsort(np.concatenate(index))
    table = np.concatenate(tables, 2)[:, :, order]  # (F, 2, N, T, M)
    predicted, intersection = np.moveaxis(table, (1, 3), (0, 2))  # each (F, T, N, M)
    probabilities = np.concatenate(labels, 1)[:, order]
    return Counts(tuple(thresholds), predicted, intersection, probabilities, tested.counts())


def _pixels_and_labels(
    views: Sequence[Any], flips: str, masks: Tensor, thresholds: Sequence[float]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return (2, B, T, M) pixels above thresholds, all and true; label probabilities (B, M)."""
    chosen = [views[FLIPS["both"].index(axes)] for axes in FLIPS[flips]]
    maps, labels = mean(chosen)
    above = [_above(image, truth, thresholds) for image, truth in zip(maps, masks, strict=True)]
    return torch.stack(above, 1).cpu().numpy(), labels.cpu().numpy()


def _above(maps: Tensor, truth: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Count pixels of one image's maps (M, H, W) above each threshold: int64 (2, T, M)."""
    M, T = len(maps), len(thresholds)
    bounds = torch.tensor(thresholds, device=maps.device)  # float32, like the maps
    # Number of thresholds below each value.
    level = torch.bucketize(maps.contiguous(), bounds, out_int32=True)
    place = torch.arange(M, device=maps.device, dtype=torch.int32).view(-1, 1, 1) * 2 + truth
    cells = (place * (T + 1) + level).flatten()
    histogram = torch.bincount(cells, minlength=2 * M * (T + 1)).view(M, 2, T + 1)
    above = histogram.flip(2).cumsum(2).flip(2)[:, :, 1:]  # (M, outside or inside, T)
    return torch.stack([above.sum(1), above[:, 1]]).transpose(1, 2)
