"""Statistics of a data set without keeping its pixels."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from specks import SMALL, write_specks
from tlunet.data import rle
from tlunet.data.checks.survey import region_areas, survey
from tlunet.data.readers import folder, severstal
from tlunet.data.readers.pixels import read_mask
from tlunet.errors import DataError


def write(root: Path, name: str, image: np.ndarray, mask: np.ndarray) -> None:
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(root / "images" / f"{name}.png")
    Image.fromarray(mask).save(root / "masks" / f"{name}.png")


def test_pixels_and_regions_are_those_of_the_masks(strips: Path) -> None:
    source = severstal.read(strips)
    found = survey(source)
    assert found.problems == []
    assert len(found.records) == 24
    for row, record in enumerate(found.records):
        bits = read_mask(record, (32, 64), 4)
        for m in range(4):
            assert found.pixels[row, m] == (bits >> m & 1).sum()
    for m in range(4):  # every pixel of a class is in exactly one of its regions
        assert found.regions[m].sum() == found.pixels[:, m].sum()
        assert (found.regions[m] > 0).all()
    assert (found.sizes == (32, 64)).all()
    assert not found.coloured.any()


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    mask = rle.decode("1 1 5 1 9 1 12 1", (4, 4))  # (0, 0) (0, 1) (0, 2) and (3, 2)
    mask[1, 3] = True  # touches (0, 2) at a corner
    assert sorted(region_areas(mask)) == [1, 4]


def test_images_of_all_sizes_and_colours(tmp_path: Path) -> None:
    mask = np.zeros((10, 20), np.uint8)
    mask[2:4, 2:6] = 1
    write(tmp_path, "a", np.full((10, 20), 90, np.uint8), mask)
    colours = np.zeros((30, 12, 3), np.uint8)
    colours[..., 1] = 200
    write(tmp_path, "b", colours, np.zeros((30, 12), np.uint8))
    source = folder.read(tmp_path, classes=["dent"])

    own = survey(source)
    assert own.sizes.tolist() == [[10, 20], [30, 12]]
    assert own.coloured.tolist() == [False, True]
    assert own.pixels.tolist() == [[8], [0]]
    assert own.counted_at is None

    brought = survey(source, (20, 40))  # twice as high and wide: four times the pixels
    assert brought.sizes.tolist() == [[10, 20], [30, 12]]
    assert brought.pixels.tolist() == [[32], [0]]


def test_labels_and_thumbnails_do_not_depend_on_the_size(tmp_path: Path) -> None:
    source = severstal.read(write_specks(tmp_path))
    own, small = survey(source), survey(source, SMALL)
    assert own.pixels.sum(0).tolist() == [8 * 4 * 128, 8 * 2, 0, 0]
    assert small.pixels.sum(0).tolist() == [8 * 32, 0, 0, 0]
    assert own.labels.sum(0).tolist() == [8, 8, 0, 0]
    assert np.array_equal(small.labels, own.labels)
    assert np.array_equal(small.thumbnails, own.thumbnails)


def test_a_faulty_image_is_left_out_and_named(strips: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(strips, tmp_path / "data"))
    broken = sorted((root / "train_images").iterdir())[0]
    broken.write_bytes(b"not an image")
    found = survey(severstal.read(root))
    assert len(found.records) == 23
    assert broken.name in str(found.problems[0])


def test_no_sound_image_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "a", np.zeros((4, 4), np.uint8), np.full((4, 4), 9, np.uint8))
    with pytest.raises(DataError, match=r"class id 9; expected 0 .* to 1"):
        survey(folder.read(tmp_path, classes=["dent"]))
