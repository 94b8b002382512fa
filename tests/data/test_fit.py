"""Images of many sizes: one problem with the key to type, and padding that counts nowhere."""

from collections.abc import Callable
from pathlib import Path

import albumentations as A
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tlunet.data.augment import Augment
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import OnDisk
from tlunet.data.pack.pack import open_pack
from tlunet.data.readers import folder
from tlunet.deploy.demo.samples import samples
from tlunet.deploy.predict import Prediction, Predictor
from tlunet.deploy.stream import Answer, squeeze
from tlunet.deploy.tuning.counts import count
from tlunet.errors import ConfigError, DataError
from tlunet.model.losses import (
    BalancedLoss,
    BCEDiceLoss,
    FocalLoss,
    LogDiceLoss,
    LovaszLoss,
    PaperLoss,
)
from tlunet.model.network import Logits, TLUNet
from tlunet.model.task import DefectTask

FRAME = (32, 64)
SIZES = [(20 + k, 60) for k in range(8)] + [(60, 20 + k) for k in range(8)] + [(16, 32)] * 8
ONLY = ("dent", "scratch")


def write(root: Path, sizes: list[tuple[int, int]] = SIZES) -> Path:
    """Bright noise without any black; the left half is a dent, scratches are in every fourth."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for k, size in enumerate(sizes):
        ids = np.zeros(size, np.uint8)
        ids[:, : size[1] // 2] = 1
        ids[: size[0] // 4] = 2 * (k % 4 == 0)
        Image.fromarray(rng.integers(100, 255, size, np.uint8)).save(root / f"images/{k:02}.png")
        Image.fromarray(ids).save(root / f"masks/{k:02}.png")
    return root


def module(root: Path, **options: object) -> DefectDataModule:
    chosen = {"size": FRAME, "fit": "pad", "batch_size": 4} | options
    data = DefectDataModule(OnDisk("folder", root, ONLY), root.parent, **chosen)  # type: ignore[arg-type]
    data.prepare_data()
    data.setup()
    return data


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("sizes") / "data")


@pytest.fixture(scope="module")
def padded(root: Path) -> DefectDataModule:
    return module(root)


class Bright(nn.Module):
    """Finds every class where there is an image, or everywhere."""

    def __init__(self, everywhere: bool = False) -> None:
        super().__init__()
        self.everywhere = everywhere

    def forward(self, image: Tensor) -> Logits:
        is_image = (image[:, :1] > 50) | self.everywhere
        masks = torch.where(is_image, 5.0, -5.0).expand(-1, len(ONLY), -1, -1)
        return Logits(masks, torch.zeros(len(image), len(ONLY)))


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_many_sizes_are_one_problem(root: Path, tmp_path: Path, on_error: str) -> None:
    with pytest.raises(DataError) as caught:
        open_pack(folder.read(root, classes=ONLY), tmp_path, on_error=on_error)
    assert caught.value.lines == (
        f"{root}: 24 images have 17 sizes, height 16 to 60, width 20 to 60, but training needs "
        "one: data.size=[32,32] resizes all (tlunet data check: --size 32x32), data.fit=pad keeps "
        "their proportions",
    )


@pytest.mark.parametrize(
    ("sizes", "key"),
    [
        ([(1240 + k, 500) for k in range(31)], "[1280,512]"),
        ([(2448, 2050)] * 3 + [(1024, 2448)] * 4, "[1024,2464]"),
        ([(9, 9), (8, 9), (9, 8)], "[32,32]"),
    ],
)
def test_the_key_is_near_the_median(sizes: list[tuple[int, int]], key: str, tmp_path: Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for k, (height, width) in enumerate(sizes):
        for part in ("images", "masks"):
            Image.new("1", (width, height)).save(tmp_path / part / f"{k}.png")
    with pytest.raises(DataError) as caught:
        open_pack(folder.read(tmp_path, classes=["x"]), tmp_path / "packs")
    assert f"data.size={key}" in caught.value.lines[0]


def test_a_single_odd_image_is_named(tmp_path: Path) -> None:
    root = write(tmp_path / "data", [(16, 32)] * 11 + [(17, 32)])
    source = folder.read(root, classes=ONLY)
    with pytest.raises(DataError, match=r"11\.png: image of 17×32 .*, most are 16×32"):
        open_pack(source, tmp_path)
    assert len(open_pack(source, tmp_path, on_error="skip")) == 11


def test_a_pack_holds_each_image_at_its_proportions(
    root: Path, padded: DefectDataModule, tmp_path: Path
) -> None:
    pack = padded.pack
    assert pack.size == FRAME
    by_hand = [FRAME] * len(SIZES)
    for k, (height, width) in enumerate(SIZES):
        scale = min(32 / height, 64 / width)
        by_hand[k] = round(height * scale), round(width * scale)
    assert pack.content.tolist() == [list(size) for size in by_hand]
    for k, (height, width) in enumerate(by_hand):
        assert (np.asarray(pack.images[k][:height, :width]) > 50).all()
        assert not pack.images[k][height:].any()
        assert not pack.images[k][:, width:].any()
        assert not pack.masks[k][height:].any()
        assert not pack.masks[k][:, width:].any()
        assert abs(int((np.asarray(pack.masks[k]) == 1).any(0).sum()) - width / 2) <= 1
    inside = np.concatenate([pack.images[k][pack.region(k)].ravel() for k in range(len(pack))])
    mean, std = pack.mean_std(np.arange(len(pack)))
    assert (mean[0], std[0]) == pytest.approx((inside.mean(), inside.std()))
    stretched = open_pack(folder.read(root, classes=ONLY), tmp_path, size=FRAME)
    assert stretched.fingerprint != pack.fingerprint
    assert np.asarray(stretched.images).all()


def test_the_default_is_what_it_was(tmp_path: Path) -> None:
    """Fingerprints recorded before there was a choice."""
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for k in range(4):
        Image.fromarray(np.full((4, 6), 10 * k, np.uint8)).save(tmp_path / f"images/{k}.bmp")
        ids = np.zeros((4, 6), np.uint8)
        ids[k] = k % 3
        Image.fromarray(ids).save(tmp_path / f"masks/{k}.png")
    source = folder.read(tmp_path, classes=["a", "b"])
    found = [
        open_pack(source, tmp_path / "packs", size=size).fingerprint for size in (None, (8, 8))
    ]
    assert found == [
        "f013040ba63cc3c9e193a7036a050ed19fa891c3c52cf9473b9e24d5b784cd32",
        "ce742a508005741dc1f0e27a83be0068ed8cb12755d2e60d21a147cf8076719d",
    ]


@pytest.mark.parametrize(
    "transform", [None, A.Compose([A.Affine(translate_percent={"x": (0.2, 0.2)}, p=1.0)])]
)
def test_batches_say_which_pixels_are_padding(root: Path, transform: object) -> None:
    data = module(root, augment=Augment(transform=transform))
    flipped = set()
    for batch in data.batches("train"):
        assert batch["padding"].shape == (len(batch["id"]), 1, *FRAME)
        assert not (batch["mask"] & batch["padding"]).any()
        if transform is None:
            assert torch.equal(batch["image"] == 0, batch["padding"])
        else:  # black comes from the left, but no image moves into its padding
            assert (batch["image"][batch["padding"]] == 0).all()
            assert ((batch["image"] == 0) & ~batch["padding"]).any()
        flipped |= {(bool(p[0, 0, 0]), bool(p[0, -1, -1])) for p in batch["padding"]}
    assert {(True, False), (False, True)} <= flipped
    assert "padding" not in next(module(root, fit="stretch").batches("train"))


LOSSES = [PaperLoss(), BalancedLoss(), BCEDiceLoss(), LogDiceLoss(), FocalLoss(), LovaszLoss()]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_the_loss_is_that_of_the_images_without_padding(
    loss: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    logits, labels_logits = torch.randn(3, 2, 8, 8, requires_grad=True), torch.randn(3, 2)
    masks, labels = torch.rand(3, 2, 8, 8) < 0.3, torch.rand(3, 2) < 0.5
    masks[..., 5:] = False
    padding = torch.zeros(3, 1, 8, 8, dtype=torch.bool)
    padding[..., 5:] = True
    task = DefectTask(TLUNet("resnet18", classes=2), loss)
    monkeypatch.setattr(task, "_logits", lambda image: Logits(logits, labels_logits))
    batch = {"image": logits, "mask": masks, "label": labels, "id": [1, 2, 3], "padding": padding}
    found = task.training_step(batch, 0)
    crop = loss(logits[..., :5], labels_logits, masks[..., :5], labels)
    torch.testing.assert_close(found, crop)
    found.backward()
    assert logits.grad is not None
    assert not logits.grad[..., 5:].any()
    assert logits.grad[..., :5].any()


def test_padding_is_never_predicted(padded: DefectDataModule) -> None:
    task = DefectTask(TLUNet("resnet18", classes=2), threshold=0.5)
    task.network = Bright(everywhere=True)  # type: ignore[assignment]
    for batch in padded.batches("test"):
        bits = task.test_step(batch, 0)["bits"]
        assert torch.equal(bits[:, None] != 0, ~batch["padding"])
    counts = task.test_metrics.counts()
    inside = padded.pack.content[counts.index].prod(1)
    assert counts.predicted.tolist() == [[n, n] for n in inside]
    tuned = count(Predictor(Bright(True), ONLY), padded.batches("test"), (0.25, 0.75))
    assert (tuned.predicted[:, 0] == inside[:, None]).all()


@pytest.mark.parametrize("everywhere", [True, False])
def test_predictions_are_those_of_the_image_without_padding(
    root: Path, padded: DefectDataModule, everywhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(Bright(everywhere), ONLY, size=FRAME, fit="pad")
    seen: list[np.ndarray] = []
    start = predictor._start

    def look(images: np.ndarray, *rest: bool) -> Callable[[], Answer]:
        seen.extend(images[:, 0])
        return start(images, *rest)

    monkeypatch.setattr(predictor, "_start", look)
    paths = sorted((root / "images").iterdir())
    for k, found in enumerate(predictor.predict(paths)):
        assert isinstance(found, Prediction)
        assert found.bits.shape == SIZES[k]
        assert (found.bits == 0b11).all()
    assert np.array_equal(seen, padded.pack.images)  # as in training
    for name, image in samples(padded, 3).items():
        assert image.all(), name


class Ramp(nn.Module):
    """Finds every class in the right half of an image, the surer the further right."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, image: Tensor) -> Logits:
        columns = torch.arange(image.shape[-1]) + 0.5
        masks = (columns / self.width).logit(eps=1e-6).expand(*image.shape[-2:])
        masks = masks.expand(len(image), len(ONLY), -1, -1)
        return Logits(masks, torch.zeros(len(image), len(ONLY)))


@pytest.mark.parametrize("size", [(100, 50), (16, 8), (32, 16), (500, 250)])
def test_outlines_of_a_padded_image_have_no_steps(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("L", size[::-1], 200).save(tmp_path / "a.png")
    predictor = Predictor(Ramp(width=16), ONLY, size=FRAME, fit="pad", overlap=None)
    [found] = predictor.predict([tmp_path / "a.png"])
    assert isinstance(found, Prediction)
    right = np.arange(size[1]) >= size[1] / 2  # the image has 16 of the frame's 64 columns
    assert (found.bits != 0).tolist() == [right.tolist()] * size[0]
    assert squeeze(found, predictor) is None
    stretched = Predictor(Ramp(width=16), ONLY, size=FRAME)
    assert "changes its proportions" in str(squeeze(found, stretched))


def test_tiles_of_a_padded_run_are_whole(tmp_path: Path) -> None:
    """Larger images are cut at their own scale; smaller ones are padded as in training."""
    sizes = {"large.png": (40, 150), "small.png": (16, 8)}
    for name, (height, width) in sizes.items():
        Image.new("L", (width, height), 200).save(tmp_path / name)
    predictor = Predictor(Bright(), ONLY, size=FRAME, fit="pad", overlap=0.25)
    for found in predictor.predict([tmp_path / name for name in sizes]):
        assert isinstance(found, Prediction)
        assert found.bits.shape == sizes[found.path.name]
        assert (found.bits == 0b11).all()


def test_unknown_ways_are_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.fit=crop: expected stretch, pad"):
        module(root, fit="crop")
