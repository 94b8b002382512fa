"""What training minimises: eq. (1) of the paper and alternatives.

Every loss takes logits, casts them to float32 (under autocast too) and returns one scalar. The pure
functions are the losses; the classes make them configurable. Shapes: B images, M classes, masks of
H × W pixels.
"""

import torch.nn.functional as F
from segmentation_models_pytorch.losses import LovaszLoss as LovaszHinge
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from tlunet.errors import ConfigError


def _bce_sum(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy in float32, summed over everything."""
    return F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="sum")


def paper_loss(
    masks_logits: Tensor, labels_logits: Tensor, masks: Tensor, labels: Tensor
) -> Tensor:
    """Eq. (1): cross-entropy summed over classes plus that summed over pixels and classes.

        J = 1/B Σ_k Σ_m [ BCE(ŷ_km, y_km) + Σ_ij BCE(ẑ_kijm, z_kijm) ]

    The sum makes one pixel weigh as much as one label: on a 256 × 1600 strip the labels are one
    term in 409,601. `balanced_loss` is the alternative.

    Args:
        masks_logits: (B, M, H, W), any floating type.
        labels_logits: (B, M), any floating type.
        masks: (B, M, H, W), bool or 0/1: the pixel shows the class.
        labels: (B, M), bool or 0/1: the image shows the class.

    Returns:
        A float32 scalar ≥ 0; with all logits at 0 it is M · (H · W + 1) · ln 2.

    Raises:
        ValueError: logits and targets differ in shape.

    >>> import torch
    >>> loss = paper_loss(torch.zeros(2, 4, 3, 5), torch.zeros(2, 4),
    ...                   torch.ones(2, 4, 3, 5), torch.ones(2, 4))
    >>> round(loss.item() / (4 * (3 * 5 + 1)), 4)
    0.6931
    """
    # Paper II-D: a sum over all data points; here: the mean over the batch. Adam is invariant to
    # that scale.
    return (_bce_sum(labels_logits, labels) + _bce_sum(masks_logits, masks)) / len(masks_logits)


def balanced_loss(
    masks_logits: Tensor, labels_logits: Tensor, masks: Tensor, labels: Tensor
) -> Tensor:
    """Mean cross-entropy over labels plus that over pixels: both tasks weigh the same.

    Args:
        masks_logits: (B, M, H, W), any floating type.
        labels_logits: (B, M), any floating type.
        masks: (B, M, H, W), bool or 0/1.
        labels: (B, M), bool or 0/1.

    Returns:
        A float32 scalar ≥ 0; with all logits at 0 it is 2 ln 2.

    Raises:
        ValueError: logits and targets differ in shape.
    """
    over_labels = _bce_sum(labels_logits, labels) / labels_logits.numel()
    return over_labels + _bce_sum(masks_logits, masks) / masks_logits.numel()


def dice_loss(masks_logits: Tensor, masks: Tensor, smooth: float = 1e-3) -> Tensor:
    """One minus the soft Dice of each class over the whole batch, averaged over classes.

        L = 1/M Σ_m [ 1 − (2 I_m + s) / (P_m + T_m + s) ]

    with I, P and T the means over the batch's B · H · W pixels of p·z, p and z (p = sigmoid of the
    logit, z = truth) and s = `smooth`. As I, P and T are *shares* of the pixels, s means the same
    at every image and batch size.

    A class absent from the batch has I = T = 0 and costs P / (P + s): predicting it anyway costs up
    to 1, and the gradient in each p is s / (P + s)² / (M B H W) > 0. Leaving such classes out (SMP)
    gives them none; a smoothing of 1e-5 or 1 *pixel* (nnU-Net) one that vanishes as images grow.

    Sources: Milletari et al. 2016 (V-Net: soft Dice; here with plain sums in the denominator);
    Isensee et al. 2021 (nnU-Net: the batch as one image, cross-entropy and Dice added).

    Args:
        masks_logits: (B, M, H, W), any floating type.
        masks: (B, M, H, W), bool or 0/1.
        smooth: s > 0, as a share of the pixels; 1e-3 is 410 pixels of a 256 × 1600 strip.

    Returns:
        A float32 scalar in [0, 1).

    Raises:
        ValueError: the shapes differ, or `smooth` is not above 0.

    >>> import torch
    >>> absent = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    >>> [round(dice_loss(torch.full((1, 1, 8, 8), z), absent).item(), 3) for z in (20.0, -20.0)]
    [0.999, 0.0]
    """
    if masks_logits.shape != masks.shape:
        raise ValueError(f"logits are {tuple(masks_logits.shape)}, masks {tuple(masks.shape)}")
    if not smooth > 0:
        raise ValueError(f"smooth is {smooth}, expected a share of the pixels above 0")
    prob = masks_logits.float().sigmoid()  # (B, M, H, W)
    batch_and_pixels = (0, 2, 3)
    # Multiplied as bool: a float copy of the masks would be kept for the backward pass.
    intersection = (prob * masks.bool()).mean(batch_and_pixels)  # (M,)
    total = prob.mean(batch_and_pixels) + masks.float().mean(batch_and_pixels)  # (M,)
    return (1 - (2 * intersection + smooth) / (total + smooth)).mean()


def bce_dice_loss(
    masks_logits: Tensor,
    labels_logits: Tensor,
    masks: Tensor,
    labels: Tensor,
    smooth: float = 1e-3,
) -> Tensor:
    """`balanced_loss` plus `dice_loss`: a rare class no longer drowns in background.

    Args:
        masks_logits: (B, M, H, W), any floating type.
        labels_logits: (B, M), any floating type.
        masks: (B, M, H, W), bool or 0/1.
        labels: (B, M), bool or 0/1.
        smooth: smoothing of the Dice term, see `dice_loss`.

    Returns:
        A float32 scalar ≥ 0.

    Raises:
        ValueError: logits and targets differ in shape, or `smooth` is not above 0.
    """
    balanced = balanced_loss(masks_logits, labels_logits, masks, labels)
    return balanced + dice_loss(masks_logits, masks, smooth)


def focal_loss(
    masks_logits: Tensor,
    labels_logits: Tensor,
    masks: Tensor,
    labels: Tensor,
    gamma: float = 2.0,
    alpha: float = 0.25,
) -> Tensor:
    """Mean focal loss over labels plus that over pixels: what is easy hardly counts.

        FL = −α_t (1 − p_t)^γ log p_t

    with p_t the probability given to the truth and α_t = α for what is there, 1 − α for what is
    not (Lin et al. 2017, eq. 5, with their γ and α; they divide by the objects' number, here it is
    means, so that both tasks weigh the same).

    Args:
        masks_logits: (B, M, H, W), any floating type.
        labels_logits: (B, M), any floating type.
        masks: (B, M, H, W), bool or 0/1.
        labels: (B, M), bool or 0/1.
        gamma: γ ≥ 0; 0 is cross-entropy weighed by α.
        alpha: α in [0, 1].

    Returns:
        A float32 scalar ≥ 0.

    >>> import torch
    >>> truth = torch.ones(2, 4, 3, 5), torch.ones(2, 4)
    >>> loss = focal_loss(torch.zeros(2, 4, 3, 5), torch.zeros(2, 4), *truth)
    >>> round(loss.item(), 4)  # 2 · α · (1/2)^γ · ln 2
    0.0866
    """
    over_labels, over_pixels = (
        sigmoid_focal_loss(logits.float(), target.float(), alpha, gamma, "mean")
        for logits, target in ((labels_logits, labels), (masks_logits, masks))
    )
    return over_labels + over_pixels


def lovasz_loss(
    masks_logits: Tensor, labels_logits: Tensor, masks: Tensor, labels: Tensor
) -> Tensor:
    """`balanced_loss` plus the Lovász hinge of each class over the batch, averaged over classes.

    The Lovász hinge is a convex bound on one minus the IoU (Berman, Triki and Blaschko 2018). It
    sorts all pixels of a class. A class absent from the batch moves its worst pixel alone, which is
    why the cross-entropy stays.

    Args:
        masks_logits: (B, M, H, W), any floating type.
        labels_logits: (B, M), any floating type.
        masks: (B, M, H, W), bool or 0/1.
        labels: (B, M), bool or 0/1.

    Returns:
        A float32 scalar ≥ 0.

    >>> import torch
    >>> sure = torch.tensor([[[[9.0, -9.0]]]])
    >>> [round(lovasz_loss(sure, torch.full((1, 1), 9.0), t, torch.ones(1, 1)).item(), 2)
    ...  for t in (sure > 0, sure < 0)]
    [0.0, 19.0]
    """
    hinge = LovaszHinge("binary", per_image=False)
    over_classes = [
        hinge(masks_logits[:, m].float(), masks[:, m].float()) for m in range(masks.shape[1])
    ]
    balanced = balanced_loss(masks_logits, labels_logits, masks, labels)
    return balanced + sum(over_classes) / len(over_classes)


class PaperLoss(nn.Module):
    """`paper_loss`, eq. (1), as a module."""

    def forward(
        self, masks_logits: Tensor, labels_logits: Tensor, masks: Tensor, labels: Tensor
    ) -> Tensor:
        """See `paper_loss`."""
        return paper_loss(masks_logits, labels_logits, masks, labels)


class BalancedLoss(nn.Module):
    """`balanced_loss` as a module."""

    def forward(
        self, masks_logits: Tensor, labels_logits: Tensor, masks: Tensor, labels: Tensor
    ) -> Tensor:
        """See `balanced_loss`."""
        return balanced_loss(masks_logits, labels_logits, masks, labels)


class BCEDiceLoss(nn.Module):
    """`bce_dice_loss` as a module.

    Args:
        smooth: smoothing of the Dice term as a share of the pixels, above 0; see `dice_loss`.

    Raises:
        ConfigError: `smooth` is not above 0.
    """

    def __init__(self, smooth: float = 1e-3) -> None:
        super().__init__()
        if not smooth > 0:
            raise ConfigError(
                f"loss.smooth={smooth}: expected a share of the pixels above 0, such as 0.001"
            )
        self.smooth = smooth

    def forward(
        self, masks_logits: Tensor, labels_logits: Tensor, masks: Tensor, labels: Tensor
    ) -> Tensor:
        """See `bce_dice_loss`."""
        return bce_dice_loss(masks_logits, labels_logits, masks, labels, self.smooth)

    def extra_repr(self) -> str:
        """The smoothing, for `print(loss)`."""
        return f"smooth={self.smooth}"


class FocalLoss(nn.Module):
    """`focal_loss` as a module.

    Args:
        gamma: γ ≥ 0, how much less what is easy counts.
        alpha: α in [0, 1], the weight of what is there.

    Raises:
        ConfigError: one of them is out of bounds.
    """

    def __init__(self, gamma: float = 2.0, alpha: float = 0.25) -> None:
        super().__init__()
        if not gamma >= 0:
            raise ConfigError(f"loss.gamma={gamma}: expected a number, 0 or more")
        if not 0 <= alpha <= 1:
            raise ConfigError(f"loss.alpha={alpha}: expected a number from 0 to 1")
        self.gamma, self.alpha = gamma, alpha

    def forward(
        self, masks_logits: Tensor, labels_logits: Tensor, masks: Tensor, labels: Tensor
    ) -> Tensor:
        """See `focal_loss`."""
        return focal_loss(masks_logits, labels_logits, masks, labels, self.gamma, self.alpha)

    def extra_repr(self) -> str:
        """γ and α, for `print(loss)`."""
        return f"gamma={self.gamma}, alpha={self.alpha}"


class LovaszLoss(nn.Module):
    """`lovasz_loss` as a module."""

    def forward(
        self, masks_logits: Tensor, labels_logits: Tensor, masks: Tensor, labels: Tensor
    ) -> Tensor:
        """See `lovasz_loss`."""
        return lovasz_loss(masks_logits, labels_logits, masks, labels)
