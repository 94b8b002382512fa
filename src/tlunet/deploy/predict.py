"""Predict defects in images of any size with a trained network."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tlunet.data.batches import pack_bits
from tlunet.data.bits import bit_depth
from tlunet.deploy.card import Card, read_tuned
from tlunet.deploy.rules import FLIPS, Rules
from tlunet.deploy.stream import Answer, Prediction, Stream, Unreadable
from tlunet.errors import DataError
from tlunet.model.metrics import predicted_masks
from tlunet.model.network import Logits
from tlunet.model.task import load_network
from tlunet.model.weights import read_plain
from tlunet.runs.folder import check_finished, read_meta

__all__ = ["Prediction", "Predictor", "Unreadable", "read_card"]


class Predictor(Stream):
    """Sends images through a network in batches while threads decode the next ones.

    Args:
        network: maps uint8 images (B, 1 or 3, H, W) to :class:`Logits`; set to evaluation mode.
        classes: names of the classes 1…M.
        threshold: a pixel belongs to a class if its probability is above this.
        rules: tuned rules, used instead of the threshold.
        size: (height, width) to which images are resized (bilinear, as in a pack). The pixels'
            probabilities are resized back, then thresholded. ``None`` keeps each image's size.
        fit: ``stretch`` images of other proportions to ``size``, or scale and ``pad`` them.
        device: device of the network.
        precision: ``32-true``, or ``bf16-mixed`` for bfloat16 autocast.
        batch_size: images per batch, all of the same size.
        threads: number of decoder threads.
        overlap: cut images that are larger than ``size`` into tiles that overlap by this fraction
            or more; ``None`` resizes them.
    """

    def __init__(
        self,
        network: nn.Module,
        classes: Sequence[str],
        *,
        threshold: float = 0.5,
        rules: Rules | None = None,
        size: tuple[int, int] | None = None,
        fit: str = "stretch",
        device: torch.device | str = "cpu",
        precision: str = "32-true",
        batch_size: int = 8,
        threads: int = 2,
        overlap: float | None = None,
    ) -> None:
        rules = rules or Rules.plain(len(classes), threshold)
        super().__init__(tuple(classes), rules, size, batch_size, threads, overlap, fit=fit)
        self.device = torch.device(device)
        self.network = network.eval().to(self.device).to(memory_format=torch.channels_last)
        self.threshold = threshold
        self.precision = precision
        # Copied once: a copy in every batch would wait for the previous batch.
        self._thresholds = torch.tensor(rules.thresholds, device=self.device).view(-1, 1, 1)

    def under(self, rules: Rules) -> Self:  # noqa: D102
        other = super().under(rules)
        other._thresholds = torch.tensor(rules.thresholds, device=self.device).view(-1, 1, 1)
        return other

    @classmethod
    def load(cls, run: Path, *, tuned: bool = False, **options: Any) -> Self:
        """Load the network of a run with its classes, threshold and training size.

        Args:
            run: a run folder or a checkpoint. A checkpoint without the run's ``meta.json`` next
                to it keeps each image's size.
            tuned: whether to use the rules in the run's ``tuned.json``.
            **options: ``device``, ``precision``, ``batch_size``, …

        Raises:
            DataError: the run is missing, not finished, or one of its files cannot be read.
        """
        if run.is_dir():
            check_finished(run)
        network, card = load_network(run), read_card(run)
        found: dict[str, Any] = {"threshold": card.threshold, "size": card.size, "fit": card.fit}
        if tuned:
            found["rules"] = card.rules(tuned, run)
        return cls(network, card.classes, **found | options)

    def logits(self, images: Tensor) -> Logits:
        """Compute logits, on the device.

        Args:
            images: uint8 (B, 1 or 3, H, W), on any device.
        """
        autocast = torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.precision == "bf16-mixed"
        )
        with torch.inference_mode(), autocast:
            logits: Logits = self.network(images.to(self.device, non_blocking=True))
        return logits

    def probabilities(self, images: Tensor, flips: str = "none") -> tuple[Tensor, Tensor]:
        """Compute float32 probabilities of masks (B, M, H, W) and labels (B, M), on the device.

        Args:
            images: uint8 (B, 1 or 3, H, W), on any device.
            flips: a key of :data:`FLIPS`; the result is the mean over these views.
        """
        return mean([self.view(images, axes) for axes in FLIPS[flips]])

    def view(self, images: Tensor, axes: tuple[int, ...]) -> Logits:
        """Compute logits of images flipped along some axes, with masks flipped back."""
        logits = self.logits(images.flip(axes) if axes else images)
        with torch.inference_mode():
            return Logits(logits.masks.flip(axes) if axes else logits.masks, logits.labels)

    def _start(self, images: NDArray[np.uint8], is_soft: bool) -> Callable[[], Answer]:
        """Start a batch without waiting for the result."""
        is_cuda = self.device.type == "cuda"
        batch = torch.from_numpy(images)
        found = self._decide(batch.pin_memory() if is_cuda else batch, is_soft)
        with torch.inference_mode():
            bits, labels, soft = (
                None if x is None else x.to("cpu", non_blocking=is_cuda)
                for x in (pack_bits(found.above), found.labels, found.masks)
            )
        done = torch.cuda.current_stream(self.device).record_event() if is_cuda else None

        def answer() -> Answer:
            assert bits is not None
            assert labels is not None
            if done:
                done.synchronize()
            kind = np.dtype(f"uint{bit_depth(labels.shape[1])}")
            field = bits.numpy().view(f"u{bits.itemsize}").astype(kind, copy=False)
            return Answer(field, labels.numpy(), None if soft is None else soft.numpy())

        return answer

    def _decide(self, images: Tensor, is_soft: bool) -> "_Found":
        if self.rules.is_plain:  # on logits, exactly as in the run's test
            logits = self.logits(images)
            with torch.inference_mode():
                above = predicted_masks(logits.masks, self.rules.thresholds[0])
                soft = logits.masks.float().sigmoid() if is_soft else None
                return _Found(above, logits.labels.float().sigmoid(), soft)
        masks, labels = self.probabilities(images, self.rules.flips)
        with torch.inference_mode():
            return _Found(masks > self._thresholds, labels, masks if is_soft else None)


class _Found(NamedTuple):
    """Output of a network for one batch, on the device."""

    above: Tensor  # bool (B, M, H, W), above the thresholds
    labels: Tensor  # (B, M) probabilities
    masks: Tensor | None  # (B, M, H, W) probabilities, if asked for


def mean(views: Sequence[Logits]) -> tuple[Tensor, Tensor]:
    """Average probabilities of masks (B, M, H, W) and labels (B, M) in the order of the views."""
    with torch.inference_mode():
        masks, labels = ([x.float().sigmoid() for x in part] for part in zip(*views, strict=True))
        return _mean(masks), _mean(labels)


def _mean(parts: list[Tensor]) -> Tensor:
    return functools.reduce(torch.add, parts) / len(parts)


def read_card(run: Path) -> Card:
    """Read the description of a network from a run folder or a checkpoint.

    Raises:
        DataError: a file cannot be read or its content is invalid.
    """
    checkpoint = run / "best.ckpt" if run.is_dir() else run
    known = read_plain(checkpoint)["hyper_parameters"]
    M = known["network"]["classes"]
    classes = known.get("classes") or [f"class {m + 1}" for m in range(M)]
    threshold = known.get("threshold", 0.5)
    is_list = isinstance(classes, list) and len(classes) == M
    if not is_list or not isinstance(threshold, float):
        raise DataError(f"{checkpoint}: its classes or threshold do not match its network")
    has_meta = run.is_dir() or (checkpoint.parent / "meta.json").exists()
    meta = read_meta(checkpoint.parent) if has_meta else {}
    return Card(
        classes=tuple(map(str, classes)),
        threshold=threshold,
        size=meta.get("size"),
        fit=meta.get("fit", "stretch"),
        encoder=known["network"]["encoder"],
        arch=known["network"].get("arch", "unet"),
        digest=meta.get("digest"),
        tuned=read_tuned(run, M) if run.is_dir() else None,
    )
