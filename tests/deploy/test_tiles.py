"""Tiles: what they cover, that they leave no seams, and where they change nothing."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from deploy.networks import SIZE, THRESHOLD
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from tlunet.data.readers.pixels import read_image
from tlunet.deploy.predict import Prediction, Predictor
from tlunet.deploy.rules import Rules
from tlunet.deploy.tiles import Blend, cut, starts
from tlunet.errors import ConfigError
from tlunet.model.network import Logits

Line = Callable[..., int]


class Grey(nn.Module):
    """A pixel's probability is its grey level; the label's is that of the brightest pixel."""

    def forward(self, image: torch.Tensor) -> Logits:
        levels = (image[:, :1].float() / 255).clamp(0.001, 0.999).logit()
        return Logits(levels, levels.amax((2, 3)))


class Vignette(nn.Module):
    """Sees nothing at the edges of its input, as a network with padding nearly does."""

    def forward(self, image: torch.Tensor) -> Logits:
        height, width = image.shape[2:]
        rows, columns = (torch.linspace(-1, 1, n).abs() for n in (height, width))
        masks = 2 - 4 * torch.maximum(rows[:, None], columns).expand(len(image), 1, -1, -1) ** 8
        return Logits(masks, masks.mean((2, 3)))


@pytest.mark.parametrize("length", [40, 41, 100, 333])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.9])
def test_tiles_cover_a_side_and_overlap(length: int, overlap: float) -> None:
    found = starts(length, 40, overlap)
    assert (found[0], found[-1]) == (0, length - 40)
    assert all(0 < b - a <= 40 * (1 - overlap) + 1 for a, b in pairwise(found))


@pytest.mark.parametrize("size", [(100, 70), (70, 150), (40, 200), (200, 30), (33, 90, 3)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6])
def test_a_blend_of_the_image_itself_is_the_image(size: tuple[int, ...], overlap: float) -> None:
    """A probability that does not depend on the tile is blended to itself, at every pixel."""
    image = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    blend = Blend(size[:2], (40, 50), (0.5, 0.25))
    for tile in cut(image, (40, 50), overlap):
        assert tile.pixels.shape[:2] == (40, 50)
        level = tile.pixels.reshape(40, 50, -1)[..., 0].astype(np.float32) / 255
        blend.add(tile, np.stack([level, level]))
    level = image.reshape(*size[:2], -1)[..., 0] / 255
    expected = (level > 0.5) + 2 * (level > 0.25)
    assert np.array_equal(blend.finish(), expected)


def predicted(network: nn.Module, path: Path, **options: object) -> Prediction:
    one = Predictor(network, [""], size=(40, 50), **options)  # type: ignore[arg-type]
    [found] = one.predict([path])
    assert isinstance(found, Prediction)
    return found


def saved(path: Path, image: NDArray[np.uint8]) -> Path:
    Image.fromarray(image).save(path)
    return path


@pytest.mark.parametrize("batch_size", [1, 3])
def test_tiles_see_what_resizing_would_lose(tmp_path: Path, batch_size: int) -> None:
    image = np.zeros((200, 330), np.uint8)
    image[150:152, 301:303] = 255  # gone at 40×50
    path = saved(tmp_path / "a.png", image)
    found = predicted(Grey(), path, overlap=0.25, batch_size=batch_size)
    assert np.array_equal(found.masks[0], image > 0)
    assert found.probabilities[0] == pytest.approx(0.999)  # in one of its tiles
    assert found.labels[0]
    assert not predicted(Grey(), path).masks.any()


def test_no_seams(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", np.zeros((150, 260), np.uint8))
    with_overlap = predicted(Vignette(), path, overlap=0.5).masks[0]
    assert with_overlap[8:-8, 8:-8].all()
    apart = predicted(Vignette(), path, overlap=0.0).masks[0]
    assert not apart[8:-8, 8:-8].all()  # what the blend is for


def test_dropped_masks_are_dropped_in_the_whole_image(tmp_path: Path) -> None:
    image = np.zeros((100, 120), np.uint8)
    image[10:13, 10:13] = image[80:83, 100:103] = 255  # 18 pixels
    path = saved(tmp_path / "a.png", image)
    for least, kept in ((18, 18), (19, 0)):
        rules = Rules((0.5,), (least,), (0.0,), (0.5,))
        assert predicted(Grey(), path, overlap=0.25, rules=rules).areas.tolist() == [kept]


def test_enlarged_masks_have_no_steps(tmp_path: Path) -> None:
    """A slanted edge stays one when probabilities are enlarged eight times, not a stair."""
    rows, columns = np.mgrid[:400, :500]
    image = np.clip(128 + 2 * (rows + columns / 2 - 300), 0, 255).astype(np.uint8)
    found = predicted(Grey(), saved(tmp_path / "a.png", image)).masks[0]
    edge = found.argmax(0)[100:400]
    assert found.any()
    slope = 300 - np.arange(100, 400) / 2
    assert np.abs(edge - slope).max() <= 2  # blocks of 10 pixels would be off by 5


def test_an_image_of_the_training_size_is_predicted_as_without_tiles(
    run: Path, images: Path
) -> None:
    paths = [images / name for name in ("a.png", "b.jpg", "d.png")]
    plain, tiled = (
        list(Predictor.load(run, overlap=overlap).predict(paths)) for overlap in (None, 0.25)
    )
    for one, other in zip(plain, tiled, strict=True):
        assert isinstance(one, Prediction)
        assert isinstance(other, Prediction)
        assert np.array_equal(one.bits, other.bits)
        assert np.array_equal(one.probabilities, other.probabilities)


def test_a_real_strip(real: Path, run: Path) -> None:
    """A whole strip is predicted as without tiles; where one tile is alone, as that tile."""
    path = next((real / "severstal_sample" / "train_images").glob("*.jpg"))
    image = read_image(path)
    whole, tiled = (
        next(Predictor.load(run, size=size, overlap=0.25).predict([path]))
        for size in (image.shape, SIZE)
    )
    plain = next(Predictor.load(run, size=image.shape).predict([path]))
    assert isinstance(whole, Prediction)
    assert isinstance(plain, Prediction)
    assert isinstance(tiled, Prediction)
    assert np.array_equal(whole.bits, plain.bits)
    assert np.array_equal(whole.probabilities, plain.probabilities)
    tops, lefts = starts(256, SIZE[0], 0.25), starts(1600, SIZE[1], 0.25)
    tile = image[: SIZE[0], : SIZE[1]]
    masks, labels = Predictor.load(run).probabilities(torch.tensor(tile)[None, None])
    alone = slice(0, tops[1]), slice(0, lefts[1])  # the next tiles start there
    expected = (masks[0] > THRESHOLD).numpy()[:, *alone]
    assert (tiled.masks[:, *alone] == expected).mean() > 0.999  # may be at the threshold
    assert (tiled.probabilities >= labels[0].numpy() - 1e-4).all()


def test_memory_does_not_grow_with_the_longer_side() -> None:
    blend = Blend((100_000, 64), (32, 64), (0.5,) * 4)
    held = sum(x.nbytes for x in vars(blend).values() if isinstance(x, np.ndarray))
    assert held < 100_000 * 64 + 2**17  # the result, one byte per pixel, and one row of tiles


def test_the_command(
    run: Path, tmp_path: Path, tlunet: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    path = saved(tmp_path / "a.png", rng.integers(0, 256, (64, 96), dtype=np.uint8))
    assert tlunet("predict", run, path, "--out", tmp_path / "plain") == 0
    assert "64×96 (height × width) is resized to 32×64" in capsys.readouterr().err
    assert tlunet("predict", run, path, "--out", tmp_path / "tiles", "--tile") == 0
    out, err = capsys.readouterr()
    assert (out, err) == (
        f"1 image, 1 with defects → {tmp_path}/tiles/\n"
        "1 image was cut into tiles: the probability of each class is the maximum over the tiles\n",
        "",
    )
    one, other = (tmp_path / name / "masks" / "a.png" for name in ("plain", "tiles"))
    with Image.open(one) as plain, Image.open(other) as tiled:
        assert plain.size == tiled.size == (96, 64)
        assert plain.tobytes() != tiled.tobytes()
    alone = tmp_path / "alone.ckpt"
    alone.write_bytes((run / "best.ckpt").read_bytes())
    assert tlunet("predict", alone, path, "--out", tmp_path / "x", "--tile") == 2
    assert "--tile: the training size is unknown" in capsys.readouterr().err


def test_tiles_of_an_unknown_size_are_a_mistake() -> None:
    with pytest.raises(ConfigError, match="--tile: the training size is unknown"):
        Predictor(Grey(), [""], overlap=0.5)
