"""`tlunet data check` and `tlunet data show` state the same numbers."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tlunet.data.checks.examine import examine
from tlunet.data.checks.summary import summarise
from tlunet.data.checks.survey import Survey, survey
from tlunet.data.dataset import read_source
from tlunet.data.readers import folder, severstal
from tlunet.data.source import Source
from tlunet.report.dataset.facts import sum_up
from tlunet.report.dataset.page import document
from tlunet.report.dataset.tables import classes, split
from tlunet.report.document import markdown


def copies(root: Path) -> Path:
    """Sixteen training and eight test images; 0 to 2 are copies of a test image, 2 is relabelled.

    Training images 3 and 4 are copies of each other.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (24, 32, 32), np.uint8)
    images[[0, 1, 2]], images[4] = images[16], images[3]
    masks = np.zeros((24, 32, 32), np.uint8)
    masks[:, 4:9, 4:9] = (np.arange(24) % 3 + 1)[:, None, None]
    masks[[0, 1, 2, 16], 4:9, 4:9] = np.array([1, 1, 2, 1])[:, None, None]
    masks[4] = masks[3]
    for k in range(24):
        part = "training" if k < 16 else "test"
        for kind, pixels in (("images", images[k]), ("annotations", masks[k])):
            path = root / kind / part / f"{k:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return root


def test_near_duplicates_by_hand(tmp_path: Path) -> None:
    source = read_source(copies(tmp_path), "neu_seg")
    found = survey(source)
    summary = summarise(found)
    assert [len(repeat.rows) for repeat in summary.repeats] == [4, 2]
    assert [repeat.is_conflict for repeat in summary.repeats] == [True, False]
    assert summary.duplicated() == (
        "6 images are near-duplicates (also flipped or rotated): 2 groups, each on one side of the "
        "split"
    )
    assert summary.warnings()[-1] == (
        "conflicting labels in 1 of 2 groups of near-duplicates (4 images)"
    )
    official = summarise(found, split="official")
    assert official.parts() == "train/val/test: 11/2/8 (official test set)"
    assert official.duplicated() == (
        "6 images are near-duplicates (also flipped or rotated): 2 groups; 3 training images "
        "repeat a test image and are not used"
    )


def test_a_fraction_is_stated_beside_the_whole_training_set(strips: Path) -> None:
    summary = summarise(survey(severstal.read(strips)), frac=0.5)
    assert summary.parts() == ("train/val/test: 18/3/3; frac=0.5 uses 9 of the training images")
    by_class = re.findall(r"class \d (\d+) \((\d+)/(\d+)/(\d+)\)", summary.classes())
    assert len(by_class) == 4
    for total, *parts in by_class:
        assert int(total) == sum(map(int, parts))


def agree(source: Source, found: Survey, *, frac: float = 1.0, part: str = "random") -> None:
    """Check that the lines of one command are the content of the other's page."""
    lines = summarise(examine(source), frac=frac, split=part).lines()
    facts = sum_up(found, frac=frac, split=part)
    assert lines == facts.summary.lines()
    text = markdown.render(document(facts)).replace("\\", "")
    summary = facts.summary
    for said in (summary.overview(), summary.duplicated(), *summary.warnings()):
        assert said in text.replace("No near-duplicates", "no near-duplicates")
    shown = [[int(e.value or 0) for e in row[1:4]] for row in split(facts).rows]
    totals = [int(row[2].value or 0) for row in classes(facts).rows]
    told = re.findall(r" (\d+) \((\d+)/(\d+)/(\d+)\)", summary.classes())
    assert [[int(n) for n in row[1:]] for row in told] == shown
    assert [int(row[0]) for row in told][:-1] == totals
    sizes = [int(entry.value or 0) for entry in split(facts).foot[0][1:4]]
    assert summary.parts().startswith("train/val/test: " + "/".join(map(str, sizes)))


@pytest.mark.parametrize("frac", [1.0, 0.5])
def test_the_commands_agree_on_strips(strips: Path, tmp_path: Path, frac: float) -> None:
    root = Path(shutil.copytree(strips, tmp_path / "data"))
    images = sorted((root / "train_images").iterdir())
    shutil.copy(images[1], root / "train_images/again.jpg")
    (root / "train_images/Thumbs.db").write_text("")
    source = severstal.read(root)
    agree(source, survey(source), frac=frac)


def test_the_commands_agree_on_an_official_test_set(tmp_path: Path) -> None:
    source = read_source(copies(tmp_path), "neu_seg")
    found = survey(source)
    for part in ("random", "official"):
        agree(source, found, part=part)


def test_the_commands_agree_at_a_size(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for k in range(16):
        size = (40, 40) if k > 3 else (24, 60)
        mask = np.zeros(size, np.uint8)
        mask[3, 3 : 4 + k] = k % 2
        Image.fromarray(rng.integers(0, 255, (*size, 3), np.uint8)).save(root / f"images/{k}.png")
        Image.fromarray(mask).save(root / f"masks/{k}.png")
    source = folder.read(root, classes=["dent"])
    lines = summarise(examine(source, (8, 8))).lines()
    assert lines == summarise(survey(source, (8, 8))).lines()
    assert any(line.startswith("At 8×8 the masks of class 1 (dent) vanish in ") for line in lines)
    assert not any("training needs one" in line for line in lines)
    assert "images have 2 sizes; training needs one: data.size=[32,32]" in (
        summarise(survey(source)).warnings()
    )


def test_the_commands_agree_on_real_steel(real: Path) -> None:
    source = severstal.read(real / "severstal_sample")
    agree(source, survey(source))


@pytest.mark.slow
def test_the_commands_agree_on_neu_seg(real: Path) -> None:
    source = read_source(real / "neu_seg", "neu_seg")
    found = survey(source)
    for part in ("random", "official"):
        agree(source, found, part=part)
    official = summarise(found, split="official")
    assert official.duplicated() == (
        "4,440 images are near-duplicates (also flipped or rotated): 1,070 groups; 2,466 training "
        "images repeat a test image and are not used"
    )
