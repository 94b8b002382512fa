"""Test names, tables and images of the output."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from tlunet.data.rle import decode
from tlunet.deploy.boxes import MOST, boxes
from tlunet.deploy.listing import Images, list_paths
from tlunet.deploy.output import Output
from tlunet.deploy.overlay import overlay, picture
from tlunet.deploy.stream import Prediction, Unreadable
from tlunet.errors import ConfigError, DataError

Line = Callable[..., int]


def images_of(*paths: Path) -> Images:
    images = Images()
    for path in paths:
        images.add(path, path.parent)
    images.close()
    return images


def test_images_are_named_below_what_holds_them_all(images: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    inside = list_paths([images]).images
    assert [inside.name(path) for path in inside] == [
        "a.png", "b.jpg", "broken.jpg", "c.png", "d.png", "e.png", "sub/a.png", "sub/z.png",
    ]  # fmt: skip
    wanted = [images / "sub" / "a.png", images / "a.png", images / "sub" / ".." / "a.png"]
    listing = list_paths([*wanted, images / "nowhere"])
    names = {path: listing.images.name(path) for path in listing.images}
    assert names == {wanted[0]: "sub/a.png", wanted[1]: "a.png"}
    assert len(listing.images) == 2
    assert listing.faults == [Unreadable(images / "nowhere", "no such file or folder")]
    [fault] = list_paths([images, tmp_path / "empty"]).faults
    assert fault.reason == "no images in this folder"
    with pytest.raises(DataError, match="no such file or folder"):
        list_paths([tmp_path / "nowhere"])


def test_a_name_that_is_not_utf8_is_passed_over(tmp_path: Path) -> None:
    names = tmp_path / "ok.png", tmp_path / "b\udcff.png"
    for path in names:
        path.touch()
    listing = list_paths(names)
    assert list(listing.images) == [names[0]]
    assert listing.faults == [Unreadable(names[1], "file name is not UTF-8; rename it")]


def test_masks_of_one_stem_have_files_of_their_own() -> None:
    apart = Path("/x/a.jpg"), Path("/x/b/a.jpg"), Path("/x/c")
    images = images_of(*apart)
    assert [images.mask(path) for path in apart] == ["a", "b/a", "c"]
    shared = Path("/x/a.jpg"), Path("/x/a.tif"), Path("/x/b")
    images = images_of(*shared)
    assert [images.mask(path) for path in shared] == ["a.jpg", "a.tif", "b"]


def test_a_long_list_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of paths are read lazily and returned lazily."""
    monkeypatch.setattr(Path, "is_file", lambda self: True)
    monkeypatch.setattr(Path, "is_dir", lambda self: False)
    listing = list_paths(tmp_path / f"{k}.png" for k in range(5_000))
    assert len(listing.images) == 5_000
    walk = iter(listing.images)
    assert [next(walk).name, next(walk).name] == ["0.png", "1.png"]


def found(path: Path, bits: np.ndarray, M: int = 2) -> Prediction:
    image = np.full(bits.shape, 100, np.uint8)
    return Prediction(path, np.full(M, 0.25, np.float32), np.arange(M) == 1, bits, image)


def test_boxes_are_scipys_regions() -> None:
    rng = np.random.default_rng(0)
    mask = ndimage.binary_opening(rng.random((60, 80)) > 0.4)
    ours = boxes(mask)
    assert 3 < len(ours) < MOST
    covered = np.zeros_like(mask)
    for x0, y0, x1, y1 in ours:
        covered[y0:y1, x0:x1] = True
        assert mask[y0:y1, x0:x1].any(0).all() or mask[y0:y1, x0:x1].any(1).all()
    assert covered[mask].all()
    assert boxes(np.zeros((4, 4), bool)) == []
    speckles = np.zeros((50, 50), bool)
    speckles[::2, ::2] = True
    speckles[0:2, 0:9] = True
    assert len(boxes(speckles)) == MOST
    assert boxes(speckles)[0] == (0, 0, 9, 3)  # the largest first


def test_an_overlay_shows_each_class_in_its_colour() -> None:
    image = np.full((20, 30), 100, np.uint8)
    masks = np.zeros((2, 20, 30), bool)
    masks[0, 2:10, 2:12] = True
    times = 500 // 30 + 1  # small images are enlarged
    tint = overlay(image, masks)
    assert tint.shape == (20 * times, 30 * times, 3)
    assert tint[0, 0].tolist() == [100, 100, 100]
    assert tint[5 * times, 5 * times].tolist() == [159, 127, 55]  # grey 100, 115/255 of #E69F00
    outline = overlay(image, masks, "outline")
    assert outline[5 * times, 5 * times].tolist() == [100, 100, 100]
    for style in (tint, outline):
        assert style[2 * times, 2 * times].tolist() == [230, 159, 0]  # the edge
        assert style[2 * times - 1, 2 * times].tolist() == [33, 33, 33]  # the rim
    names = ["a" * 60, "\u2028<b>"]
    drawn = picture(image, masks, names, np.array([0.5, 0.5]))
    assert drawn.width > 30 * times
    assert drawn.height > 20 * times + 2 * 18
    assert drawn.getpixel((5 * times, 5 * times)) == (159, 127, 55)


def test_pictures_and_a_submission(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    bits = {Path(f"/x/{name}"): rng.integers(0, 4, (6, 9), np.uint8) for name in ("a.jpg", "b.png")}
    bits[Path("/x/c.bmp")] = np.zeros((6, 9), np.uint8)
    options = {"overlay": "tint", "submission": True}
    with Output(tmp_path, images_of(*bits), ["p", "q"], **options) as output:
        for path, field in bits.items():
            output.add(found(path, field))
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.*")) == [
        "masks/a.png", "masks/b.png", "masks/c.png",
        "overlays/a.jpg", "overlays/b.jpg", "overlays/c.jpg",
        "predictions.csv", "submission.csv",
    ]  # fmt: skip
    with (tmp_path / "submission.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["ImageId_ClassId", "EncodedPixels"]
    assert [row[0] for row in rows[1:]] == [
        "a.jpg_1", "a.jpg_2", "b.png_1", "b.png_2", "c.bmp_1", "c.bmp_2",
    ]  # fmt: skip
    for row, (path, m) in zip(rows[1:], [(p, m) for p in bits for m in (0, 1)], strict=True):
        assert np.array_equal(decode(row[1], (6, 9)), bits[path] >> m & 1 == 1)
    with (tmp_path / "predictions.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["label"] for row in table[:2]] == ["0", "1"]
    corners = [list(map(int, box.split())) for box in table[0]["boxes"].split("; ")]
    assert all(0 <= x0 < x1 <= 9 and 0 <= y0 < y1 <= 6 for x0, y0, x1, y1 in corners)
    assert table[4]["boxes"] == ""
    with Image.open(tmp_path / "masks" / "a.png") as file:
        assert np.array_equal(np.asarray(file), bits[Path("/x/a.jpg")])


def test_more_classes_than_a_png_has_bits(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="17 classes"):
        Output(tmp_path, Images(), ["x"] * 17)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        Output(tmp_path / "file", Images(), ["x"])


def test_what_is_broken_off_leaves_no_table(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Output(tmp_path, Images(), ["x"], submission=True):
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["masks"]


def test_a_mask_that_cannot_be_written_leaves_no_table(tmp_path: Path) -> None:
    path = Path("/x/a.jpg")
    (tmp_path / "masks" / "a.png").mkdir(parents=True)
    with (
        pytest.raises(IsADirectoryError),
        Output(tmp_path, images_of(path), ["x"]) as output,
    ):
        output.add(found(path, np.zeros((2, 2), np.uint8), 1))
    assert not list(tmp_path.glob("*.csv*"))


def test_a_folder_where_a_mask_should_go_is_a_line(
    run: Path, images: Path, tmp_path: Path, tlunet: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "masks" / "a.png").mkdir(parents=True)
    assert tlunet("predict", run, images / "a.png", "--out", tmp_path) == 2
    assert capsys.readouterr().err == (
        f"{tmp_path}/masks/a.png: Is a directory; no table was written\n"
    )


def test_pictures_of_no_such_style(
    run: Path, images: Path, tmp_path: Path, tlunet: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "predict", run, images, "--out", tmp_path / "out", "--overlay", "glow"
    assert tlunet(*line) == 2
    assert capsys.readouterr().err == "--overlay glow: expected tint and outline\n"
