import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tlunet.data.dataset import OnDisk
from tlunet.data.readers import folder, severstal
from tlunet.data.readers.layouts import recognise
from tlunet.data.readers.pixels import read_image, read_mask
from tlunet.data.source import Record
from tlunet.errors import ConfigError, DataError


def severstal_data(root: Path, csv: str, images: int = 2) -> Path:
    """Write ``images`` grey images of 4×6, named a.jpg, b.jpg, …, and a table."""
    (root / "train_images").mkdir(parents=True)
    for name in "abcdef"[:images]:
        Image.new("L", (6, 4), 99).save(root / "train_images" / f"{name}.jpg")
    (root / "train.csv").write_text(csv)
    return root


def test_both_column_forms_say_the_same(tmp_path: Path) -> None:
    rows = "ImageId,ClassId,EncodedPixels\na.jpg,2,1 3 9 2\na.jpg,4,24 1\n"
    four = "ImageId_ClassId,EncodedPixels\n" + "".join(
        f"{i}.jpg_{m},{runs}\n"
        for i in "ab"
        for m, runs in enumerate(("", "1 3 9 2", "", "24 1") if i == "a" else [""] * 4, 1)
    )
    sources = [
        severstal.read(severstal_data(tmp_path / name, text))
        for name, text in (("rows", rows), ("four", four))
    ]
    for source in sources:
        assert not source.problems
        assert [r.image_id for r in source.records] == ["a.jpg", "b.jpg"]
        assert [run[:2] for run in source.records[0].runs] == [(2, "1 3 9 2"), (4, "24 1")]
        assert source.records[1].runs == ()  # no row, or empty rows: defect-free
    bits = read_mask(sources[0].records[0], (4, 6), 4)
    # Column-major, 1-based: pixels 1-3 are the top of column 0, 9 and 10 of column 2.
    expected = np.zeros((4, 6), np.uint32)
    expected[:3, 0] = expected[:2, 2] = 0b0010
    expected[3, 5] = 0b1000
    assert np.array_equal(bits, expected)


def test_byte_order_mark_and_crlf_are_taken(tmp_path: Path) -> None:
    text = "\ufeffImageId,ClassId,EncodedPixels\r\na.jpg,1,1 2\r\n"
    root = severstal_data(tmp_path / "d", "")
    (root / "train.csv").write_bytes(text.encode())
    assert severstal.read(root).records[0].runs[0][:2] == (1, "1 2")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("a.jpg,5,1 2", "class '5'; expected 1 to 4"),
        ("a.jpg,0,1 2", "class '0'; expected 1 to 4"),
        ("a.jpg,x,1 2", "class 'x'; expected 1 to 4"),
        ("z.jpg,1,1 2", "image 'z.jpg' is not in"),
        ("../a.jpg,1,1 2", "expected the name of a file in train_images"),
        ("/etc/passwd,1,1 2", "expected the name of a file in train_images"),
        (",1,1 2", "expected the name of a file in train_images"),
        ("b.jpg,3,1 1", "image 'b.jpg' has class 3 twice (first in row 2)"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, row: str, says: str) -> None:
    table = f"ImageId,ClassId,EncodedPixels\nb.jpg,3,1 1\n{row}\n"
    [problem] = severstal.read(severstal_data(tmp_path / "d", table)).problems
    assert "train.csv row 3: " in str(problem)
    assert says in str(problem)


@pytest.mark.parametrize("missing", [".", "train_images", "train.csv"])
def test_missing_parts_are_named(tmp_path: Path, missing: str) -> None:
    root = severstal_data(tmp_path / "d", "ImageId,ClassId,EncodedPixels\n")
    gone = root / missing
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    with pytest.raises(DataError, match=r"no such .*expected train_images.*train\.csv"):
        severstal.read(root)


def test_other_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 1: columns a,b; expected ImageId_ClassId|ClassId"):
        severstal.read(severstal_data(tmp_path / "d", "a,b\n1,2\n"))


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    root = severstal_data(tmp_path / "d", "")
    (root / "train.csv").write_bytes(b"ImageId,ClassId,EncodedPixels\n\xff\xfe,1,1 1\n")
    with pytest.raises(DataError, match="not UTF-8"):
        severstal.read(root)


def test_the_real_sample(real: Path) -> None:
    source = severstal.read(real / "severstal_sample")
    assert len(source.records) == 25
    assert not source.problems
    classes = [m for r in source.records for m, _, _ in r.runs]
    assert {m: classes.count(m) for m in (1, 2, 3, 4)} == {1: 2, 2: 0, 3: 6, 4: 4}
    image = read_image(source.records[0].image)
    assert image.shape == (256, 1600)  # published as RGB with three equal channels


def pair_data(root: Path, names: dict[str, np.ndarray]) -> Path:
    for name, ids in names.items():
        for part, suffix, pixels in (
            ("images", "jpg", np.full(ids.shape, 7)),
            ("masks", "png", ids),
        ):
            path = root / part / f"{name}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return root


def test_folder_flat_and_nested(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 2], [2, 0, 1]])
    root = pair_data(tmp_path, {"a": ids, "line 1/ü": ids * 0})
    source = folder.read(root, classes=["scratch", "dent"])
    assert [r.image_id for r in source.records] == ["a.jpg", "line 1/ü.jpg"]
    assert not source.problems
    bits = read_mask(source.records[0], (2, 3), 2)
    assert bits.tolist() == [[0, 0b01, 0b10], [0b10, 0, 0b01]]
    assert not read_mask(source.records[1], (2, 3), 2).any()


def test_folder_faults(tmp_path: Path) -> None:
    root = pair_data(
        tmp_path, {"a": np.full((2, 3), 3), "b": np.zeros((4, 4)), "c": np.ones((2, 2))}
    )
    (root / "masks/b.png").unlink()
    Image.new("L", (9, 9)).save(root / "masks/c.png")
    source = folder.read(root, classes=["scratch", "dent"])
    assert "b.jpg: has no mask" in str(source.problems[0])
    with pytest.raises(DataError, match=r"class id 3; expected 0 \(background\) to 2"):
        read_mask(source.records[0], (2, 3), 2)
    with pytest.raises(DataError, match=r"mask of 9×9 .* for an image of 2×2"):
        read_mask(source.records[2], (2, 2), 2)
    with pytest.raises(ConfigError, match=r"data\.classes"):
        folder.read(root, classes=[])


def test_masks_of_0_and_255(tmp_path: Path) -> None:
    white = np.array([[0, 255, 255], [0, 0, 255]])
    root = pair_data(tmp_path, {"a": white, "b": np.array([[0, 255, 254]])})
    Image.fromarray(white > 0).save(root / "masks/a2.png")
    Image.new("L", (3, 2)).save(root / "images/a2.jpg")

    def masks(foreground: int | None, classes: tuple[str, ...] = ("dent",)) -> dict[str, Record]:
        source = OnDisk("folder", root, classes, foreground).read()
        return {record.image_id: record for record in source.records}

    with pytest.raises(
        DataError, match=r"class id 255; .*; if 255 is a single class, set data\.foreground=255"
    ):
        read_mask(masks(None)["a.jpg"], (2, 3), 1)
    for name in ("a.jpg", "a2.jpg"):  # 8 bits, and 1 bit per pixel
        assert read_mask(masks(255)[name], (2, 3), 1).tolist() == [[0, 1, 1], [0, 0, 1]]
    with pytest.raises(DataError, match=r"value 254; expected 0 \(background\) or 255 \(data\.for"):
        read_mask(masks(255)["b.jpg"], (1, 3), 1)
    with pytest.raises(ConfigError, match=r"data\.foreground=255: only for data=folder with one"):
        masks(255, ("dent", "scratch"))


def test_colour_masks_are_refused(tmp_path: Path) -> None:
    root = pair_data(tmp_path, {"a": np.zeros((2, 3))})
    Image.new("RGB", (3, 2)).save(root / "masks/a.png")
    with pytest.raises(DataError, match="mode RGB; expected one channel of class ids"):
        read_mask(folder.read(root, classes=["x"]).records[0], (2, 3), 1)


def test_neu_seg(real: Path) -> None:
    source = folder.read_neu_seg(real / "neu_seg")
    parts = [r.part for r in source.records]
    assert (parts.count("train"), parts.count("test")) == (3630, 840)
    assert not source.problems
    ids = read_mask(source.records[0], (200, 200), 3)
    assert ids.any()


@pytest.mark.parametrize("content", [b"", b"not an image", b"\xff\xd8\xff\xe0 truncated"])
def test_what_is_no_image(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as an image"):
        read_image(tmp_path / "a.jpg")


def test_truncated_jpeg(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64), np.uint8)).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="truncated"):
        read_image(tmp_path / "a.jpg")


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    root = pair_data(tmp_path / "in", {"a": np.zeros((2, 3))})
    Image.new("L", (3, 2)).save(tmp_path / "secret.jpg")
    (root / "images/b.jpg").symlink_to(tmp_path / "secret.jpg")
    assert [r.image_id for r in folder.read(root, classes=["x"]).records] == ["a.jpg"]


@pytest.mark.parametrize(
    ("holds", "name"),
    [
        (["train_images/", "train.csv"], "severstal"),
        (["train.csv", "notes/"], "severstal"),  # the reader then reports what is missing
        (["images/", "masks/"], "folder"),
        (["images/", "annotations/"], "neu_seg"),
        (["images/", "masks/", "annotations/"], "folder"),
        (["masks/"], "folder"),
        (["images/"], None),  # part of two layouts
        (["images", "masks"], None),  # files, not folders
        ([], None),
    ],
)
def test_a_layout_is_recognised_by_its_parts(
    holds: list[str], name: str | None, tmp_path: Path
) -> None:
    for part in holds:
        (tmp_path / part).mkdir() if part.endswith("/") else (tmp_path / part).touch()
    if name:
        assert recognise(tmp_path) == name
        return
    with pytest.raises(
        DataError, match=r"no known data set layout; expected train_im.*; it (contains|is) "
    ):
        recognise(tmp_path)


def test_the_folder_above_is_named_where_it_is_the_data_set(tmp_path: Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    with pytest.raises(DataError, match=rf"layout; {re.escape(str(tmp_path))} does: use it; exp"):
        recognise(tmp_path / "images")
