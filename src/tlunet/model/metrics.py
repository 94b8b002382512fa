"""Counts pixels per image and class on the device; all scores are computed from the counts.

Shapes: B images in a batch, N in the data set or split, M classes, masks of H × W pixels.
"""

import functools
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from tlunet.model.scores import PixelCounts, check_threshold, summarise

DTYPES = {
    "index": torch.int64,
    "intersection": torch.int64,
    "truth": torch.int64,
    "predicted": torch.int64,
    "label": torch.bool,
    "prob": torch.float32,
}


@functools.cache
def _cut(threshold: float, dtype: torch.dtype) -> float:
    """Largest value of `dtype` ≤ logit(threshold), which makes `logits > cut` exact."""
    logit = math.log(threshold / (1 - threshold))
    cut = torch.tensor(logit, dtype=dtype)
    if float(cut) > logit:  # rounded up: a bfloat16 logit just above the threshold would be lost
        cut = torch.nextafter(cut, torch.tensor(-math.inf, dtype=dtype))
    return float(cut)


def predicted_masks(masks_logits: Tensor, threshold: float = 0.5) -> Tensor:
    """Mark the pixels with probability > `threshold`, the same ones that `count` counts.

    Args:
        masks_logits: (B, M, H, W), any floating type.
        threshold: a probability between 0 and 1, exclusive.

    Returns:
        bool (B, M, H, W).

    Raises:
        ValueError: `threshold` is out of range.
    """
    check_threshold(threshold)
    return masks_logits > _cut(threshold, masks_logits.dtype)


def _pixels(masks_logits: Tensor, masks: Tensor, cut: float) -> Tensor:
    """Two (B, M, H, W) -> (3, B, M) int64: pixels in both, in the truth, predicted."""
    # On a CPU image by image and contiguous, to stay in the cache, which matters most for
    # channels_last. On a GPU all at once, for fewer kernels.
    step = 1 if masks_logits.is_cpu else len(masks)
    counts = []
    for logits, truth in zip(masks_logits.split(step), masks.split(step), strict=True):
        predicted = (logits > cut).contiguous()  # (step, M, H, W)
        truth = truth.bool().contiguous()
        # The sum copies its input to its dtype; int64 would take eight times the memory.
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
    """Count the pixels of one batch, on its device and without synchronisation.

    A pixel is positive if its probability is > `threshold` (Section II-D), that is, if its logit
    is > logit(threshold).

    Args:
        masks_logits: (B, M, H, W), any floating type.
        labels_logits: (B, M), any floating type.
        masks: (B, M, H, W), bool or 0/1.
        labels: (B, M), bool or 0/1.
        index: (B,), rows of the images in the data set.
        threshold: a probability between 0 and 1, exclusive.

    Returns:
        The counts as tensors on the device of `masks_logits`.

    Raises:
        ValueError: the shapes do not match, or `threshold` is out of range.
    """
    check_threshold(threshold)
    B, M = labels_logits.shape
    shapes = masks_logits.shape[:2], masks.shape, labels.shape, index.shape
    if shapes != ((B, M), masks_logits.shape, (B, M), (B,)):
        raise ValueError(
            f"shapes do not match: logits {tuple(masks_logits.shape)} and {(B, M)}, "
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


class MeanLoss(Metric):
    """Mean over images, in all processes, of a loss that is itself a mean over a batch.

    torchmetrics' MeanMetric does not work here: it checks for NaN in every step, which waits for
    the GPU, and without the check (``nan_strategy="disable"``) version 1.9 ignores the weights.
    """

    full_state_update = False
    total: Tensor
    images: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", default=torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("images", default=torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, loss: Tensor, images: int) -> None:
        """Add the loss of a batch with the given number of images."""
        self.total += loss.detach() * images
        self.images += images

    def compute(self) -> Tensor:
        """Compute the mean; NaN without images."""
        return self.total / self.images

    def so_far(self) -> dict[str, Tensor]:
        """Return the state for :meth:`go_on`, for a checkpoint within an epoch."""
        return {"total": self.total, "images": self.images}

    def go_on(self, total: Tensor, images: Tensor) -> None:
        """Restore the state from :meth:`so_far`."""
        self.reset()
        self.update(torch.zeros_like(self.total), 0)  # mark it as updated
        self.total += total.to(self.device)
        self.images += images.to(self.device)


class DefectMetrics(Metric):
    """Counts of a data set or split, gathered over batches and processes.

    Args:
        threshold: a pixel or label is positive if its probability is above it; between 0 and 1.
        **kwargs: passed to `torchmetrics.Metric`.

    Raises:
        ValueError: `threshold` is out of range.
    """

    full_state_update = False
    is_differentiable = False

    index: list[Tensor]

    def __init__(self, threshold: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_threshold(threshold)
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
        """Compute the scores of all images so far, in all processes; see `summarise`."""
        return summarise(self._rows(), self.threshold)

    def counts(self) -> PixelCounts[NDArray[Any]]:
        """Return the counts of all images so far, in all processes.

        Returns:
            NumPy arrays sorted by `index`, every image once (a distributed sampler repeats some).
        """
        with self.sync_context(self.dist_sync_fn, self.process_group):
            return self._rows()

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the counts of all processes; see `torchmetrics.Metric.sync`."""
        if isinstance(self.index, list) and not self.index:
            # A process without images must send tensors of the same dtypes as the others.
            empty = {k: torch.empty(0, dtype=v, device=self.device) for k, v in DTYPES.items()}
            self._append(PixelCounts(**empty))
        super().sync(*args, **kwargs)

    def _append(self, counts: PixelCounts[Tensor]) -> None:
        for name, values in vars(counts).items():
            # Flat, because a process without images does not know M but must match dimensions.
            getattr(self, name).append(values.flatten())

    def _rows(self) -> PixelCounts[NDArray[Any]]:
        flat = {name: dim_zero_cat(getattr(self, name)).cpu().numpy() for name in DTYPES}
        index = flat.pop("index")
        shape = len(index), len(flat["label"]) // max(len(index), 1)  # (N, M)
        index, first = np.unique(index, return_index=True)
        return PixelCounts(index, **{k: v.reshape(shape)[first] for k, v in flat.items()})
