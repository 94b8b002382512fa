"""Losses: eq. (1) of the paper and alternatives.

Every loss is called with logits and targets and returns a float32 scalar ≥ 0:

    loss(masks_logits, labels_logits, masks, labels)

Shapes: masks (B, M, H, W), labels (B, M), for B images, M classes, masks of H × W pixels. Logits
may have any floating type, also under autocast; targets are bool or 0/1. Logits and targets of
different shapes raise ValueError.

Padded pixels (data.fit=pad) have logits of −10,000, so sums over pixels contain nothing of them. A
loss with a fifth argument `padding`, bool (B, 1, H, W), or None, also leaves them out of its means.
"""

import torch
from segmentation_models_pytorch.losses import LovaszLoss as LovaszHinge
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from tlunet.errors import ConfigError
from tlunet.model.loss_terms import cross_entropy, dice_loss, log_dice_loss, over_valid


class PaperLoss(nn.Module):
    """Eq. (1): cross-entropy summed over labels plus cross-entropy summed over pixels and classes.

        J = 1/B Σ_k Σ_m [ BCE(ŷ_km, y_km) + Σ_ij BCE(ẑ_kijm, z_kijm) ]

    Because of the sum, one pixel has the same weight as one label: on a 256 × 1600 strip the labels
    are one term in 409,601. `BalancedLoss` is the alternative. The paper (II-D) sums over all data
    points; here it is the mean over the batch, a scale to which Adam is invariant.

    >>> import torch
    >>> loss = PaperLoss()(torch.zeros(2, 4, 3, 5), torch.zeros(2, 4),
    ...                    torch.ones(2, 4, 3, 5), torch.ones(2, 4))
    >>> round(loss.item() / (4 * (3 * 5 + 1)), 4)  # with all logits at 0: ln 2 per term
    0.6931
    """

    is_sum = True  # over labels and pixels; the others are means

    def forward(  # noqa: D102
        self, masks_logits: Tensor, labels_logits: Tensor, masks: Tensor, labels: Tensor
    ) -> Tensor:
        over_labels = cross_entropy(labels_logits, labels)
        return (over_labels + cross_entropy(masks_logits, masks)) / len(masks_logits)


class BalancedLoss(nn.Module):
    """Mean cross-entropy over labels plus that over pixels: both tasks have the same weight."""

    def forward(  # noqa: D102
        self,
        masks_logits: Tensor,
        labels_logits: Tensor,
        masks: Tensor,
        labels: Tensor,
        padding: Tensor | None = None,
    ) -> Tensor:
        over_labels = cross_entropy(labels_logits, labels, mean=True)
        over_pixels = cross_entropy(masks_logits, masks, mean=True)
        return over_labels + over_valid(over_pixels, padding)


class _BalancedLossPlus(BalancedLoss):
    """`BalancedLoss` plus a term of the masks, which subclasses define."""

    def term(self, logits: Tensor, masks: Tensor, padding: Tensor | None) -> Tensor:
        """Compute the term from logits and masks (B, M, H, W) and padding, (B, 1, H, W) or None."""
        raise NotImplementedError

    def forward(
        self,
        masks_logits: Tensor,
        labels_logits: Tensor,
        masks: Tensor,
        labels: Tensor,
        padding: Tensor | None = None,
    ) -> Tensor:
        balanced = super().forward(masks_logits, labels_logits, masks, labels, padding)
        return balanced + self.term(masks_logits, masks, padding)


class BCEDiceLoss(_BalancedLossPlus):
    """`BalancedLoss` plus `dice_loss`, so that the background does not dominate a rare class.

    Args:
        smooth: smoothing of the Dice term as a fraction of the pixels, above 0; see `dice_loss`.

    Raises:
        ConfigError: `smooth` is not above 0.
    """

    def __init__(self, smooth: float = 1e-3) -> None:
        super().__init__()
        if not smooth > 0:
            raise ConfigError(
                f"loss.smooth={smooth}: expected a fraction of the pixels above 0, such as 0.001"
            )
        self.smooth = smooth

    def term(self, logits: Tensor, masks: Tensor, padding: Tensor | None) -> Tensor:  # noqa: D102
        return dice_loss(logits, masks, self.smooth, padding)

    def extra_repr(self) -> str:  # noqa: D102
        return f"smooth={self.smooth}"


class LogDiceLoss(_BalancedLossPlus):
    """`BalancedLoss` plus `log_dice_loss`, which also finds defects of a few pixels.

    Args:
        weight: of the second term, above 0. That of `BCEDiceLoss` is bounded by 1; this one is not.

    Raises:
        ConfigError: `weight` is not above 0.
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        if not weight > 0:
            raise ConfigError(f"loss.weight={weight}: expected a number above 0")
        self.weight = weight

    def term(self, logits: Tensor, masks: Tensor, padding: Tensor | None) -> Tensor:  # noqa: D102
        return self.weight * log_dice_loss(logits, masks, padding)

    def extra_repr(self) -> str:  # noqa: D102
        return f"weight={self.weight}"


class FocalLoss(nn.Module):
    """Mean focal loss over labels plus that over pixels: easy examples get little weight.

        FL = −α_t (1 − p_t)^γ log p_t

    with p_t the probability of the true value, α_t = α for positives and 1 − α for negatives (Lin
    et al. 2017, eq. 5, with their γ and α; they divide by the number of objects, here it is means,
    so that both tasks have the same weight).

    Args:
        gamma: γ ≥ 0, how strongly easy examples are down-weighted; 0: weighted cross-entropy.
        alpha: α in [0, 1], the weight of positives.

    Raises:
        ConfigError: one of them is out of bounds.

    >>> import torch
    >>> truth = torch.ones(2, 4, 3, 5), torch.ones(2, 4)
    >>> loss = FocalLoss()(torch.zeros(2, 4, 3, 5), torch.zeros(2, 4), *truth)
    >>> round(loss.item(), 4)  # 2 · α · (1/2)^γ · ln 2
    0.0866
    """

    def __init__(self, gamma: float = 2.0, alpha: float = 0.25) -> None:
        super().__init__()
        if not gamma >= 0:
            raise ConfigError(f"loss.gamma={gamma}: expected a number, 0 or more")
        if not 0 <= alpha <= 1:
            raise ConfigError(f"loss.alpha={alpha}: expected a number from 0 to 1")
        self.gamma, self.alpha = gamma, alpha

    def forward(  # noqa: D102
        self,
        masks_logits: Tensor,
        labels_logits: Tensor,
        masks: Tensor,
        labels: Tensor,
        padding: Tensor | None = None,
    ) -> Tensor:
        over_labels, over_pixels = (
            sigmoid_focal_loss(logits.float(), target.float(), self.alpha, self.gamma, "mean")
            for logits, target in ((labels_logits, labels), (masks_logits, masks))
        )
        return over_labels + over_valid(over_pixels, padding)

    def extra_repr(self) -> str:  # noqa: D102
        return f"gamma={self.gamma}, alpha={self.alpha}"


class LovaszLoss(_BalancedLossPlus):
    """`BalancedLoss` plus the Lovász hinge of each class over the batch, averaged over classes.

    The Lovász hinge is a convex bound on one minus the IoU (Berman, Triki and Blaschko 2018). It
    sorts all pixels of a class. A class absent from the batch has a gradient only at its worst
    pixel, which is why the cross-entropy is kept.

    >>> import torch
    >>> sure = torch.tensor([[[[9.0, -9.0]]]])
    >>> labels = torch.full((1, 1), 9.0), torch.ones(1, 1)
    >>> for truth in (sure > 0, sure < 0):
    ...     print(f"{LovaszLoss()(sure, labels[0], truth, labels[1]).item():.2f}")
    0.00
    19.00
    """

    def term(self, logits: Tensor, masks: Tensor, padding: Tensor | None) -> Tensor:  # noqa: D102
        hinge = LovaszHinge("binary", per_image=False)
        classes = zip(logits.unbind(1), masks.unbind(1), strict=True)
        return torch.stack([hinge(own.float(), truth.float()) for own, truth in classes]).mean()
