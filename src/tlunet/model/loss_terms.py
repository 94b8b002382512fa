"""Terms of which losses are made: cross-entropy and soft Dice, with their gradients."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_TINY = 1e-10  # a fraction of the pixels: keeps the logarithm finite where a probability is 0


def cross_entropy(logits: Tensor, targets: Tensor, mean: bool = False) -> Tensor:
    """Sum of the binary cross-entropy, in float32.

    The same numbers as ``F.binary_cross_entropy_with_logits``, but targets of one byte each are
    used as they are. That function needs a float copy of them, which takes four times the memory
    and is kept for the backward pass.

    Args:
        logits: any shape and floating type.
        targets: of the same shape, bool or 0/1.
        mean: whether to average instead.

    Raises:
        ValueError: the shapes differ.

    >>> import torch
    >>> round(cross_entropy(torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)).item(), 4)
    4.1589
    """
    if logits.shape != targets.shape:
        shapes = f"{tuple(targets.shape)}, logits of size {tuple(logits.shape)}"
        raise ValueError(f"targets of size {shapes}: expected the same size")
    value: Tensor = _CrossEntropy.apply(logits.float(), targets.bool(), mean)
    return value


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, mean: bool) -> Tensor:
        ctx.save_for_backward(logits, targets)
        ctx.mean = mean
        terms = (logits * ~targets).sub_(F.logsigmoid(logits))
        return terms.mean() if mean else terms.sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        logits, targets = ctx.saved_tensors
        errors = logits.sigmoid().sub_(targets.view(torch.uint8)).mul_(grads[0])
        return errors.div_(errors.numel()) if ctx.mean else errors, None, None


def over_valid(mean: Tensor, padding: Tensor | None) -> Tensor:
    """Turn a mean over all pixels, 0 in padded ones, into one over the others."""
    return mean if padding is None else mean * (padding.numel() / (~padding).sum())


def dice_loss(
    masks_logits: Tensor, masks: Tensor, smooth: float = 1e-3, padding: Tensor | None = None
) -> Tensor:
    """One minus the soft Dice of each class over the batch, averaged over classes.

        L = 1/M Σ_m [ 1 − (2 I_m + s) / (P_m + T_m + s) ]

    with I, P and T the means over the batch's B · H · W pixels of p·z, p and z (p = sigmoid of the
    logit, z = truth) and s = `smooth`. As I, P and T are *fractions* of the pixels, s means the
    same at every image and batch size.

    A class absent from the batch has I = T = 0 and costs P / (P + s): predicting it anyway costs up
    to 1, and the gradient in each p is s / (P + s)² / (M B H W) > 0. If such classes are ignored
    (SMP), they have no gradient; with a smoothing of 1e-5 or 1 *pixel* (nnU-Net), the gradient
    vanishes as images grow.

    Sources: Milletari et al. 2016 (V-Net: soft Dice; here with plain sums in the denominator);
    Isensee et al. 2021 (nnU-Net: the batch as one image, cross-entropy and Dice added).

    Args:
        masks_logits: (B, M, H, W), any floating type.
        masks: (B, M, H, W), bool or 0/1.
        smooth: s > 0, as a fraction of the pixels; 1e-3 is 410 pixels of a 256 × 1600 strip.
        padding: bool (B, 1, H, W), pixels that do not count, whose probability is 0.

    Returns:
        A float32 scalar in [0, 1).

    Raises:
        ValueError: the shapes differ, or `smooth` is not above 0.

    >>> import torch
    >>> absent = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    >>> [round(dice_loss(torch.full((1, 1, 8, 8), z), absent).item(), 3) for z in (20.0, -20.0)]
    [0.999, 0.0]
    """
    if not smooth > 0:
        raise ValueError(f"smooth is {smooth}, expected a fraction of the pixels above 0")
    intersection, prob, truth = _fractions(masks_logits, masks, padding)
    return (1 - (2 * intersection + smooth) / (prob + truth + smooth)).mean()


def log_dice_loss(masks_logits: Tensor, masks: Tensor, padding: Tensor | None = None) -> Tensor:
    """Minus the logarithm of the soft Dice of each class of the batch, averaged over classes.

        L = 1/M Σ_m [T_m > 0] · −log (2 I_m / (P_m + T_m))

    with I, P and T as in `dice_loss`. The gradient of I alone is as small as the probability of a
    defect that is not found yet, and smoothing makes it smaller still: s = 1e-3 leaves almost
    nothing of a defect that covers fewer pixels. The gradient of log I is not: it pulls the pixels
    of a class with the same total force, however small and improbable the class is. A class absent
    from the batch costs nothing here; cross-entropy keeps it down.

    Sources: Wong et al. 2018 (3D segmentation with exponential logarithmic loss, eq. 2, with
    exponent 1); as SMP's `DiceLoss` with `log_loss`, over the batch.

    Args:
        masks_logits: (B, M, H, W), any floating type.
        masks: (B, M, H, W), bool or 0/1.
        padding: bool (B, 1, H, W), pixels that do not count, whose probability is 0.

    Returns:
        A float32 scalar ≥ 0.

    Raises:
        ValueError: the shapes differ.

    >>> import torch
    >>> truth = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    >>> truth[..., 0, 0] = True
    >>> improbable = torch.full((1, 1, 8, 8), -10.0, requires_grad=True)
    >>> for loss in (dice_loss, log_dice_loss):
    ...     [gradient] = torch.autograd.grad(loss(improbable, truth), improbable)
    ...     print(f"{gradient[0, 0, 0, 0]:.2f}")
    -0.00
    -1.00
    """
    intersection, prob, truth = _fractions(masks_logits, masks, padding)
    dice = (2 * intersection + _TINY) / (prob + truth + _TINY)
    return (-dice.log() * (truth > 0)).mean()


def _fractions(
    masks_logits: Tensor, masks: Tensor, padding: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return I, P and T of each class, (M,): means over the batch's pixels of p·z, p and z."""
    if masks_logits.shape != masks.shape:
        raise ValueError(f"logits are {tuple(masks_logits.shape)}, masks {tuple(masks.shape)}")
    prob = masks_logits.float().sigmoid()  # (B, M, H, W)
    batch_and_pixels = (0, 2, 3)
    # Multiply as bool: a float copy of the masks would be kept for the backward pass.
    means = (
        (prob * masks.bool()).mean(batch_and_pixels),
        prob.mean(batch_and_pixels),
        masks.float().mean(batch_and_pixels),
    )
    intersection, probable, true = (over_valid(mean, padding) for mean in means)
    return intersection, probable, true
