"""`tlunet data check` as a user runs it, and what a sweep reports before training."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from specks import write_specks
from tlunet import cli
from tlunet.data.checks.describe import gaps, require_training_image, vanished
from tlunet.errors import ConfigError
from tlunet.study.config.command import read_command
from tlunet.study.sweep.launcher import Launcher
from tlunet.study.sweep.prepare import prepare

CONF = Path(__file__).parents[3] / "conf"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run the command in this process; return exit code, stdout, stderr; check no file changes."""

    def run(*args: str | Path) -> tuple[int, str, str]:
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.setattr(sys, "argv", ["tlunet", "data", "check", *map(str, args)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        assert sorted(tmp_path.rglob("*")) == before
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def root(strips: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(strips, tmp_path / "data"))


def test_sound_data(check: Run, strips: Path) -> None:
    code, out, err = check(strips)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[:3] == [
        "checking images (24)",
        "synthetic strips (not steel): 24 images of 32×64 pixels (height × width), grey, 4 classes",
        "train/val/test: 18/3/3",
    ]
    assert lines[3].startswith("images per class, total (train/val/test): pits 8 (")
    assert lines[-1] == "no problems found"


def test_data_severstal_is_the_default(
    check: Run, strips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(strips, tmp_path / "data/severstal")
    monkeypatch.chdir(tmp_path)
    assert check()[0] == 0


def test_faults_are_told_up_to_a_limit(check: Run, root: Path) -> None:
    images = sorted((root / "train_images").iterdir())
    for path in images[:5]:
        path.write_bytes(b"")
    with (root / "train.csv").open("a") as table:
        table.write("ghost.jpg,1,1 5\n")
    rows = len((root / "train.csv").read_text().splitlines())
    code, out, err = check(root, "--limit", "3")
    assert code == 2
    assert "6 problems; 19 of 24 images are valid" in out
    assert (
        "synthetic strips (not steel): 19 images of 32×64 pixels (height × width), grey, 4 classes"
        in out
    )  # and a description of the rest
    assert err.splitlines() == [
        f"{root}/train.csv row {rows}: image 'ghost.jpg' is not in {root}/train_images",
        f"{images[0]} (and 4 more: {images[1].name}, {images[2].name}, …): "
        "cannot be read as an image (the file is empty)",
    ]


def test_what_is_no_fault_is_said(check: Run, root: Path) -> None:
    images = sorted((root / "train_images").iterdir())
    Image.new("RGB", (64, 32), (250, 10, 10)).save(images[0], "PNG")  # regardless of its suffix
    shutil.copy(images[1], root / "train_images/again.jpg")
    (root / "train_images/Thumbs.db").write_text("")
    (root / "train_images/more.jpg").mkdir()
    code, out, _ = check(root)
    assert code == 0
    assert "synthetic strips (not steel): 25 images of 32×64 pixels (height × width), 1 of" in out
    assert "1 of them in colour" in out
    assert "2 images are near-duplicates (also flipped or rotated): 1 group, each on one " in out
    assert "2 ignored files or folders: " in out
    assert "Thumbs.db" in out


def write_pairs(root: Path, masks: str, n: int = 16, part: str = "") -> Path:
    """Images and masks; the first quarter has class 1, none has class 2."""
    rng = np.random.default_rng(n)
    for k in range(n):
        image = rng.integers(0, 255, (32, 32), np.uint8)
        for folder, pixels in (("images", image), (masks, (image > 200) * np.uint8(k < n / 4))):
            path = root / folder / part / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return root


def test_a_folder_of_pairs(check: Run, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "steel", "masks")
    code, out, _ = check(root, "--classes", "dent, scratch")
    assert code == 0
    assert "folder: 16 images of 32×32 pixels (height × width), grey, 2 classes" in out
    assert "dent 4 (" in out
    assert "scratch: absent from the data, cannot be learned, no scores" in out
    code, _, err = check(root)
    assert code == 2
    assert "--classes scratch,dent" in err


def test_neu_seg_with_its_own_test_part(check: Run, tmp_path: Path) -> None:
    write_pairs(tmp_path, "annotations", n=16, part="training")
    write_pairs(tmp_path, "annotations", n=8, part="test")
    code, out, _ = check(tmp_path, "--split", "official")
    assert code == 0
    assert "train/val/test: 14/2/8 (official test set)\n" in out
    (tmp_path / "images/training/0.png").rename(tmp_path / "images/0.png")
    (tmp_path / "annotations/training/0.png").rename(tmp_path / "annotations/0.png")
    code, _, err = check(tmp_path, "--split", "official")
    assert (code, err.count("\n")) == (2, 1)
    assert "images/0.png: is neither in images/training nor in images/test" in err


def test_sizes(check: Run, root: Path) -> None:
    images = sorted((root / "train_images").iterdir())
    table = (root / "train.csv").read_text().splitlines()
    (root / "train.csv").write_text("\n".join(x for x in table if not x.startswith(images[0].name)))
    Image.new("L", (50, 40)).save(images[0])
    code, _, err = check(root)
    assert (code, err.count("\n")) == (2, 1)
    assert f"{images[0]}: image of 40×50 (height × width), most are 32×64" in err
    code, out, _ = check(root, "--size", "32x64")
    assert code == 0
    assert "24 images of 32×64 (23), 40×50 (1) pixels (height × width), grey" in out


def test_masks_that_vanish(check: Run, tmp_path: Path) -> None:
    root = write_specks(tmp_path / "data")
    code, out, _ = check(root, "--size", "32x64")
    assert code == 0
    assert (
        "At 32×64 the masks of class 2 vanish in 8 of 8 images; the images keep their label." in out
    )
    assert "class 2: absent from the data" not in out
    assert "vanish" not in check(root)[1]
    assert "vanish" not in check(root, "--size", "128x256")[1]


def test_many_sizes_are_one_problem_and_the_classes_are_described(check: Run, root: Path) -> None:
    for k, path in enumerate(sorted((root / "train_images").iterdir())):
        Image.open(path).resize((64 + k // 2, 32)).save(path)
    table = pd.read_csv(root / "train.csv")
    code, out, err = check(root)
    assert code == 2
    assert err == (
        f"{root}: 24 images have 12 sizes, height 32, width 64 to 75, but training needs one: "
        "data.size=[32,64] resizes all (tlunet data check: --size 32x64), data.fit=pad keeps their "
        "proportions\n"
    )
    assert "24 of 24 images are valid" in out
    assert f"pits {(table['ClassId'] == 1).sum()} (" in out
    assert "cannot be learned" not in out
    for fit in ("stretch", "pad"):
        code, out, err = check(root, "--size", "32x64", "--fit", fit)
        assert (code, err) == (0, ""), fit
        assert "did you mean" not in out
    out = check(root, "--size", "64x32")[1]
    assert (
        "data.size=[64,32] is higher than wide, but all images are wider than high (most are "
        "32×64, height × width): did you mean data.size=[32,64]?"
    ) in out
    assert "--fit=crop: expected stretch, pad" in check(root, "--fit", "crop")[2]


def test_groups_and_near_duplicates_of_the_split(check: Run, root: Path) -> None:
    names = sorted(path.name for path in (root / "train_images").iterdir())
    code, out, err = check(root, "--groups", "^(.)")
    assert (code, err) == (0, "")
    count = len({name[0] for name in names})
    assert f"data.groups: {count} groups stay on one side; the largest has " in out
    rule = f"^({names[0][:5]})"
    code, out, err = check(root, "--groups", rule)
    assert code == 2
    assert out.endswith("1 problem; 24 of 24 images are valid\n")
    assert err == (
        f"data.groups={rule}: does not match 23 of 24 images: {', '.join(names[1:4])}, …\n"
    )
    assert (
        "--groups=(: expected a regular expression with one group"
        in check(root, "--groups", "(")[2]
    )
    first = Image.open(root / "train_images" / names[0])
    for name in names:
        first.save(root / "train_images" / name)
    code, out, err = check(root)
    assert code == 2
    assert f"the largest group has 24 ({', '.join(names[:3])}, …), which look alike" in err
    assert "set data.duplicates=ignore" in err
    code, out, err = check(root, "--duplicates", "ignore")
    assert (code, err) == (0, "")
    assert (
        "24 images are near-duplicates (also flipped or rotated): 1 group; the split may separate "
        "them (data.duplicates)\n"
    ) in out
    assert "look alike" not in out
    assert "--duplicates=never: expected group, ignore" in check(root, "--duplicates", "never")[2]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--kind", "kaggle"), "kaggle: unknown kind of data set; expected auto, severstal"),
        (("--size", "256"), "--size 256: expected height x width in pixels, such as 256x1600"),
        (("--split", "mine"), "--split mine: expected random, official"),
        (("--frac", "2"), "--frac 2.0: expected a number above 0 and at most 1"),
        (("--frac", "nan"), "--frac nan: expected a number above 0 and at most 1"),
        (("--frac", "1e-9"), "frac=1e-09: keeps none of the 18 training images; expected"),
        (("--split", "official"), "the official split has no test images"),
        (("--limit", "0"), "--limit"),
        (("--classes", "a, b,a"), "--classes a, b,a: expected distinct names; twice: a"),
        (("--kind", "folder", "--classes", "a"), "images: no such folder; expected images/ with"),
    ],
)
def test_wrong_options(check: Run, strips: Path, args: tuple[str, ...], says: str) -> None:
    code, _, err = check(strips, *args)
    assert code == 2
    assert says in err
    assert "Traceback" not in err


def test_no_data_set(check: Run, tmp_path: Path) -> None:
    code, _, err = check(tmp_path / "nowhere")
    assert (code, err.count("\n")) == (2, 1)
    assert "nowhere: no such folder; expected train_images/ and train.csv (severstal)" in err
    code, _, err = check(tmp_path)
    assert (code, err.count("\n")) == (2, 1)
    assert "contains no known data set layout; expected train_images/ and train.csv" in err


def test_nothing_sound(check: Run, root: Path) -> None:
    for path in (root / "train_images").iterdir():
        path.write_bytes(b"")
    code, out, err = check(root, "--limit", "99")
    assert code == 2
    assert "24 problems; 0 of 24 images are valid" in out
    assert len(err.splitlines()) == 24


def test_the_real_data(check: Run, real: Path) -> None:
    code, out, err = check(real / "severstal_sample")
    assert (code, err) == (0, "")
    assert "severstal: 25 images of 256×1600 pixels (height × width), grey, 4 classes" in out
    assert "class 1 2 (2/0/0), class 2 0 (0/0/0), class 3 6 (4/1/1), class 4 4 (3/1/0)" in out
    assert "class 2: absent from the data, cannot be learned, no scores" in out
    assert "class 1: absent from the validation set, no validation scores" in out
    assert "class 4: absent from the test set, no test scores" in out


def table(*subsets: str) -> pd.DataFrame:
    group = range(len(subsets))
    return pd.DataFrame({"image_id": map(str, group), "subset": subsets, "group": group})


def test_gaps_by_hand() -> None:
    split = table("train", "unused", "unused", "val", "test", "unused")
    split.loc[5, "group"] = 4  # near-duplicate of the official test image: excluded at any frac
    labels = np.array(
        [  # everywhere, nowhere, unused only, not in val and test, in val and test only, excluded
            [1, 0, 0, 1, 0, 0],
            [1, 0, 1, 1, 0, 0],
            [1, 0, 1, 0, 0, 0],
            [1, 0, 1, 0, 1, 1],
            [1, 0, 1, 0, 1, 1],
            [1, 0, 1, 0, 0, 1],
        ],
        bool,
    )
    assert gaps(split, labels, "abcdef", frac=0.25) == [
        "b: absent from the data, cannot be learned, no scores",
        "c: absent from the training set at frac=0.25 (2 images at frac=1), cannot be learned; "
        "use a larger frac",
        "d: absent from the validation set, no validation scores",
        "d: absent from the test set, no test scores",
        "e: absent from the training set, cannot be learned",
        "f: absent from the training set, cannot be learned",
    ]


def test_vanished_by_hand() -> None:
    native = np.array([[1, 1, 0], [1, 1, 0], [0, 1, 1]], bool)
    small = np.array([[1, 0, 0], [0, 0, 0], [0, 1, 1]], bool)
    assert vanished(native, small, ("pits", "class 2", "patches"), (32, 64)) == [
        "At 32×64 the masks of class 1 (pits) vanish in 1 of 2 images, the masks of class 2 vanish "
        "in 2 of 3 images; the images keep their label."
    ]
    assert vanished(native, native, "abc", (32, 64)) == []


def test_a_share_of_less_than_an_image() -> None:
    split = table("train", *["unused"] * 199, "val", "test")
    require_training_image(split, 0.005)
    with pytest.raises(ConfigError, match=r"frac=0\.001: keeps none of the 200 .* 0\.005 or"):
        require_training_image(split, 0.001)


def test_a_sweep_says_which_masks_vanish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_specks(tmp_path / "steel")
    line = ["-m", "data=severstal", "data.root=steel", "data.size=[32,64]", "trainer=cpu"]
    cells = read_command([*line, "encoder.name=mobilenet_v2"], CONF)
    assert cells
    prepare(cells, Launcher("basic", "hydra.BasicLauncher", tmp_path))
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("At 32×64 the masks of class 2 vanish in 8 of 8 images; the images keep") == 1


def test_a_sweep_names_what_cannot_be_learnt_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / "steel", "masks", n=32)
    line = [
        "-m",
        "data=folder",
        "data.root=steel",
        "data.classes=[dent,scratch]",
        "trainer=cpu",
        "data.size=[64,64]",
    ]
    cells = read_command([*line, "frac=1.0,0.05", "encoder.name=mobilenet_v2"], CONF)
    assert cells
    prepare(cells, Launcher("basic", "hydra.BasicLauncher", tmp_path))
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "CLASSES ARE MISSING" in said
    assert said.count("scratch: absent from the data, cannot be learned") == 1
    missing = "dent: absent from the training set at frac=0.05 (6 images at frac=1), cannot be"
    assert said.count(missing) == 1
