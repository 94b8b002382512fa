"""The losses vs. hand-computed values, a float64 NumPy implementation, and their gradients."""

import math

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F

from tlunet.errors import ConfigError
from tlunet.model.loss_terms import cross_entropy, dice_loss, log_dice_loss
from tlunet.model.losses import (
    BalancedLoss,
    BCEDiceLoss,
    FocalLoss,
    LogDiceLoss,
    LovaszLoss,
    PaperLoss,
)

PAPER, BALANCED, BCE_DICE, LOG_DICE, FOCAL, LOVASZ = LOSSES = [
    PaperLoss(),
    BalancedLoss(),
    BCEDiceLoss(),
    LogDiceLoss(),
    FocalLoss(),
    LovaszLoss(),
]


@pytest.fixture
def batch():
    """Three images, four classes; class 4 is absent."""
    draw = torch.Generator().manual_seed(0)
    masks_logits = 3 * torch.randn(3, 4, 8, 10, generator=draw)
    labels_logits = 3 * torch.randn(3, 4, generator=draw)
    masks = torch.rand(3, 4, 8, 10, generator=draw) > 0.8
    masks[:, 3] = False
    return masks_logits, labels_logits, masks, masks.any((2, 3))


def in_numpy(masks_logits, labels_logits, masks, labels, smooth=1e-3):
    """The same losses from their formulas, in float64, with loops over classes."""
    x, y = (v.double().numpy() for v in (masks_logits, masks))
    u, v = (v.double().numpy() for v in (labels_logits, labels))
    pixels = -(y * -np.logaddexp(0, -x) + (1 - y) * -np.logaddexp(0, x))
    images = -(v * -np.logaddexp(0, -u) + (1 - v) * -np.logaddexp(0, u))
    p = 1 / (1 + np.exp(-x))
    n = x.size / x.shape[1]
    dices, logarithms, hinges = [], [], []
    for m in range(x.shape[1]):
        both, total = (p[:, m] * y[:, m]).sum(), p[:, m].sum() + y[:, m].sum()
        dices.append((2 * both + smooth * n) / (total + smooth * n))
        logarithms.append(-np.log(2 * both / total) if y[:, m].any() else 0)
        hinges.append(lovasz_by_hand(x[:, m].ravel(), y[:, m].ravel()))
    balanced = pixels.mean() + images.mean()
    return {
        PAPER: (pixels.sum() + images.sum()) / len(x),
        BALANCED: balanced,
        BCE_DICE: balanced + 1 - np.mean(dices),
        LOG_DICE: balanced + np.mean(logarithms),
        FOCAL: focal_by_hand(x, y) + focal_by_hand(u, v),
        LOVASZ: balanced + np.mean(hinges),
    }


def focal_by_hand(x, y, gamma=2.0, alpha=0.25):
    """Lin et al. 2017, eq. 5, mean over everything."""
    p = 1 / (1 + np.exp(-x))
    of_truth, weight = np.where(y > 0, p, 1 - p), np.where(y > 0, alpha, 1 - alpha)
    return np.mean(-weight * (1 - of_truth) ** gamma * np.log(of_truth))


def lovasz_by_hand(x, y):
    """Berman et al. 2018, eq. 8 and 9: errors in descending order, each times its cost in IoU."""
    errors = 1 - x * (2 * y - 1)
    order = np.argsort(-errors)

    def lost(k):  # 1 - IoU if the k worst pixels were wrong
        wrong = np.isin(np.arange(len(x)), order[:k])
        truth, found = y > 0, (y > 0) ^ wrong
        union = (truth | found).sum()
        return 1 - (truth & found).sum() / union if union else 0.0

    return sum(max(errors[i], 0) * (lost(k + 1) - lost(k)) for k, i in enumerate(order))


def test_by_hand():
    # Logit 0 is p = 1/2, ln 3 is p = 3/4: BCE(0, 1) = ln 2, BCE(ln 3, 0) = ln 4 and
    # BCE(ln 3, 1) = ln 4/3.
    masks_logits = torch.tensor([[[[0.0, math.log(3)]]]])
    masks = torch.tensor([[[[True, False]]]])
    labels_logits, labels = torch.tensor([[math.log(3)]]), torch.tensor([[True]])
    given = masks_logits, labels_logits, masks, labels
    assert PAPER(*given).item() == pytest.approx(math.log(2 * 4 * 4 / 3))
    balanced = math.log(4 / 3) + (math.log(2) + math.log(4)) / 2
    assert BALANCED(*given).item() == pytest.approx(balanced)
    # Fractions of two pixels: I = 1/4, P = 5/8, T = 1/2; Dice = (1/2 + 1/8) / (9/8 + 1/8) = 1/2.
    assert dice_loss(masks_logits, masks, smooth=0.125).item() == pytest.approx(0.5)
    assert BCEDiceLoss(smooth=0.125)(*given).item() == pytest.approx(balanced + 0.5)


@pytest.mark.parametrize("loss", LOSSES)
def test_against_numpy(loss, batch):
    value = loss(*batch)
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(in_numpy(*batch)[loss], rel=1e-6)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("mean", [False, True])
def test_cross_entropy_is_torchs(mean, layout, batch):
    """Bit for bit, value and gradient: recorded results do not change."""
    logits = batch[0].to(memory_format=layout).requires_grad_()
    masks = batch[2].to(memory_format=layout)
    found = []
    for loss in (
        cross_entropy(logits, masks, mean),
        F.binary_cross_entropy_with_logits(
            logits, masks.float(), reduction="mean" if mean else "sum"
        ),
    ):
        found.append((loss, *torch.autograd.grad(loss / 3, logits)))
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)
    assert torch.autograd.grad(cross_entropy(logits, masks), logits)[0].stride() == logits.stride()


def test_masks_are_not_copied_for_the_backward_pass(batch):
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        cross_entropy(batch[0].requires_grad_(), batch[2])
    assert [t.dtype for t in kept] == [torch.float32, torch.bool]
    assert kept[1].data_ptr() == batch[2].data_ptr()


@pytest.mark.parametrize("loss", LOSSES)
def test_targets_as_bool_or_numbers(loss, batch):
    masks_logits, labels_logits, masks, labels = batch
    for dtype in (torch.uint8, torch.float32):
        given = masks_logits, labels_logits, masks.to(dtype), labels.to(dtype)
        assert torch.equal(loss(*given), loss(*batch))


def test_scale_of_eq_1(batch):
    """A wrong pixel costs as much as a wrong label; duplicating the batch changes nothing."""
    masks_logits, labels_logits, masks, labels = batch
    images = len(masks_logits)
    pixel, label = masks_logits.clone(), labels_logits.clone()
    masks[0, 0, 0, 0] = labels[0, 0] = True
    masks_logits[0, 0, 0, 0] = labels_logits[0, 0] = 0
    pixel[0, 0, 0, 0], label[0, 0] = -5, -5
    pixel[0, 0, 0, 1], label[0, 1] = masks_logits[0, 0, 0, 1], labels_logits[0, 1]
    before = PAPER(masks_logits, labels_logits, masks, labels)
    step = (math.log1p(math.exp(5)) - math.log(2)) / images
    wrong_pixel = PAPER(pixel, labels_logits, masks, labels) - before
    wrong_label = PAPER(masks_logits, label, masks, labels) - before
    assert wrong_pixel.item() == pytest.approx(step, rel=1e-3)
    assert wrong_label.item() == pytest.approx(step, rel=1e-3)
    twice = [torch.cat([value, value]) for value in batch]
    assert PAPER(*twice).item() == pytest.approx(before.item())


def test_gradient_of_eq_1_is_the_error(batch):
    """∂J/∂logit = (p - z) / B, for pixels and labels alike."""
    masks_logits, labels_logits, masks, labels = batch
    masks_logits.requires_grad_()
    labels_logits.requires_grad_()
    PAPER(masks_logits, labels_logits, masks, labels).backward()
    for logits, target in ((masks_logits, masks), (labels_logits, labels)):
        expected = (logits.detach().sigmoid() - target.float()) / 3
        torch.testing.assert_close(logits.grad, expected)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("logit", [-100.0, 100.0])
@pytest.mark.parametrize("truth", [False, True])
def test_extreme_logits(loss, logit, truth):
    masks_logits = torch.full((2, 3, 4, 5), logit, requires_grad=True)
    labels_logits = torch.full((2, 3), logit, requires_grad=True)
    masks, labels = torch.full((2, 3, 4, 5), truth), torch.full((2, 3), truth)
    value = loss(masks_logits, labels_logits, masks, labels)
    value.backward()
    assert masks_logits.grad.isfinite().all()
    assert labels_logits.grad.isfinite().all()
    wrong = (logit > 0) != truth
    per_term = {
        PAPER: 3 * (4 * 5 + 1) * 100,
        BALANCED: 200,
        BCE_DICE: 201,
        LOG_DICE: 200 + (10 * math.log(10) if truth else 0),
        FOCAL: 200 * (0.25 if truth else 0.75),
        LOVASZ: 200 + 101,
    }[loss]
    assert value.item() == pytest.approx(per_term if wrong else 0, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(loss, dtype, batch):
    masks_logits, labels_logits, masks, labels = batch
    low = masks_logits.to(dtype), labels_logits.to(dtype)
    expected = loss(low[0].float(), low[1].float(), masks, labels)
    assert torch.equal(loss(*low, masks, labels), expected)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = loss(*low, masks, labels)
    assert under_autocast.dtype == torch.float32
    assert torch.equal(under_autocast, expected)


@pytest.mark.parametrize("images", [1, 16])
def test_absent_class_costs_and_has_a_gradient(images):
    """Predicting a class absent from the batch has a cost at any batch and image size."""
    absent = torch.zeros(images, 1, 32, 64, dtype=torch.bool)
    grid = torch.linspace(-12, 8, 21)
    costs, gradients = [], []
    for logit in grid:
        logits = torch.full(absent.shape, logit.item(), requires_grad=True)
        cost = dice_loss(logits, absent)
        cost.backward()
        costs.append(cost.item())
        assert (logits.grad > 0).all()  # descent reduces its probability
        gradients.append(logits.grad.sum().item())
    p = grid.double().sigmoid().numpy()
    np.testing.assert_allclose(costs, p / (p + 1e-3), rtol=1e-5)
    np.testing.assert_allclose(gradients, 1e-3 / (p + 1e-3) ** 2 * p * (1 - p), rtol=1e-3)
    assert np.all(np.diff(costs) > 0)
    assert costs[0] < 0.01
    assert costs[-1] > 0.99


def test_dice_pools_the_batch():
    """A class in one image of the batch is one class, not one per image."""
    logits, masks = torch.full((2, 1, 4, 4), -100.0), torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    masks[0, 0, :2] = True
    logits[0, 0, :1] = 100  # half of it found: 2 · 4 / (4 + 8) over both images
    logits[1, 0, 0] = 100  # and as many false pixels: 2 · 4 / (8 + 8)
    assert dice_loss(logits, masks, smooth=1e-9).item() == pytest.approx(0.5)


def test_logarithm_of_dice_is_smps(batch):
    theirs = smp.losses.DiceLoss("multilabel", log_loss=True, from_logits=True, eps=0)
    logits, masks = batch[0], batch[2]
    assert not masks[:, 3].any()  # a class that is absent
    assert log_dice_loss(logits, masks).item() == pytest.approx(theirs(logits, masks).item())


@pytest.mark.parametrize("pixels", [1, 100])
@pytest.mark.parametrize("logit", [-9.0, -4.0])
def test_logarithm_of_dice_pulls_small_and_improbable_defects(pixels, logit):
    """With the same total force; that of Dice itself falls with size and probability."""
    masks = torch.zeros(4, 1, 64, 64, dtype=torch.bool)
    masks.view(-1)[:pixels] = True
    logits = torch.full(masks.shape, -12.0).masked_fill(masks, logit).requires_grad_()
    pull = {
        loss: -torch.autograd.grad(loss(logits, masks), logits)[0][masks].sum().item()
        for loss in (dice_loss, log_dice_loss)
    }
    assert 0.9 < pull[log_dice_loss] < 1
    assert pull[dice_loss] < 0.1 * pull[log_dice_loss]


def test_logarithm_of_dice_is_not_changed_by_absent_classes(batch):
    logits = batch[0].requires_grad_()
    log_dice_loss(logits, batch[2]).backward()
    assert not logits.grad[:, 3].any()
    assert logits.grad[:, :3].all()


def test_arguments_count_and_are_shown(batch):
    assert not torch.equal(LogDiceLoss(0.1)(*batch), LogDiceLoss()(*batch))
    assert "weight=0.1" in repr(LogDiceLoss(0.1))
    assert not torch.equal(BCEDiceLoss(smooth=0.1)(*batch), BCEDiceLoss()(*batch))
    assert "smooth=0.1" in repr(BCEDiceLoss(smooth=0.1))
    assert not torch.equal(FocalLoss(1.0, 0.5)(*batch), FocalLoss()(*batch))
    assert "gamma=1.0, alpha=0.5" in repr(FocalLoss(1.0, 0.5))


@pytest.mark.parametrize(("name", "value"), [("gamma", -1.0), ("alpha", 1.5)])
def test_focal_out_of_bounds(name, value):
    with pytest.raises(ConfigError, match=rf"loss\.{name}={value}"):
        FocalLoss(**{name: value})


@pytest.mark.parametrize("loss", LOSSES)
def test_values_are_never_read(loss):
    """Meta tensors have no values: `.item()`, which synchronises a GPU, would raise."""
    masks, labels = torch.zeros(2, 4, 8, 8, device="meta"), torch.zeros(2, 4, device="meta")
    assert loss(masks, labels, masks.bool(), labels.bool()).device.type == "meta"


@pytest.mark.parametrize("loss", LOSSES)
def test_shapes_that_differ(loss, batch):
    masks_logits, labels_logits, masks, labels = batch
    with pytest.raises(ValueError, match="size"):
        loss(masks_logits, labels_logits, masks[:, :1], labels)
    with pytest.raises(ValueError, match="size"):
        loss(masks_logits, labels_logits, masks, labels[:, :1])


def test_dice_of_shapes_that_differ(batch):
    with pytest.raises(ValueError, match=r"\(3, 4, 8, 10\), masks \(3, 1, 8, 10\)"):
        dice_loss(batch[0], batch[2][:, :1])
    with pytest.raises(ValueError, match=r"\(3, 4, 8, 10\), masks \(3, 1, 8, 10\)"):
        log_dice_loss(batch[0], batch[2][:, :1])


@pytest.mark.parametrize("weight", [0, -1, math.nan])
def test_a_weight_must_be_above_0(weight):
    with pytest.raises(ConfigError, match=r"loss\.weight="):
        LogDiceLoss(weight)


@pytest.mark.parametrize("smooth", [0, -1, math.nan])
def test_smoothing_must_be_above_0(smooth, batch):
    with pytest.raises(ValueError, match="above 0"):
        dice_loss(batch[0], batch[2], smooth)
    with pytest.raises(ConfigError, match=r"loss\.smooth="):
        BCEDiceLoss(smooth)
