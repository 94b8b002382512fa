"""Images that stay on one side of the split: near-duplicates, coils, days, cameras."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import OnDisk
from tlunet.data.grouping.groups import alike_lines, group_images, kept_together, suspicious
from tlunet.data.split import fingerprint, make_split
from tlunet.errors import ConfigError, DataError
from tlunet.report.analysis import finished
from tlunet.report.analysis.bootstrap import draw_images

COIL = "^(coil[0-9]+)_"


def write(root: Path, names: list[str], twins: dict[str, str] | None = None) -> Path:
    """Different noise in every image, but for twins; every second one has a dent."""
    rng = np.random.default_rng(0)
    pictures = {name: rng.integers(0, 255, (64, 64), np.uint8) for name in names}
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for k, name in enumerate(names):
        picture = pictures[(twins or {}).get(name, name)]
        for part, pixels in (("images", picture), ("masks", np.full((64, 64), k % 2, np.uint8))):
            (root / part / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / part / name)
    return root


def coils(per_coil: int = 2, number: int = 16) -> list[str]:
    return [f"coil{c:02}_{k}.png" for c in range(number) for k in range(per_coil)]


def module(root: Path, **options: object) -> DefectDataModule:
    data = DefectDataModule(OnDisk("folder", root, ["dent"]), root.parent / "cache", **options)  # type: ignore[arg-type]
    data.prepare_data()
    data.setup()
    return data


def sides(split: pd.DataFrame, groups: pd.Series) -> int:
    """Return the largest number of subsets in which a group is."""
    return int(
        split["subset"].replace("unused", "train").groupby(groups.to_numpy()).nunique().max()
    )


def test_a_coil_stays_on_one_side(tmp_path: Path) -> None:
    root = write(tmp_path / "data", coils(4))
    table = tmp_path / "coils.csv"
    by_path = module(root, groups=COIL).split
    coil = by_path["image_id"].str.extract(COIL)[0]
    assert sides(module(root).split, coil) > 1
    assert sides(by_path, coil) == 1
    assert by_path["group"].nunique() == 16
    pd.DataFrame({"image": by_path["image_id"], "group": coil}).to_csv(table, index=False)
    by_table = module(root, groups=str(table)).split
    assert by_table.equals(by_path)
    assert fingerprint(by_path) != fingerprint(module(root).split)
    assert fingerprint(module(root, groups=None, duplicates="group").split) == fingerprint(
        make_split(by_path["image_id"], np.arange(64)[:, None] % 2, frac=1.0, seed=0)
    )


def test_groups_are_united_with_near_duplicates(tmp_path: Path) -> None:
    twins = {"coil01_0.png": "coil00_0.png", "coil02_1.png": "coil01_1.png"}
    data = module(write(tmp_path / "data", coils(), twins), groups=COIL)
    group = dict(zip(data.split["image_id"], data.split["group"], strict=True))
    assert len({group[name] for name in coils()[:6]}) == 1  # three coils
    assert data.split["group"].nunique() == 14
    alone = module(data.dataset.root, groups=COIL, duplicates="ignore")
    assert alone.split["group"].nunique() == 16
    assert module(data.dataset.root, duplicates="ignore").split["group"].nunique() == 32


def test_the_bootstrap_draws_whole_coils(tmp_path: Path) -> None:
    split = module(write(tmp_path / "data", coils(4)), groups=COIL).split
    split.to_csv(tmp_path / "split.csv", index=False)
    tested = split[split["subset"] == "test"]["image_id"].tolist()
    groups = finished._groups(tmp_path / "split.csv", tested)
    weights = draw_images(np.unique(groups, return_inverse=True)[1], 50)
    coil = pd.Series(tested).str.extract(COIL)[0].to_numpy()
    assert len(set(coil)) == 2
    assert len(np.unique(groups)) == 2
    for name in set(coil):
        own = weights[:, coil == name]
        assert (own == own[:, :1]).all()
    assert len(np.unique(weights)) > 1


def test_sub_folders_are_part_of_the_path(tmp_path: Path) -> None:
    names = [f"line{c}/camera{k % 2}/{k}.png" for c in range(8) for k in range(4)]
    data = module(write(tmp_path / "data", names), groups=r"^(.+)/")
    assert data.split["group"].nunique() == 16


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (
            "^(coil1[0-9])_",
            "data.groups=^(coil1[0-9])_: does not match 10 of 16 images: coil00_0.png",
        ),
        ("{}/short.csv", "short.csv: has no row for 1 of 16 images: coil15_0.png"),
        ("{}/none.csv", "none.csv: no such file; expected a table with the columns image,group"),
        ("{}/columns.csv", "columns.csv row 1: columns image,coil; expected a table with the colu"),
        ("{}/two.csv", "two.csv row 18: image 'coil00_0.png' is in group 'z', and above in 'x'"),
        ("{}/semi.csv", "semi.csv row 1: 'image;group'; expected commas between the columns"),
        (
            "{}/stems.csv",
            "has no row for 16 of 16 images: coil00_0.png, coil01_0.png, coil02_0.png, …; there is "
            "'images/coil00_0': correct the name",
        ),
        ("{}/blank.csv", "blank.csv row 18: image 'a.png', group ''; expected a name of each"),
    ],
)
def test_an_image_without_a_group(rule: str, says: str, tmp_path: Path) -> None:
    root = write(tmp_path / "data", coils(1))
    rows = [f"{name},x" for name in coils(1)]
    tables = {
        "short": ["image,group", *rows[:-1]], "columns": ["image,coil", *rows],
        "semi": ["image;group"], "stems": ["image,group", *(f"images/{r[:8]},x" for r in rows)],
        "two": ["image,group", *rows, "coil00_0.png,z"], "blank": ["image,group", *rows, "a.png,"],
    }  # fmt: skip
    for name, lines in tables.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))
    with pytest.raises(DataError) as caught:
        module(root, groups=rule.format(tmp_path))
    assert len(caught.value.lines) == 1
    assert says in caught.value.lines[0]


def test_rows_of_other_images_and_windows_paths_do_no_harm(tmp_path: Path) -> None:
    ids = ["a/x.png", "b.png"]
    table = tmp_path / "groups.CSV"
    assert group_images(ids, [0, 1], rule=None).tolist() == [0, 1]
    table.write_text("\ufeffimage,note,group\na\\x.png,,1\n\nb.png,,1\ngone.png,,2\n", "utf-8")
    assert group_images(ids, [0, 1], rule=str(table)).tolist() == [0, 0]


@pytest.mark.parametrize("rule", ["coil", "(", "(a)(b)", "(a", ""])
def test_a_rule_has_one_group(rule: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"data.groups={rule}: expected a regular exp")):
        DefectDataModule(OnDisk("folder", tmp_path), groups=rule)


def faces(root: Path) -> Path:
    """24 parts under a fixed camera: one picture, with a dent somewhere else each time."""
    names = [f"face{k:02}.png" for k in range(24)]
    root = write(root, names, dict.fromkeys(names, names[0]))
    for k, name in enumerate(names):
        image = np.array(Image.open(root / "images" / name))
        image[2 * k : 2 * k + 5, 10:15] = 0
        Image.fromarray(image).save(root / "images" / name)
    return root


def test_parts_under_a_fixed_camera(tmp_path: Path) -> None:
    root = faces(tmp_path / "data")
    with pytest.raises(DataError) as caught:
        module(root)
    assert caught.value.lines == (
        f"{root}: 24 images (1 group) are too few: no image is left for val; the largest group "
        "has 24 (face00.png, face01.png, face02.png, …), which look alike: if they show different "
        "parts under a fixed camera, or a background that fills the image, set "
        "data.duplicates=ignore",
    )
    data = module(root, duplicates="ignore")
    assert data.split["subset"].value_counts().to_dict() == {"train": 18, "val": 3, "test": 3}


def test_the_split_says_where_it_misses_its_sizes() -> None:
    ids = [f"{k:02}.png" for k in range(24)]
    labels = np.ones((24, 1))

    def lines(groups: np.ndarray, duplicates: str = "group", rule: str | None = None) -> list[str]:
        split = make_split(ids, labels, frac=0.5, seed=0, groups=groups)
        together = kept_together(split, rule=rule, official=False)
        return alike_lines(ids, groups, duplicates=duplicates) + together

    assert lines(np.arange(24)) == []
    thirds = lines(np.arange(24) // 8)
    assert thirds == [
        "21 images are near-duplicates of another (also flipped or rotated); the split keeps them "
        "on one side; the largest group has 8 (00.png, 01.png, 02.png, …); if they show different "
        "parts under a fixed camera, or a background that fills the image, set "
        "data.duplicates=ignore",
        "the split has 8/8/8 images (train/val/test), expected about 18/3/3: groups are not "
        "divided, and the largest has 8 (00.png, 01.png, 02.png, …)",
    ]
    [line] = suspicious(ids, np.arange(24) // 8)
    assert line.startswith(
        "8 images look alike (00.png, 01.png, 02.png, …): if they show different"
    )
    pairs = lines(np.arange(24) // 2)
    assert suspicious(ids, np.arange(24) // 2) == []
    assert len(pairs) == 1
    assert "the largest group has 2 (00.png, 01.png)" in pairs[0]
    assert "fixed camera" not in pairs[0]
    split = make_split(ids, labels, frac=1, seed=0, groups=np.arange(24) // 3)
    named = kept_together(split, rule=COIL, official=False)
    assert named[0] == (
        "data.groups: 8 groups stay on one side; the largest has 3 (00.png, 01.png, 02.png)"
    )
