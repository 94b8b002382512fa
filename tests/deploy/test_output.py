"""Test names, tables and images of the output."""

import csv
import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from tlunet.data.readers.pixels import read_image
from tlunet.data.rle import decode
from tlunet.deploy.boxes import MOST, boxes
from tlunet.deploy.listing import Images, list_paths
from tlunet.deploy.output import Output
from tlunet.deploy.overlay import GAP, LINE, overlay, picture
from tlunet.deploy.stream import Prediction, Unreadable
from tlunet.errors import DataError
from tlunet.machine.fonts import legend

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
    assert listing.problems == [Unreadable(images / "nowhere", "no such file or folder")]
    [problem] = list_paths([images, tmp_path / "empty"]).problems
    assert problem.reason == "no images in this folder; it is empty"
    with pytest.raises(DataError, match="no such file or folder"):
        list_paths([tmp_path / "nowhere"])


def test_a_name_that_is_not_utf8_is_passed_over(tmp_path: Path) -> None:
    names = tmp_path / "ok.png", tmp_path / "b\udcff.png"
    for path in names:
        path.touch()
    listing = list_paths(names)
    assert list(listing.images) == [names[0]]
    assert listing.problems == [Unreadable(names[1], "file name is not UTF-8; rename it")]


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


@pytest.mark.parametrize(("M", "mode"), [(8, "L"), (9, "I;16"), (17, "RGBA"), (32, "RGBA")])
def test_any_number_of_classes_has_a_mask(tmp_path: Path, M: int, mode: str) -> None:
    kind = next(kind for kind in (np.uint8, np.uint16, np.uint32) if 8 * kind().itemsize >= M)
    bits = np.random.default_rng(0).integers(0, 2**M, (6, 9), dtype=kind)
    path = Path("/x/a.jpg")
    with Output(tmp_path, images_of(path), [f"c{m}" for m in range(M)], overlay="tint") as output:
        output.add(found(path, bits, M))
    with Image.open(tmp_path / "masks" / "a.png") as file:
        assert file.mode == mode
        pixels = np.asarray(file)
    written = pixels.view("<u4")[..., 0] if mode == "RGBA" else pixels
    assert np.array_equal(written, bits)
    with (tmp_path / "predictions.csv").open() as file:
        areas = [int(row["area_pixels"]) for row in csv.DictReader(file)]
    assert areas == [int((bits >> kind(m) & kind(1)).sum()) for m in range(M)]


@pytest.mark.parametrize("name", ["", "masks", "predictions.csv"])
def test_a_folder_that_cannot_be_written_is_said_before_anything_is_predicted(
    tmp_path: Path, name: str
) -> None:
    if name == "predictions.csv":
        (tmp_path / "out" / name).mkdir(parents=True)
    elif name:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / name).touch()
    else:
        (tmp_path / "out").touch()
    with pytest.raises(DataError, match=rf"{name}: cannot be written \(\w+") as caught:
        Output(tmp_path / "out", Images(), ["x"], submission=True)
    assert "None" not in str(caught.value)
    assert not list(tmp_path.rglob(".predictions.csv*"))


def test_a_data_set_is_not_overwritten(
    run: Path, images: Path, tmp_path: Path, tlunet: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    truth = tmp_path / "masks" / "a.png"
    truth.write_bytes(b"ground truth")
    (tmp_path / "images" / "a.png").write_bytes((images / "a.png").read_bytes())
    assert tlunet("predict", run, tmp_path / "images", "--out", tmp_path) == 2
    assert f"--out {tmp_path}: contains a data set (images/ and masks/)" in capsys.readouterr().err
    assert truth.read_bytes() == b"ground truth"


def test_what_is_broken_off_leaves_no_table(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Output(tmp_path, Images(), ["x"], submission=True):
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["masks"]


def test_a_full_disk_leaves_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, write: object, flush: bool) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("tlunet.deploy.output.write_whole", full)
    path = Path("/x/a.jpg")
    with (
        pytest.raises(OSError, match="No space left"),
        Output(tmp_path, images_of(path), ["x"]) as output,
    ):
        output.add(found(path, np.zeros((2, 2), np.uint8), 1))
    assert not list(tmp_path.glob("*.csv*"))


def test_an_output_that_cannot_be_written_is_named_and_the_rest_is_there(
    run: Path, images: Path, tmp_path: Path, tlunet: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    strips, out = tmp_path / "strips", tmp_path / "found"
    strips.mkdir()
    for name in ("a.png", "d.png"):
        (strips / name).write_bytes((images / name).read_bytes())
    Image.new("L", (66_000, 40), 90).save(strips / "long.png")
    # A mask of 250 bytes has room for its name, but for no suffix of a temporary file.
    Image.new("L", (64, 32), 90).save(strips / f"{'x' * 246}.png")
    (out / "masks" / "a.png").mkdir(parents=True)
    assert tlunet("predict", run, strips, "--out", out, "--overlay", "tint") == 1
    said, err = capsys.readouterr()
    assert f"{out}/masks/a.png: cannot be written (Is a directory)\n" in err
    assert f"{out}/overlays/long.jpg: cannot be written (a JPEG has at most 65500 pixels" in err
    assert "None" not in err
    assert err.count("\n") == 3  # the third says that long.png is squeezed
    assert said.startswith("4 images, ")
    assert said.endswith(f" with defects, 2 files not written → {out}/\n")
    with (out / "predictions.csv").open() as file:
        names = [row["image"] for row in csv.DictReader(file)]
    assert names[::4] == ["a.png", "d.png", "long.png", f"{'x' * 246}.png"]
    assert {path.stem[:4] for path in (out / "masks").glob("*.png") if path.is_file()} == {
        "d", "long", "xxxx",
    }  # fmt: skip
    assert {path.stem[:4] for path in (out / "overlays").glob("*.jpg")} == {"a", "d", "xxxx"}


def test_its_own_output_is_not_predicted(
    run: Path, images: Path, tmp_path: Path, tlunet: Line, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name in ("a.png", "d.png"):
        (tmp_path / name).write_bytes((images / name).read_bytes())
    monkeypatch.chdir(tmp_path)

    def predicted(out: str, *paths: str) -> tuple[list[str], str]:
        assert tlunet("predict", run, *paths, "--out", out, "--overlay", "tint") == 0
        with (tmp_path / out / "predictions.csv").open() as file:
            names = sorted({row["image"] for row in csv.DictReader(file)})
        return names, capsys.readouterr().err

    assert predicted("found", ".") == (["a.png", "d.png"], "")
    left_out = "found: output of tlunet predict, left out (4 images)\n"
    assert predicted("found", ".") == (["a.png", "d.png"], left_out)
    assert predicted("./found/", str(tmp_path)) == (["a.png", "d.png"], left_out)
    # Neither is that of an earlier call with another --out, or what a shell's * spells out.
    assert predicted("again", ".")[0] == ["a.png", "d.png"]
    assert predicted("again", "a.png", "found/masks/a.png", "found/overlays/d.jpg")[0] == ["a.png"]
    assert tlunet("predict", run, "found", "--out", "found") == 2
    assert "found: output of tlunet predict, left out (4 images)" in capsys.readouterr().err


def test_pictures_that_are_not_read_are_named(tmp_path: Path) -> None:
    picture = Image.new("L", (40, 40), 90)
    for suffix in (".png", ".webp", ".gif", ".pgm", ".JPG", ".bmp", ".tif", ".jfif"):
        picture.save(tmp_path / f"a{suffix}", "JPEG" if suffix == ".jfif" else None)
    for name in ("b.jp2", "c.JP2", "d.heic", "notes.txt", ".hidden.jp2"):
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to(tmp_path.parent)
    listing = list_paths([tmp_path])
    assert len(listing.images) == 8
    for path in listing.images:
        assert read_image(path).shape == (40, 40)
    others, links = listing.notes
    assert others.startswith("ignored pictures of other formats: 1 .heic, 2 .jp2; images are read")
    assert links == "links to folders are not followed (1); name the folders"
    for path in tmp_path.glob("a.*"):
        path.unlink()
    with pytest.raises(DataError, match=r"folder; it contains .*b\.jp2, ") as caught:
        list_paths([tmp_path])
    assert "1 .heic, 2 .jp2" in str(caught.value)


def test_pictures_of_no_such_style(
    run: Path, images: Path, tmp_path: Path, tlunet: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "predict", run, images, "--out", tmp_path / "out", "--overlay", "glow"
    assert tlunet(*line) == 2
    assert capsys.readouterr().err == "--overlay glow: expected tint or outline\n"


def test_a_list_of_paths_is_not_an_image(tmp_path: Path) -> None:
    (tmp_path / "strips.txt").write_text("a.png\n")
    with pytest.raises(DataError) as caught:
        list_paths([tmp_path / "strips.txt"])
    [line] = caught.value.lines
    assert line.endswith(": not an image; pass a list of paths as standard input: - < strips.txt")


def test_a_link_to_a_folder_without_permission_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    Image.new("L", (40, 40)).save(tmp_path / "a.png")
    (tmp_path / "link").symlink_to(tmp_path.parent)
    is_dir = Path.is_dir
    monkeypatch.setattr(Path, "is_dir", lambda p: refuse(p) if p.name == "link" else is_dir(p))
    assert len(list_paths([tmp_path]).images) == 1
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match="no images in this folder; it contains link"):
        list_paths([tmp_path])


def test_a_run_folder_is_not_written_to(
    run: Path, images: Path, tlunet: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(run.iterdir())
    assert tlunet("predict", run, images / "a.png", "--out", run) == 2
    assert f"--out {run}: is a run folder; choose another, such as" in capsys.readouterr().err
    assert sorted(run.iterdir()) == before


@pytest.mark.parametrize("size", [(40, 2000), (2000, 40)])
def test_a_long_image_is_not_enlarged(size: tuple[int, int]) -> None:
    assert overlay(np.zeros(size, np.uint8), np.zeros((1, *size), bool)).shape == (*size, 3)


@pytest.mark.parametrize("name", ["rust", "خدش"])
def test_the_numbers_follow_a_name_in_any_script(name: str) -> None:
    image, masks = np.zeros((32, 500), np.uint8), np.zeros((1, 32, 500), bool)
    black = [
        np.asarray(picture(image, masks, [name], np.array([number])).convert("L"))[32:] < 128
        for number in (0.4, 0.7)
    ]
    changed = np.flatnonzero((black[0] ^ black[1]).any(0))[0]
    font, _ = legend((name,), 12)
    begin = GAP + LINE - 2 + font.getlength(name)
    assert begin < changed < begin + font.getlength(": 40")
