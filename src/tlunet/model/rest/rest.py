"""What is learnt from the training images that ``frac`` leaves out."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from tlunet.errors import ConfigError
from tlunet.model.loss_terms import cross_entropy
from tlunet.model.network import Logits
from tlunet.model.rest.strong import CutMix, change_intensity

Teacher = Callable[[Tensor], Logits]
MEMORY = 0.99  # decay of a class's mean confidence, per step
UNSURE = 0.5  # confidence of a class that the teacher finds nowhere, and the lowest threshold


class Rest(nn.Module):
    """A way to learn from images without masks, beside the labelled ones of each step.

    A batch's part ``rest`` goes through :meth:`prepare`, which adds targets to its images; these go
    through the network together with the labelled ones; :meth:`forward` returns their loss.

    Args:
        weight: of the loss, above 0; 1 is the weight of a labelled image.
        ramp: fraction of all training steps over which the weight rises, in [0, 1].

    Raises:
        ConfigError: a value is out of bounds.
    """

    needs_average = False  # whether it learns from an average of the network's weights

    def __init__(self, weight: float = 1.0, ramp: float = 0.0) -> None:
        super().__init__()
        if not weight > 0:
            raise ConfigError(f"rest.weight={weight}: expected a number above 0")
        if not 0 <= ramp <= 1:
            raise ConfigError(f"rest.ramp={ramp}: expected a fraction of the steps from 0 to 1")
        self.weight, self.ramp = weight, ramp

    def weight_at(self, progress: float) -> float:
        """Return the weight after a fraction of all training steps.

        It rises as ``exp(−5 (1 − t)²)``, t from 0 to 1 (Laine and Aila 2017, Tarvainen and
        Valpola 2017).

        >>> [round(Rest(weight=2.0, ramp=0.5).weight_at(p), 3) for p in (0, 0.25, 0.5, 1)]
        [0.013, 0.573, 2.0, 2.0]
        """
        t = min(progress / self.ramp, 1.0) if self.ramp else 1.0
        return self.weight * math.exp(-5 * (1 - t) ** 2)

    def prepare(self, rest: dict[str, Any], teacher: Teacher | None) -> dict[str, Any]:
        """Return the images that the network is to see, and what it is to say of them.

        Args:
            rest: the part of a batch: ``image`` (B, C, H, W), and more.
            teacher: the network with averaged weights in evaluation mode, if there is one.
        """
        raise NotImplementedError

    def forward(self, logits: Logits, targets: dict[str, Any], is_sum: bool) -> Tensor:
        """Return the loss of the prepared images.

        Args:
            logits: of these images.
            targets: from :meth:`prepare`.
            is_sum: whether the loss of labelled images sums over labels and pixels (eq. 1), or
                averages: this one is of the same scale.
        """
        raise NotImplementedError


class Labels(Rest):
    """Learn from the image labels alone: the first term of eq. (1).

    A mask takes minutes to draw, a label seconds.

    >>> loss = Labels()(Logits(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3)),
    ...                 {"label": torch.ones(2, 3)}, is_sum=True)
    >>> round(loss.item() / 3, 4)  # ln 2 per label
    0.6931
    """

    def prepare(self, rest: dict[str, Any], teacher: Teacher | None) -> dict[str, Any]:  # noqa: D102
        return {"image": rest["image"], "label": rest["label"]}

    def forward(self, logits: Logits, targets: dict[str, Any], is_sum: bool) -> Tensor:  # noqa: D102
        labels = targets["label"]
        if is_sum:
            return cross_entropy(logits.labels, labels) / len(labels)
        return cross_entropy(logits.labels, labels, mean=True)


class MeanTeacher(Rest):
    """Learn from an average of the network: it predicts on an image, the network on a strong view.

    The average of the weights (Tarvainen and Valpola 2017) predicts masks and labels of the flipped
    image. The network has to predict the same on a strongly changed version of it (FixMatch, Sohn
    et al. 2020; UniMatch, Yang et al. 2023): other intensities, and pieces of other images. A
    probability above τ₊ is a positive pseudo-label, one below τ₋ a negative one; between the two
    there is none. The loss is the cross-entropy, averaged over the pixels that have a pseudo-label,
    plus that over labels; beside a loss that sums (eq. 1) each mean is multiplied by its number of
    terms in an image.

    So that a class which is found late is not left out, τ₊ of class m follows its mean confidence
    c_m, as in FreeMatch (Wang et al. 2023, eq. 8; there for one class per image):

        τ₊(m) = max(1/2, positive · c_m / max_k c_k)

    c_m is a moving average over steps of the mean probability of the pixels (of the images, for
    labels) that the teacher gives to the class, i.e. with more than 1/2, and of 1/2 where there are
    none.

    Args:
        classes: M.
        weight: see :class:`Rest`.
        ramp: see :class:`Rest`.
        positive: τ₊ of the most confident class, from 0.5 to 1.
        negative: τ₋, from 0 to 0.5.

    Raises:
        ConfigError: a value is out of bounds.
    """

    needs_average = True
    confidence: Tensor

    def __init__(
        self,
        classes: int,
        weight: float = 1.0,
        ramp: float = 0.3,
        positive: float = 0.8,
        negative: float = 0.1,
    ) -> None:
        super().__init__(weight, ramp)
        if not UNSURE <= positive < 1:
            raise ConfigError(f"rest.positive={positive}: expected a probability from 0.5 to 1")
        if not 0 < negative <= UNSURE:
            raise ConfigError(f"rest.negative={negative}: expected a probability from 0 to 0.5")
        self.positive, self.negative = positive, negative
        # Of masks and of labels; part of the checkpoint.
        self.register_buffer("confidence", torch.full((2, classes), UNSURE))

    def thresholds(self) -> Tensor:
        """Return τ₊ of each class, (2, M): for masks and for labels."""
        relative = self.confidence / self.confidence.max(1, keepdim=True).values
        return (self.positive * relative).clamp(min=UNSURE)

    @torch.no_grad()
    def prepare(self, rest: dict[str, Any], teacher: Teacher | None) -> dict[str, Any]:  # noqa: D102
        assert teacher is not None
        logits = teacher(rest["image"])
        masks, labels = logits.masks.float().sigmoid(), logits.labels.float().sigmoid()
        padding = rest.get("padding", torch.zeros_like(masks[:, :1], dtype=torch.bool))
        self._note(masks.masked_fill(padding, 0.0), labels)
        for_masks, for_labels = self.thresholds()
        mix = CutMix(len(masks), (masks.shape[-2], masks.shape[-1]), masks.device)
        masks = mix(masks)
        positive = masks > for_masks.view(-1, 1, 1)
        label, no_label = mix.labels(labels > for_labels, labels < self.negative, positive)
        return {
            "image": change_intensity(mix(rest["image"])),
            "mask": positive,  # bool (B, M, H, W)
            # bool (B, M, H, W), the pixels with a pseudo-label
            "kept": (positive | (masks < self.negative)) & ~mix(padding),
            "label": label,  # bool (B, M)
            "kept_label": label | no_label,  # bool (B, M)
        }

    def forward(self, logits: Logits, targets: dict[str, Any], is_sum: bool) -> Tensor:  # noqa: D102
        over_pixels = kept_cross_entropy(logits.masks, targets["mask"], targets["kept"])
        over_labels = kept_cross_entropy(logits.labels, targets["label"], targets["kept_label"])
        if is_sum:
            return logits.labels[0].numel() * over_labels + logits.masks[0].numel() * over_pixels
        return over_labels + over_pixels

    def _note(self, masks: Tensor, labels: Tensor) -> None:
        """Let the mean confidences follow the teacher's probabilities, those of all processes."""
        found = torch.stack(
            [
                torch.stack([(p * (p > UNSURE)).sum(over), (p > UNSURE).float().sum(over)])
                for p, over in ((masks, (0, 2, 3)), (labels, (0,)))
            ]
        )  # (2, 2, M): masks and labels; sums and counts
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(found)
        sums, counts = found.unbind(1)
        latest = torch.where(counts > 0, sums / counts.clamp(min=1), UNSURE)
        self.confidence.lerp_(latest, 1 - MEMORY)


def kept_cross_entropy(logits: Tensor, targets: Tensor, kept: Tensor) -> Tensor:
    """Average the binary cross-entropy over the kept terms, in float32; 0 without any.

    Args:
        logits: any shape.
        targets: bool, of this shape.
        kept: bool, of this shape.

    >>> kept = torch.tensor([True, True, False])
    >>> loss = kept_cross_entropy(torch.tensor([0.0, 0.0, 9.0]), torch.zeros(3).bool(), kept)
    >>> round(loss.item(), 4), kept_cross_entropy(torch.zeros(3), kept, kept & False).item()
    (0.6931, 0.0)
    """
    terms = F.binary_cross_entropy_with_logits(
        logits.float(), targets.float(), kept.float(), reduction="sum"
    )
    return terms / kept.sum().clamp(min=1)


def make_rest(name: str, classes: int, **values: float) -> Rest:
    """Create a way to learn from images without masks.

    Args:
        name: ``labels`` or ``mean_teacher``.
        classes: M.
        **values: ``weight`` and the others that its constructor takes.

    Raises:
        ConfigError: there is none of this name, or a value is out of bounds.
    """
    match name:
        case "labels":
            return Labels(**values)
        case "mean_teacher":
            return MeanTeacher(classes, **values)
    raise ConfigError(f"rest.name={name}: expected labels, mean_teacher")
