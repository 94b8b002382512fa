"""`tlunet data show`: the page and the image it writes."""

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from specks import write_specks
from tlunet import cli
from tlunet.data.checks.survey import survey
from tlunet.data.readers import folder, severstal
from tlunet.report.dataset.facts import Facts, sum_up
from tlunet.report.dataset.page import document, headline
from tlunet.report.dataset.pictures import Example, chosen, shrunk
from tlunet.report.dataset.tables import classes, regions, split
from tlunet.report.document import markdown

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run the command in this process, in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*args: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tlunet", "data", "show", *map(str, args)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return run


def test_the_page_says_what_the_split_keeps_together(show: Run, strips: Path) -> None:
    code, _, err = show(strips, "--groups", "^(.)", "--out", "page.html")
    assert (code, err) == (0, "")
    assert "groups stay on one side; the largest has " in Path("page.html").read_text()
    show(strips, "--groups", "^(z)", "--out", "page.html")
    page = Path("page.html").read_text()
    assert "no split: data.groups=^(z): does not match 24 of 24 images: " in page
    code, _, err = show(strips, "--groups", "z")
    assert code == 2
    assert "--groups=z: expected a regular expression with one group" in err


@pytest.fixture(scope="module")
def facts(strips: Path) -> Facts:
    return sum_up(survey(severstal.read(strips)))


def user_folder(root: Path, classes: int = 2) -> Path:
    """Twelve colour images of two sizes; the last two are identical but labelled differently."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 255, (40, 40, 3), np.uint8)
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for k in range(12):
        size = (40, 40) if k > 3 else (24, 60)
        image = texture if k > 9 else rng.integers(0, 255, (*size, 3), np.uint8)
        mask = np.zeros(image.shape[:2], np.uint8)
        mask[3:9, 3 : 8 + k] = k % (classes + 1)
        Image.fromarray(image).save(root / "images" / f"{k:02}.png")
        Image.fromarray(mask).save(root / "masks" / f"{k:02}.png")
    return root


def test_the_page_says_what_is_in_the_data(strips: Path, show: Run) -> None:
    code, out, err = show(strips)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "24 images: data.html"
    page = Path("data.html").read_text()
    assert "24 images of 32×64 pixels (height × width), grey, 4 classes" in page
    for title in ("Images", "Classes", "Co-occurring classes", "Defect sizes", "Near-duplicates"):
        assert f">{title}</h2>" in page
    assert page.count('class="mask"') == page.count("image/jpeg") >= 8
    assert not re.search(r'(src|href)="(?!data:|#)', page)  # the file is self-contained
    assert [path.name for path in Path().iterdir()] == ["data.html"]


def test_the_picture(strips: Path, show: Run) -> None:
    code, _, err = show(strips, "--out", "sheet.png")
    assert (code, err) == (0, "")
    with Image.open("sheet.png") as sheet:
        assert sheet.width == 2720
        assert np.asarray(sheet.convert("L")).std() > 20


def test_the_same_data_make_the_same_bytes(strips: Path, show: Run) -> None:
    for name in ("a.html", "b.html"):
        show(strips, "--out", name)
    assert Path("a.html").read_bytes() == Path("b.html").read_bytes()


def test_a_users_folder_of_all_sizes_in_colour(tmp_path: Path, show: Run) -> None:
    root = user_folder(tmp_path / "mine")
    code, _, err = show(root, "--classes", "a<b,rolled in", "--out", "deep/mine.html")
    assert (code, err) == (0, "")
    page = Path("deep/mine.html").read_text()
    assert "12 images of 40×40 (8), 24×60 (4) pixels (height × width), in colour, 2 classes" in page
    assert "images have 2 sizes; training needs one: data.size=[32,32]" in page
    assert "a&lt;b" in page
    assert "a<b" not in page
    assert "conflicting labels in 1 of 1 groups of near-duplicates (2 images)" in page


def test_masks_that_vanish_at_a_size(tmp_path: Path, show: Run) -> None:
    root = write_specks(tmp_path / "mine")
    code, _, err = show(root, "--size", "32x64")
    assert (code, err) == (0, "")
    page = Path("mine.html").read_text()
    said = "At 32×64 the masks of class 2 vanish in 8 of 8 images; the images keep their label."
    assert said in page
    assert "class 1 32 px, class 2 0 px" in page
    show(root, "--size", "10x10", "--out", "specks.html")  # all masks vanish
    assert "of the images show a defect" in Path("specks.html").read_text()


def test_faults_are_named_and_the_others_shown(strips: Path, tmp_path: Path, show: Run) -> None:
    root = Path(shutil.copytree(strips, tmp_path / "data"))
    broken = sorted((root / "train_images").iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:200])
    code, out, err = show(root)
    assert code == 1
    assert "23 images: data.html" in out
    assert err.startswith(f"{broken}: cannot be read as an image")
    assert "1 images are excluded from this page" in Path("data.html").read_text()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nowhere"], "nowhere: no such folder; expected train_images/"),
        (["--out", "sheet.pdf"], "--out sheet.pdf: expected a name that ends in .html or .png"),
        (["--kind", "coco"], "coco: unknown kind of data set"),
        (["--split", "mine"], "--split mine: expected random, official"),
        (["--frac", "0"], "--frac 0.0: expected a number above 0"),
        (["--size", "big"], "--size big: expected height x width"),
        (["--out", "data.html/x.html"], "data.html/x.html: cannot be written"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(args: list[str], said: str, strips: Path, show: Run) -> None:
    Path("data.html").write_text("in the way")
    code, _, err = show(*([strips, *args] if args[0].startswith("--") else args))
    assert code == 2
    assert err.startswith(said)
    assert err.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["data.html"]


def test_too_few_images_for_a_split_are_shown_all_the_same(tmp_path: Path) -> None:
    root = tmp_path / "two"
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
        for name in ("a.png", "b.png"):
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(root / kind / name)
    found = sum_up(survey(folder.read(root, classes=["dent"])))
    assert found.summary.split is None
    assert found.warnings[-1].startswith("no split: ")
    assert headline(found) == ["No image of this data set shows a defect."]
    assert "There are too few images for a split." in markdown.render(document(found))


def test_every_class_is_shown(facts: Facts) -> None:
    shown = {m for combination, _ in chosen(facts) for m in combination.classes}
    assert shown == {0, 1, 2, 3}
    for combination, rows in chosen(facts):
        assert set(rows) <= set(combination.rows.tolist())
        areas = facts.areas[rows].tolist()
        assert areas == sorted(areas)


def test_tables_agree_with_the_survey(facts: Facts) -> None:
    labels = facts.survey.labels
    images = [int(row[2].value or 0) for row in classes(facts).rows]
    assert images == labels.sum(0).tolist()
    assert [row[1].value for row in regions(facts).rows] == list(map(len, facts.survey.regions))
    dealt = np.array([[int(entry.value or 0) for entry in row[1:4]] for row in split(facts).rows])
    assert dealt[:4].sum(1).tolist() == images
    assert [entry.text for entry in split(facts).foot[0][1:4]] == ["18", "3", "3"]


def test_a_thin_defect_survives_shrinking() -> None:
    masks = np.zeros((1, 40, 4000), bool)
    masks[0, 20, :] = True
    small = shrunk(Example(np.zeros((40, 4000), np.uint8), masks), 400)
    assert small.image.shape == (4, 400)
    assert small.masks[0].any(0).all()


def test_the_real_sample(real: Path) -> None:
    found = sum_up(survey(severstal.read(real / "severstal_sample")))
    assert found.survey.labels.sum(0).tolist() == [2, 0, 6, 4]
    assert found.named(found.combinations[0].classes) == "no defect"
    assert len(found.combinations[0].rows) == 18
    assert "class 2: absent from the data, cannot be learned, no scores" in found.warnings
