"""Compare predictions of an untrained network with a plain implementation."""

import csv
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from deploy.networks import CLASSES, SIZE
from PIL import Image
from torch import nn

from tlunet.deploy.predict import Prediction, Predictor, Unreadable
from tlunet.errors import DataError
from tlunet.model.network import Logits, TLUNet

Line = Callable[..., int]


@pytest.fixture(scope="module")
def predictor(run: Path) -> Predictor:
    return Predictor.load(run)


def plainly(network: TLUNet, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Compute label probabilities and masks of one image without batching."""
    with Image.open(path) as file:
        resized = file.resize(SIZE[::-1], Image.Resampling.BILINEAR)
        own = file.height, file.width
    image = torch.tensor(np.asarray(resized)).reshape(*SIZE, -1).permute(2, 0, 1)[None]
    with torch.no_grad():
        logits = network(image)
    masks = logits.masks.sigmoid()[0].numpy()
    enlarged = [Image.fromarray(m).resize(own[::-1], Image.Resampling.BILINEAR) for m in masks]
    return logits.labels.sigmoid()[0].numpy(), np.stack(enlarged) > 0.45


@pytest.mark.parametrize("batch_size", [1, 3])
def test_batches_give_what_the_network_gives_one_by_one(
    predictor: Predictor, network: TLUNet, images: Path, batch_size: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    paths = sorted(images.rglob("*.*"))
    monkeypatch.setattr(predictor, "batch_size", batch_size)
    found = list(predictor.predict(paths))
    assert [one.path for one in found] == paths
    for one in found:
        if one.path.name == "broken.jpg":
            assert isinstance(one, Unreadable)
            assert "cannot be read as an image" in one.reason
            continue
        assert isinstance(one, Prediction)
        probabilities, masks = plainly(network, one.path)
        np.testing.assert_allclose(one.probabilities, probabilities, atol=1e-4)
        assert one.masks.shape == masks.shape
        assert 0.02 < masks.mean() < 0.98
        assert (one.masks == masks).mean() > 0.999  # a probability may be at the threshold
        assert one.areas.tolist() == one.masks.sum((1, 2)).tolist()


def test_order_is_kept_and_no_image_waits_for_long(
    predictor: Predictor, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shape that occurs once is processed before the stream ends."""
    taken = 0

    def stream() -> object:
        nonlocal taken
        yield images / "e.png"
        for _ in range(30):
            taken += 1
            yield images / "a.png"

    monkeypatch.setattr(predictor, "batch_size", 2)
    found = predictor.predict(stream())
    assert next(found).path == images / "e.png"
    assert taken < 20
    assert [one.path.name for one in found] == ["a.png"] * 30
    assert taken == 30


def test_a_stream_that_is_left_ends_its_threads(predictor: Predictor, images: Path) -> None:
    found = predictor.predict([images / "a.png"] * 50)
    next(found)
    assert [t for t in threading.enumerate() if t.name.startswith("decode")]
    found.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


def test_the_fast_path_is_the_network(
    predictor: Predictor, network: TLUNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for channels in (1, 3):
        batch = torch.randint(0, 256, (2, channels, *SIZE), dtype=torch.uint8)
        masks, labels = predictor.probabilities(batch)
        with torch.no_grad():
            expected = network(batch)
        torch.testing.assert_close(masks, expected.masks.sigmoid(), atol=1e-4, rtol=0)
        torch.testing.assert_close(labels, expected.labels.sigmoid(), atol=1e-4, rtol=0)
        assert not masks.requires_grad
    monkeypatch.setattr(predictor, "precision", "bf16-mixed")
    lower = predictor.probabilities(batch)[0]
    assert lower.dtype == torch.float32
    assert 0 < (lower - expected.masks.sigmoid()).abs().max() < 0.1


def test_without_a_training_size_each_image_keeps_its_own(
    run: Path, images: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone.ckpt"
    alone.write_bytes((run / "best.ckpt").read_bytes())
    Image.new("L", (64, 20)).save(tmp_path / "low.png")
    predictor = Predictor.load(alone)
    assert (predictor.size, predictor.threshold, predictor.classes) == (None, 0.45, CLASSES)
    found, low = predictor.predict([images / "c.png", tmp_path / "low.png"])
    with Image.open(images / "c.png") as file:
        masks, _ = predictor.probabilities(torch.tensor(np.asarray(file))[None, None])
    assert np.array_equal(found.masks, (masks > 0.45)[0].numpy())
    assert low.reason == "image is 20×64; the network needs at least 32×32"


@pytest.mark.parametrize(("classes", "itemsize"), [(1, 1), (8, 1), (9, 2), (17, 4), (32, 4)])
def test_any_number_of_classes_fits_its_bits(classes: int, itemsize: int, images: Path) -> None:
    class Levels(nn.Module):
        """Class m covers pixels with a grey level above 7·m."""

        def forward(self, image: torch.Tensor) -> Logits:
            masks = image.float() - 7 * torch.arange(classes).view(-1, 1, 1)
            return Logits(masks, masks.mean((2, 3)))

    [one] = Predictor(Levels(), [""] * classes).predict([images / "a.png"])
    with Image.open(images / "a.png") as file:
        levels = np.asarray(file).astype(int)
    assert np.array_equal(one.masks, np.stack([levels > 7 * m for m in range(classes)]))
    assert one.bits.dtype.itemsize == itemsize


def test_a_run_that_says_no_size_is_a_mistake(run: Path, tmp_path: Path) -> None:
    (tmp_path / "best.ckpt").write_bytes((run / "best.ckpt").read_bytes())
    with pytest.raises(DataError, match=r"meta\.json: missing; expected the folder"):
        Predictor.load(tmp_path)
    with pytest.raises(DataError, match="no such checkpoint"):
        Predictor.load(tmp_path / "nowhere")
    with pytest.raises(DataError, match=f"finished run, such as {run}$"):  # a study
        Predictor.load(run.parent)


def test_the_verb_writes_a_table_and_masks(
    run: Path, network: TLUNet, images: Path, tmp_path: Path, tlunet: Line,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    options = ("--device", "cpu", "--precision", "32-true", "--batch-size", "2")
    code = tlunet("predict", run, images, "--out", tmp_path / "out", *options)
    out, err = capsys.readouterr()
    assert code == 1
    squeezed, broken = sorted(err.splitlines(), key=len, reverse=True)
    assert broken.startswith(f"{images / 'broken.jpg'}: cannot be read as an image")
    assert squeezed.startswith(f"{images / 'e.png'}: 40×40 (height × width) is resized to 32×64")
    assert out == f"7 images, 7 with defects, 1 unreadable → {tmp_path / 'out'}/\n"
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = ["a.png", "b.jpg", "c.png", "d.png", "e.png", "sub/a.png", "sub/z.png"]
    assert [row["image"] for row in rows[::4]] == names
    assert [row["class_name"] for row in rows[:4]] == list(CLASSES)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["masks", "predictions.csv"]
    for k, name in enumerate(names):
        probabilities, masks = plainly(network, images / name)
        with Image.open(tmp_path / "out/masks" / Path(name).with_suffix(".png")) as file:
            assert file.mode == "L"
            bits = np.asarray(file)
        written = np.stack([bits & 1 << m > 0 for m in range(4)])
        assert (written == masks).mean() > 0.999
        for m, row in enumerate(rows[4 * k : 4 * k + 4]):
            assert int(row["class_id"]) == m + 1
            assert float(row["probability"]) == pytest.approx(probabilities[m], abs=1e-4)
            assert int(row["area_pixels"]) == written[m].sum()
            assert float(row["area_share"]) == pytest.approx(written[m].mean(), rel=1e-4)


def test_a_list_on_standard_input(
    run: Path, images: Path, tmp_path: Path, tlunet: Line,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    wanted = [bytes(images / "d.png"), b"", bytes(images / "sub")]
    for end in (b"\n", b"\r\n", b"\0"):  # the last: find -print0
        code = tlunet("predict", run, "-", "--out", tmp_path, stdin=end.join([*wanted, b""]))
        assert (code, capsys.readouterr().err) == (0, "")
        table = (tmp_path / "predictions.csv").read_text().splitlines()
        assert [row.split(",")[0] for row in table[1::4]] == ["d.png", "sub/a.png", "sub/z.png"]


def test_a_list_from_windows(
    run: Path, images: Path, tmp_path: Path, tlunet: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = f"{images / 'd.png'}\r\n"
    line = "predict", run, "-", "--out", tmp_path / "out"
    assert tlunet(*line, stdin=listed.encode("utf-8-sig")) == 0
    capsys.readouterr()
    assert tlunet(*line, stdin=listed.encode("utf-16")) == 2
    said = "standard input: UTF-16; expected UTF-8, one path per line\n"
    assert capsys.readouterr().err == said


def test_a_listed_name_that_is_not_utf8_is_passed_over(
    run: Path, images: Path, tmp_path: Path, tlunet: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    strange = bytes(tmp_path) + b"/Bl\xe4ch.png"
    os.link(images / "d.png", strange)
    listed = bytes(images / "d.png") + b"\n" + strange + b"\n"
    assert tlunet("predict", run, "-", "--out", tmp_path / "out", stdin=listed) == 1
    out, err = capsys.readouterr()
    assert err == f"{tmp_path}/Bl\\udce4ch.png: file name is not UTF-8; rename it\n"
    assert out.startswith("1 image, 1 with defects, 1 unreadable → ")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere", "IMAGES"], "nowhere: no such checkpoint"),
        (["RUN", "nowhere.png"], "nowhere.png: no such file or folder"),
        (["RUN", "-"], "no images given; expected files"),
        (["model.pt2", "IMAGES"], "model.pt2: a torch.export program; use the run folder"),
        (["RUN", "IMAGES", "--device", "gpu"], "--device gpu .*expected auto, cuda"),
        (["RUN", "IMAGES", "--device", "mps"], "--device mps: not available here; use auto or cpu"),
    ],
)
def test_a_mistake_is_a_line_and_exit_code_2(
    args: list[str], message: str, run: Path, images: Path, tmp_path: Path, tlunet: Line,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    here = [{"RUN": run, "IMAGES": images}.get(arg, arg) for arg in args]
    assert tlunet("predict", *here, "--out", tmp_path / "out") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert re.search(message, err)
    assert not (tmp_path / "out").exists()
