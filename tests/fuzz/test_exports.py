"""Any bytes as an annotation tool's export give either a data set or one-line problems."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fuzz.mutations import fuzz, spoilt
from hypothesis import given, settings
from PIL import Image

from tlunet.data.convert import coco, yolo
from tlunet.data.convert.labelled import Labelled
from tlunet.data.convert.paint import convert
from tlunet.errors import UserError

SHAPES = (
    [[2, 2, 9.5, 2, 9, 9]],
    {"counts": [5, 3, 184], "size": [12, 16]},
    [[1, 2, 3, 4], [1] * 6],
)
CONTENT = json.dumps({
    "images": [{"id": 1, "file_name": "a.png", "height": 12, "width": 16}],
    "categories": [{"id": 0, "name": "all"}, {"id": 1, "name": "dent", "supercategory": "all"}],
    "annotations": [{"image_id": 1, "category_id": 1, "segmentation": s} for s in SHAPES],
}).encode()  # fmt: skip
TABLE = b"path: .\ntrain: images\nval: [images, train.txt]\nnc: 2\nnames:\n  0: dent\n  1: 'a b'\n"
LABELS = b"0 0.1 0.1 0.5 0.1 0.5 0.5\r\n1.0 0 0 1 0 1 1 0 1\n\n"
LIST = b"./images/a.png\nimages/a.png\n"


def check(folder: Path, read: Callable[[Path], Labelled], source: str) -> None:
    """Convert, and look at what came of it."""
    out = folder / "out"
    try:
        convert(read(folder / source), out)
    except UserError as error:
        assert_lines(error)
        return
    with Image.open(out / "masks/a.png") as mask:
        assert mask.size == (16, 12)
        assert np.asarray(mask).any()
    shutil.rmtree(out)


def assert_lines(error: UserError) -> None:
    assert error.lines
    assert all(line.strip() and line.isprintable() for line in error.lines)
    assert all(len(line) < 800 for line in error.lines)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    for name in ("images", "labels"):
        (folder / name).mkdir()
    Image.new("L", (16, 12)).save(folder / "images/a.png")
    for name, content in (
        ("images.json", CONTENT),
        ("data.yaml", TABLE),
        ("labels/a.txt", LABELS),
        ("train.txt", LIST),
    ):
        (folder / name).write_bytes(content)
    return folder


def test_the_originals_are_read(folder: Path) -> None:
    assert sum(len(item.objects) for item in coco.read(folder / "images.json").items) == 3
    assert sum(len(item.objects) for item in yolo.read(folder).items) == 2


@settings(fuzz)
@given(content=spoilt([CONTENT]))
def test_coco(folder: Path, content: bytes) -> None:
    pytest.importorskip("supervision", reason="the extra convert is not installed")
    (folder / "images.json").write_bytes(content)
    check(folder, coco.read, "images.json")


@pytest.mark.parametrize(
    ("name", "original"),
    [("data.yaml", TABLE), ("labels/a.txt", LABELS), ("train.txt", LIST)],
    ids=["table", "labels", "list"],
)
def test_yolo(folder: Path, name: str, original: bytes) -> None:
    @settings(fuzz, max_examples=60)
    @given(content=spoilt([original]))
    def look(content: bytes) -> None:
        (folder / name).write_bytes(content)
        check(folder, yolo.read, "data.yaml")

    look()
    (folder / name).write_bytes(original)
