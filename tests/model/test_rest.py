"""Learning from images without masks: labels alone, or a teacher's predictions."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tlunet.data.augment import Augment
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import OnDisk
from tlunet.errors import ConfigError
from tlunet.machine.device import Hardware
from tlunet.model.losses import BalancedLoss, PaperLoss
from tlunet.model.network import Logits, TLUNet
from tlunet.model.rest.rest import Labels, MeanTeacher, Rest, kept_cross_entropy, make_rest
from tlunet.model.rest.strong import change_intensity, draw_pieces
from tlunet.model.task import DefectTask
from tlunet.study.training.callbacks.reseed import Reseed
from tlunet.study.training.trainer import make_trainer

CPU = Hardware("cpu", "32-true", "a CPU", 1)
LN2 = math.log(2)


def logit(p: Tensor | float) -> Tensor:
    return torch.as_tensor(p).logit()


def teacher(masks: Tensor, labels: Tensor) -> Any:
    """A teacher that gives these probabilities to any image."""
    return lambda image: Logits(logit(masks), logit(labels))


@pytest.fixture
def unmixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tlunet.model.rest.strong.draw_pieces",
        lambda n, size, device: torch.zeros(n, 1, *size, dtype=torch.bool),
    )


def test_between_the_thresholds_there_is_no_pseudo_label(unmixed: None) -> None:
    masks = torch.tensor([0.95, 0.79, 0.5, 0.11, 0.05]).expand(1, 1, 4, 5)
    labels = torch.tensor([[0.3]])
    strategy = MeanTeacher(1, positive=0.8, negative=0.1)
    targets = strategy.prepare({"image": torch.rand(1, 1, 4, 5)}, teacher(masks, labels))
    assert targets["mask"][0, 0, 2].tolist() == [True, False, False, False, False]
    assert targets["kept"][0, 0, 2].tolist() == [True, False, False, False, True]
    assert targets["kept_label"].tolist() == [[False]]


def test_a_class_that_is_found_late_has_a_lower_threshold() -> None:
    strategy = MeanTeacher(3, positive=0.8)
    assert strategy.thresholds()[0].tolist() == pytest.approx([0.8] * 3)  # at first all alike
    masks = torch.full((2, 3, 4, 4), 0.05)
    masks[:, 0], masks[0, 1] = 0.99, 0.7
    for _ in range(1000):
        strategy._note(masks, torch.full((2, 3), 0.9))
    assert strategy.confidence[0].tolist() == pytest.approx([0.99, 0.7, 0.5], abs=1e-3)
    expected = [0.8, 0.8 * 0.7 / 0.99, 0.5]
    assert strategy.thresholds()[0].tolist() == pytest.approx(expected, abs=1e-3)
    assert strategy.thresholds()[1].tolist() == pytest.approx([0.8] * 3)


def test_cutmix_takes_pseudo_labels_along(monkeypatch: pytest.MonkeyPatch) -> None:
    def left_half(n: int, size: tuple[int, int], device: torch.device) -> Tensor:
        piece = torch.zeros(n, 1, *size, dtype=torch.bool)
        piece[0, :, :, : size[1] // 2] = True
        return piece

    monkeypatch.setattr("tlunet.model.rest.strong.draw_pieces", left_half)
    monkeypatch.setattr(torch, "randperm", lambda n, device: torch.arange(n - 1, -1, -1))
    masks = torch.full((2, 3, 2, 4), 0.01)
    masks[0, 0, :, :2] = 0.95  # of the first image, in the half that is replaced
    masks[1, 1, :, :2] = 0.95  # of the second, in the half that replaces it
    labels = torch.tensor([[0.99, 0.01, 0.5], [0.01, 0.99, 0.01]])
    image = torch.stack([torch.zeros(1, 2, 4), torch.full((1, 2, 4), 200.0)])
    monkeypatch.setattr("tlunet.model.rest.rest.change_intensity", lambda image: image)
    targets = MeanTeacher(3).prepare({"image": image}, teacher(masks, labels))
    assert targets["image"][0, 0, 0].tolist() == [200, 200, 0, 0]
    assert torch.equal(targets["image"][1], image[1])
    assert not targets["mask"][0, 0].any()
    assert targets["mask"][0, 1].int().tolist() == [[1, 1, 0, 0]] * 2
    assert targets["label"].tolist() == [[False, True, False], [False, True, False]]
    # Class 1 is gone from the picture, but that is not sure; class 3 was not sure before.
    assert targets["kept_label"].tolist() == [[False, True, False], [True, True, True]]


def test_padding_has_no_pseudo_label(unmixed: None) -> None:
    padding = torch.zeros(2, 1, 4, 6, dtype=torch.bool)
    padding[..., 4:] = True
    rest = {"image": torch.rand(2, 1, 4, 6) * 255, "padding": padding}
    sure = teacher(torch.full((2, 3, 4, 6), 0.99), torch.full((2, 3), 0.99))
    targets = MeanTeacher(3).prepare(rest, sure)
    assert targets["kept"].sum() == 2 * 3 * 4 * 4


@pytest.mark.parametrize("loss", [PaperLoss(), BalancedLoss()])
def test_sure_pseudo_labels_cost_as_much_as_true_masks(loss: Any) -> None:
    """With weight 1, an image with pseudo-labels weighs as much as one with masks."""
    torch.manual_seed(0)
    logits = Logits(torch.randn(3, 2, 4, 5), torch.randn(3, 2))
    masks, labels = torch.rand(3, 2, 4, 5) > 0.5, torch.rand(3, 2) > 0.5
    everything = {"kept": torch.ones_like(masks), "kept_label": torch.ones_like(labels)}
    found = MeanTeacher(2)(
        logits, {"mask": masks, "label": labels, **everything}, getattr(loss, "is_sum", False)
    )
    assert float(found) == pytest.approx(float(loss(*logits, masks, labels)), rel=1e-5)


@pytest.mark.parametrize(("is_sum", "expected"), [(True, 3 * LN2), (False, LN2)])
def test_labels_are_the_first_term_of_the_loss(is_sum: bool, expected: float) -> None:
    logits = Logits(torch.randn(2, 3, 4, 4), torch.zeros(2, 3))
    found = Labels()(logits, {"label": torch.rand(2, 3) > 0.5}, is_sum)
    assert float(found) == pytest.approx(expected)


def test_only_kept_terms_have_a_gradient() -> None:
    logits = torch.randn(4, 5, requires_grad=True)
    kept = torch.rand(4, 5) > 0.5
    kept_cross_entropy(logits, torch.ones(4, 5).bool(), kept).backward()
    assert torch.equal(logits.grad != 0, kept)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Labels(weight=0), "rest.weight=0: expected a number above 0"),
        (lambda: MeanTeacher(4, ramp=2), "rest.ramp=2: expected a fraction"),
        (lambda: MeanTeacher(4, positive=0.3), "rest.positive=0.3: expected a probability"),
        (lambda: MeanTeacher(4, negative=0.6), "rest.negative=0.6: expected a probability"),
        (lambda: make_rest("oracle", 4), "rest.name=oracle: expected labels, mean_teacher"),
        (
            lambda: DefectTask(TLUNet("resnet18"), rest=MeanTeacher(4)),
            "ema: not set; rest=mean_teacher needs a decay, such as ema=0.99",
        ),
    ],
)
def test_wrong_values_are_told_in_one_line(make: Any, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    [line] = error.value.lines
    assert line.startswith(told)


def test_the_weight_rises_with_the_steps() -> None:
    ramped = Rest(weight=2, ramp=0.5)
    weights = [ramped.weight_at(p) for p in np.linspace(0, 1, 21)]
    assert weights == sorted(weights)
    assert weights[0] == pytest.approx(2 * math.exp(-5))
    assert weights[10:] == [2.0] * 11
    assert Rest().weight_at(0) == 1


def test_intensities_stay_in_range_and_follow_the_seed() -> None:
    image = (torch.rand(8, 1, 32, 48) * 255).to(torch.uint8)
    torch.manual_seed(3)
    first, other = change_intensity(image), change_intensity(image)
    torch.manual_seed(3)
    assert torch.equal(change_intensity(image), first)
    assert not torch.equal(first, other)
    assert first.shape == image.shape
    assert float(first.min()) >= 0
    assert float(first.max()) <= 255
    changes = (first - image).abs().mean((1, 2, 3))
    assert float(changes.max()) > 20


def test_pieces_are_rectangles_in_about_half_of_the_images() -> None:
    torch.manual_seed(0)
    pieces = draw_pieces(400, (32, 64), torch.device("cpu"))
    areas = pieces.float().mean((1, 2, 3))
    used = areas > 0
    assert 0.4 < float(used.float().mean()) < 0.6
    assert float(areas.max()) <= 0.45
    for piece in pieces[used, 0][:50]:
        rows, columns = piece.any(1), piece.any(0)
        assert torch.equal(piece, rows[:, None] & columns[None])
        for side in (rows, columns):
            assert int(side.diff().sum()) <= 2


def module(root: Path, cache: Path, name: str) -> DefectDataModule:
    data = DefectDataModule(
        OnDisk("severstal", root), cache, batch_size=4, frac=0.5, augment=Augment(),
        rest_batch_size=3, rest_labels=name == "labels",
    )  # fmt: skip
    data.prepare_data()
    data.setup()
    return data


def trained(
    data: DefectDataModule, name: str, compile_for: tuple[int, ...] = ()
) -> dict[str, Tensor]:
    """The weights after two epochs."""
    torch.manual_seed(0)
    network = TLUNet("mobilenet_v2", 4, data.mean, data.std)
    task = DefectTask(network, ema=0.9, rest=make_rest(name, 4))
    if compile_for:
        task.compile_for(*compile_for, backend="eager")
    trainer = make_trainer(CPU, epochs=2, callbacks=[Reseed()], validate=False)
    trainer.fit(task, data)
    return {k: v.clone() for k, v in task.state_dict().items()}


@pytest.mark.parametrize("name", ["labels", "mean_teacher"])
def test_false_annotations_of_the_rest_give_the_same_weights(
    strips: Path, tmp_path: Path, name: str
) -> None:
    data = module(strips, tmp_path, name)
    expected = trained(data, name)
    rest = data.rest_rows
    data.pack.masks = data.pack.masks.copy()
    data.pack.masks[rest] = np.random.default_rng(0).integers(0, 16, data.pack.masks[rest].shape)
    lie = data.pack.index["labels"].to_numpy().copy()
    lie[rest] = 15 - lie[rest]
    if name == "mean_teacher":
        data.pack.index = data.pack.index.assign(labels=lie, mask_labels=lie)
    found = trained(data, name)
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    # The test would notice: labels change what is learnt from them, the labelled masks do anyway.
    if name == "labels":
        data.pack.index = data.pack.index.assign(labels=lie)
    else:
        data.pack.masks[data.rows["train"]] = 0
    found = trained(data, name)
    assert not all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.slow
def test_compiled_it_learns_the_same(strips: Path, tmp_path: Path) -> None:
    data = module(strips, tmp_path, "mean_teacher")
    plain = trained(data, "mean_teacher")
    compiled = trained(data, "mean_teacher", compile_for=(7, 3))
    assert all(torch.equal(plain[key], compiled[key]) for key in plain)


def test_the_images_of_the_rest_are_learnt_from(strips: Path, tmp_path: Path) -> None:
    data = module(strips, tmp_path, "mean_teacher")
    expected = trained(data, "mean_teacher")
    data.pack.images = data.pack.images.copy()
    data.pack.images[data.rest_rows] = 0
    found = trained(data, "mean_teacher")
    assert not all(torch.equal(found[key], expected[key]) for key in expected)
