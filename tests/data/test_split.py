"""The split: sizes, strata, groups, nested fractions, and dependence on the seed only."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlunet.data import split as split_module
from tlunet.data.split import fingerprint, make_split

FRACTIONS = (0.75, 0.125, 0.125)
PARTS = ("train", "val", "test")


def _names(n: int) -> list[str]:
    return [f"{i:05d}.jpg" for i in range(n)]


def _part(split: pd.DataFrame, name: str) -> np.ndarray:
    """Rows of a subset; training images that a fraction excludes belong to train."""
    subset = split["subset"].replace("unused", "train")
    return (subset == name).to_numpy()


def _excess(split: pd.DataFrame, traits: np.ndarray) -> np.ndarray:
    """Count of each trait in each subset minus its exact target: (subsets, traits)."""
    rows = [
        traits[_part(split, p)].sum(0) - f * traits.sum(0)
        for p, f in zip(PARTS, FRACTIONS, strict=True)
    ]
    return np.array(rows)


def _straddling(split: pd.DataFrame) -> int:
    sides = split["subset"].replace("unused", "train").groupby(split["group"]).nunique()
    return int((sides > 1).sum())


@pytest.fixture(scope="module")
def severstal(real: Path) -> tuple[list[str], np.ndarray]:
    table = pd.read_csv(real / "severstal_sample" / "labels_12568.csv")
    return table["ImageId"].tolist(), table[["1", "2", "3", "4"]].to_numpy(bool)


@st.composite
def tables(draw: st.DrawFn, groups: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Labels of 24 to 90 images, with classes of any rarity and groups of conflicting labels."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(24, 90))
    labels = rng.random((n, draw(st.integers(1, 5)))) < rng.random()
    if not groups:
        return labels, None
    sizes = rng.integers(1, 6, n)
    return labels, rng.permutation(np.repeat(np.arange(n), sizes)[:n])


# --- on the real label table ------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_real_shares(severstal: tuple[list[str], np.ndarray], seed: int) -> None:
    ids, labels = severstal
    split = make_split(ids, labels, frac=1.0, seed=seed)
    assert list(split.columns) == ["image_id", "subset", "group"]
    assert split["image_id"].tolist() == ids
    assert split["subset"].value_counts().to_dict() == {"train": 9426, "val": 1571, "test": 1571}
    assert np.abs(_excess(split, labels)).max() <= 1  # far less than 5%: class 2 has 247 images
    _, stratum = np.unique(labels, axis=0, return_inverse=True)
    assert np.abs(_excess(split, np.eye(stratum.max() + 1)[stratum])).max() <= 1.5


def test_real_groups_of_conflicting_labels(severstal: tuple[list[str], np.ndarray]) -> None:
    ids, labels = severstal
    rng = np.random.default_rng(5)
    group = np.arange(len(ids))
    together = rng.permutation(len(ids))[:4000]
    group[together] = together[np.repeat(np.arange(4000), rng.integers(2, 6, 4000))[:4000]]
    split = make_split(ids, labels, frac=1.0, seed=0, groups=group)
    assert _straddling(split) == 0
    assert np.abs(_excess(split, np.ones((len(ids), 1)))).max() <= 1
    excess = np.abs(_excess(split, labels))
    assert excess.max() <= 3
    assert excess[:, 1].max() <= 2


def test_real_fractions(severstal: tuple[list[str], np.ndarray]) -> None:
    ids, labels = severstal
    _, stratum = np.unique(labels, axis=0, return_inverse=True)
    whole = make_split(ids, labels, frac=1.0, seed=0)
    share = np.bincount(stratum[_part(whole, "train")])
    before = set(ids)
    for frac in (0.9, 0.5, 0.37, 0.05):
        split = make_split(ids, labels, frac=frac, seed=0)
        train = (split["subset"] == "train").to_numpy()
        assert train.sum() == round(frac * 9426)
        kept = np.bincount(stratum[train], minlength=len(share))
        assert np.abs(kept - frac * share).max() < 1.5
        images = set(split["image_id"][train])
        assert images <= before
        before = images


# --- on random tables -------------------------------------------------------------------------


@settings(deadline=None, max_examples=25, derandomize=True)
@given(tables(groups=False), st.integers(0, 99))
def test_shares(table: tuple[np.ndarray, None], seed: int) -> None:
    labels, _ = table
    split = make_split(_names(len(labels)), labels, frac=1.0, seed=seed)
    assert np.abs(_excess(split, np.ones((len(labels), 1)))).max() <= 1
    assert np.abs(_excess(split, labels)).max() <= 3


@settings(deadline=None, max_examples=25, derandomize=True)
@given(tables(groups=True), st.integers(0, 99))
def test_groups_stay_together(table: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    labels, group = table
    split = make_split(_names(len(labels)), labels, frac=0.5, seed=seed, groups=group)
    assert split["group"].tolist() == group.tolist()
    assert _straddling(split) == 0
    assert np.abs(_excess(split, np.ones((len(labels), 1)))).max() <= 3


@settings(deadline=None, max_examples=25, derandomize=True)
@given(tables(groups=True), st.floats(0.01, 1), st.floats(0.01, 1))
def test_fractions_are_nested(
    table: tuple[np.ndarray, np.ndarray], one: float, other: float
) -> None:
    labels, group = table
    ids = np.array(_names(len(labels)))
    small, large = (
        make_split(ids, labels, frac=frac, seed=1, groups=group) for frac in sorted((one, other))
    )
    train = (large["subset"] == "train").to_numpy()
    assert train.sum() == max(1, round(max(one, other) * _part(large, "train").sum()))
    assert set(ids[small["subset"] == "train"]) <= set(ids[train])
    for name in PARTS:  # only the training set gets smaller
        np.testing.assert_array_equal(_part(small, name), _part(large, name))
    assert set(large["subset"][_part(large, "train")]) <= {"train", "unused"}
    assert fingerprint(small) == fingerprint(large)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(tables(groups=True), st.booleans(), st.randoms(use_true_random=False))
def test_order_does_not_matter(
    table: tuple[np.ndarray, np.ndarray], grouped: bool, random: object
) -> None:
    labels, group = table
    ids = np.array(_names(len(labels)), dtype=object)
    new = np.random.default_rng(random.randint(0, 999)).permutation(len(ids))  # type: ignore[attr-defined]
    kwargs = {"frac": 0.5, "seed": 3}
    split = make_split(ids, labels, groups=group if grouped else None, **kwargs)
    # Groups are also renamed: only membership matters.
    renamed = (1000 - group)[new] if grouped else None
    turned = make_split(ids[new], labels[new], groups=renamed, **kwargs)
    assert turned["image_id"].tolist() == ids[new].tolist()
    assert turned["subset"].tolist() == split["subset"].to_numpy()[new].tolist()
    if not grouped:
        assert turned["group"].tolist() == split["group"].to_numpy()[new].tolist()
    assert fingerprint(turned) == fingerprint(split)


def test_the_seed_decides() -> None:
    labels = np.ones((64, 1), bool)
    one, same, other = (make_split(_names(64), labels, frac=1.0, seed=s) for s in (0, 0, 1))
    pd.testing.assert_frame_equal(one, same)
    assert one["subset"].tolist() != other["subset"].tolist()
    assert fingerprint(one) != fingerprint(other)


def test_a_frozen_split() -> None:
    """The same on every machine and in every version, so that old results stay comparable."""
    labels = np.arange(48).reshape(-1, 1) % 3 == 0
    split = make_split(_names(48), labels, frac=0.5, seed=0)
    assert fingerprint(split) == "ff6ed947480e98c779e01ba0b3692455b170bea0c6d677222787e6b9c9f4fc85"


def test_cells_of_a_sweep_share_the_dealing(monkeypatch: pytest.MonkeyPatch) -> None:
    names, labels = [f"{i:03}.png" for i in range(80)], np.arange(80)[:, None] % [2, 3] == 0
    dealt = []
    deal = split_module._deal
    monkeypatch.setattr(split_module, "_deal", lambda *a: dealt.append(1) or deal(*a))
    split_module._dealt.cache_clear()
    first = make_split(names, labels, frac=1.0, seed=3)
    half = make_split(names, labels, frac=0.5, seed=3)
    assert len(dealt) == 1
    first.loc[:, "subset"] = "train"  # a caller's table is its own
    assert make_split(names, labels, frac=0.5, seed=3).equals(half)
    changed = labels.copy()
    changed[0, 0] = not changed[0, 0]
    for images, seed in ((labels, 4), (changed, 3)):
        make_split(names, images, frac=0.5, seed=seed)
    make_split(names, labels, frac=0.5, seed=3, groups=np.arange(80) // 2)
    assert len(dealt) == 4


def test_at_least_one_image_trains() -> None:
    split = make_split(_names(16), np.ones((16, 1)), frac=0.001, seed=0)
    assert (split["subset"] == "train").sum() == 1


def test_other_fractions() -> None:
    split = make_split(_names(100), np.ones((100, 1)), frac=1.0, seed=0, fractions=(0.5, 0.2, 0.3))
    assert [int(_part(split, p).sum()) for p in PARTS] == [50, 20, 30]


# --- the published test set -------------------------------------------------------------------


def test_official_part() -> None:
    labels = np.arange(100).reshape(-1, 1) % 2 == 0
    official = ["test" if i >= 80 else "train" for i in range(100)]
    group = np.arange(100)
    group[[90, 3, 4]] = 90  # two training images are near-duplicates of a test image
    group[[5, 6]] = 5  # these only of each other
    split = make_split(_names(100), labels, frac=1.0, seed=0, groups=group, official=official)
    subset = split["subset"].to_numpy()
    assert set(np.flatnonzero(subset == "test")) == set(range(80, 100))
    assert set(np.flatnonzero(subset == "unused")) == {3, 4}
    assert abs((subset == "val").sum() - 78 / 8) <= 1
    assert subset[5] == subset[6]

    half = make_split(_names(100), labels, frac=0.5, seed=0, groups=group, official=official)
    assert (half["subset"] == "train").sum() == round(0.5 * (subset == "train").sum())
    assert (half["subset"].to_numpy() == "val").tolist() == (subset == "val").tolist()
    assert set(half["subset"][[3, 4]]) == {"unused"}
    assert fingerprint(half) == fingerprint(split)


# --- the fingerprint --------------------------------------------------------------------------


def test_fingerprint_by_hand() -> None:
    split = pd.DataFrame(
        {"image_id": ["b", "a", "c"], "subset": ["unused", "train", "test"], "group": [7, 7, 1]}
    )
    # printf 'a\ta\ttrain\nb\ta\ttrain\nc\tc\ttest\n' | sha256sum
    assert fingerprint(split) == "83a2b1180a4f0c3cf5a3009ee71fe4630635a889f82ee8ea71156ba4ce677ab2"


@pytest.mark.parametrize(
    ("column", "row", "value"), [("subset", 0, "val"), ("image_id", 0, "z"), ("group", 1, 3)]
)
def test_fingerprint_sees_every_column(column: str, row: int, value: object) -> None:
    split = pd.DataFrame(
        {"image_id": ["b", "a", "c"], "subset": ["train", "train", "test"], "group": [7, 7, 1]}
    )
    changed = split.copy()
    changed.loc[row, column] = value
    assert fingerprint(changed) != fingerprint(split)


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"frac": 0}, "frac=0: expected a fraction above 0 and at most 1"),
        ({"frac": 1.1}, "frac=1.1: expected"),
        ({"frac": float("nan")}, "frac=nan: expected"),
        ({"fractions": (0.5, 0.2, 0.2)}, r"fractions=\(0.5, 0.2, 0.2\): expected three fractions"),
        ({"fractions": (1.0, 0.0, 0.0)}, "expected three fractions above 0 that sum to 1"),
        ({"labels": np.ones((15, 1))}, "15 labels for 16 images"),
        ({"labels": np.ones(16)}, r"labels of shape \(16,\): expected \(images, classes\)"),
        ({"groups": [1, 2]}, "2 groups for 16 images"),
        ({"official": ["test"]}, "1 official for 16 images"),
        ({"image_ids": ["a", *_names(14), "a"]}, "image 'a' is listed 2 times"),
        ({"groups": [0] * 16}, r"16 images \(1 group\) are too few: .* for val"),
        ({"official": ["train"] * 16}, "the official split has no test images"),
        ({"official": ["test"] * 16}, "the official split has no train images"),
        ({"official": ["train"] * 8 + ["Test"] * 8}, "official subset 'Test': expected 'train'"),
    ],
)
def test_faults(changed: dict[str, object], said: str) -> None:
    given_: dict[str, object] = {
        "image_ids": _names(16),
        "labels": np.ones((16, 1)),
        "frac": 1.0,
        "seed": 0,
    }
    with pytest.raises(ValueError, match=said) as fault:
        make_split(**(given_ | changed))  # type: ignore[arg-type]
    assert "\n" not in str(fault.value)


def test_three_groups_fill_three_parts() -> None:
    group = np.repeat([0, 1, 2], [10, 8, 6])
    split = make_split(_names(24), np.eye(24) > 0, frac=1.0, seed=0, groups=group)
    assert [set(split["subset"][group == g]) for g in range(3)] == [{"train"}, {"val"}, {"test"}]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_images(n: int) -> None:
    with pytest.raises(ValueError, match="too few: no image is left for"):
        make_split(_names(n), np.ones((n, 1)), frac=1.0, seed=0)
