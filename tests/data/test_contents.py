"""Folders without images: one line that says what is there instead."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tlunet import errors
from tlunet.data.readers import folder, severstal
from tlunet.data.readers.layouts import recognise
from tlunet.errors import DataError, UserError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (64, 32)).save(path)


def empty(root: Path) -> None:
    (root / "train_images").mkdir()
    touch(root / "train.csv", root / "train_images/.DS_Store", root / "train_images/Thumbs.db")


def other_files(root: Path) -> None:
    touch(*(root / "train_images" / name for name in ("a.xcf", "b.xcf", "notes.txt")))


def too_deep(root: Path) -> None:
    photo(root / "train_images/train_images/a.jpg")
    touch(root / "train.csv")


def all_too_deep(root: Path) -> None:
    photo(root / "train_images/train_images/a.jpg")
    touch(root / "train_images/train.csv")


def root_too_deep(root: Path) -> None:
    photo(root / "severstal/train_images/a.jpg")
    touch(root / "severstal/train.csv")


def link(root: Path) -> None:
    photo(root / "elsewhere/a.jpg")
    (root / "train_images").mkdir()
    (root / "train_images/line1").symlink_to(root / "elsewhere")


def archive(root: Path) -> None:
    touch(root / "train_images.zip", root / "train.csv")


SEVERSTAL = {
    empty: "{root}/train_images: has no images; is empty; expected train_images/*.jpg",
    other_files: "has no images; contains only other files (2 .xcf, 1 .txt); expected train_im",
    too_deep: "contains only a folder train_images: unpacked one level too deep; move its files "
    "up, to {root}/train_images",
    all_too_deep: "unpacked one level too deep; set data.root={root}/train_images",
    root_too_deep: "{root}/train_images: no such folder; {root}/severstal has train_images/ and "
    "train.csv: set data.root={root}/severstal",
    link: "contains only links to folders (line1), which are not followed: copy them there",
    archive: "no such folder; expected train_images/*.jpg and train.csv, as in the Kaggle archive; "
    "{root} contains only train.csv, train_images.zip",
}


def one_line(read: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        read()
    assert len(caught.value.lines) == 1
    return caught.value.lines[0]


@pytest.mark.parametrize("lay", SEVERSTAL, ids=lambda lay: lay.__name__)
def test_severstal_without_images(lay: Callable[[Path], None], tmp_path: Path) -> None:
    lay(tmp_path)
    assert SEVERSTAL[lay].format(root=tmp_path) in one_line(lambda: severstal.read(tmp_path))


def test_pairs_without_images(tmp_path: Path) -> None:
    for part in ("images", "annotations"):
        for subset in ("training", "test"):
            (tmp_path / part / subset).mkdir(parents=True)
    line = one_line(lambda: folder.read_neu_seg(tmp_path))
    assert f"{tmp_path}/images: has no images; contains only empty folders: test, training" in line
    assert "expected images/ with the images and annotations/ with PNG masks" in line
    shutil.rmtree(tmp_path / "images")
    (tmp_path / "masks").mkdir()
    photo(tmp_path / "there/a.jpg")
    (tmp_path / "images").mkdir()
    (tmp_path / "images/line1").symlink_to(tmp_path / "there")
    line = one_line(lambda: folder.read(tmp_path, classes=["x"]))
    assert "has no images; contains only links to folders (line1), which are not followed" in line
    assert [r.image_id for r in _after(tmp_path)] == ["line1/a.jpg"]


def _after(root: Path) -> tuple[object, ...]:
    """Do what the line says."""
    (root / "images/line1").unlink()
    shutil.copytree(root / "there", root / "images/line1")
    return folder.read(root, classes=["x"]).records  # type: ignore[return-value]


def test_the_folder_that_a_line_names_is_read(tmp_path: Path) -> None:
    root_too_deep(tmp_path)
    assert f"{tmp_path}/severstal does: use it" in one_line(lambda: recognise(tmp_path))
    assert recognise(tmp_path / "severstal") == "severstal"


@pytest.mark.parametrize("kind", [UserError, *UserError.__subclasses__()])
@pytest.mark.parametrize("lines", [(), ("",), ("", " ")])
def test_no_error_without_a_line(kind: type[UserError], lines: tuple[str, ...]) -> None:
    assert issubclass(kind, errors.UserError)
    with pytest.raises(ValueError, match="expected one line per problem, got none"):
        kind(*lines)
