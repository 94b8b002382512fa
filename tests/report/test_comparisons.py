"""Check comparisons with plain pandas, scipy, and a bootstrap written with loops."""

import runpy
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from studies import make_truth, write_grid, write_run
from tlunet.model.scores import PixelCounts, from_table, summarise
from tlunet.report.analysis.blocks import Block, Key, collect
from tlunet.report.analysis.comparisons import compare, kindred, pairs, protocol_pairs
from tlunet.report.analysis.resampled import Resampled, common_seeds, score_table, shares
from tlunet.report.analysis.statistics import estimate, holm, seed_variance
from tlunet.report.comparison_tables import sides_of
from tlunet.report.findings import headline

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "interval_coverage"
BALANCED = "tlunet.model.losses.BalancedLoss"
GROUPS = [*range(56), 18, 19, 19, 0]  # of 60 images: four near-duplicates


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "grid"
    return write_grid(folder, 60, encoders=("resnet",), groups=GROUPS)


@pytest.fixture(scope="module")
def block(grid: Path) -> Resampled:
    return Resampled(collect(grid).blocks[0], 100)


@pytest.fixture(scope="module")
def compared(block: Resampled) -> pd.DataFrame:
    return compare([block])


def counts_of(study: Path, init: str, frac: float = 1.0) -> list[PixelCounts]:
    runs = sorted(study.glob(f"resnet-{init}-{frac}-s*"))
    return [from_table(pd.read_parquet(run / "test_images.parquet")) for run in runs]


def flat(counts: PixelCounts) -> dict[str, float | None]:
    """Flatten ``summarise``: ``dice_class`` is the mean, ``dice_class_1`` the score of class 1."""
    out: dict[str, float | None] = {}
    for name, score in summarise(counts).items():
        if isinstance(score, dict) and "per_class" in score:
            out |= {f"{name}_{m}": value for m, value in score["per_class"].items()}
            out[name] = score["mean"]
        elif not isinstance(score, dict | list):
            out[name] = score
    return out


def row(table: pd.DataFrame, **which: Any) -> pd.Series:
    found = table[(table[list(which)] == list(which.values())).all(axis=1)]
    assert len(found) == 1
    return found.iloc[0]


@pytest.mark.parametrize("frac", [1.0, 0.5])
def test_means_and_differences_are_those_of_the_tables_on_disk(
    grid: Path, compared: pd.DataFrame, frac: float
) -> None:
    of = {i: pd.DataFrame(map(flat, counts_of(grid, i, frac))) for i in ("imagenet", "random")}
    means = {init: table.astype(float).mean() for init, table in of.items()}
    rows = compared[(compared["factor"] == "init") & (compared["frac"] == frac)]
    rows = rows.set_index("metric")
    assert set(rows.index) == set(means["random"].index) - {"n_images", "threshold"}
    for name, found in rows.iterrows():
        a, b = means["imagenet"][name], means["random"][name]
        assert [found["mean_a"], found["mean_b"]] == pytest.approx([a, b], abs=1e-12), name
        assert found["difference"] == pytest.approx(a - b, abs=1e-12), name
        assert found["relative"] == pytest.approx((a - b) / b), name
        assert found["low"] <= found["high"]
        sign = (found["low"] > 0) - (found["high"] < 0)
        assert found["verdict"] == {1: "higher", -1: "lower", 0: "undecided"}[sign], name


def test_scores_of_cells_are_means_over_seeds(grid: Path, block: Resampled) -> None:
    table = score_table([block])
    for frac in (1.0, 0.5):
        expected = pd.DataFrame(map(flat, counts_of(grid, "random", frac))).astype(float).mean()
        own = table[(table["init"] == "random") & (table["frac"] == frac)].set_index("metric")
        for name, found in own.iterrows():
            assert found["mean"] == pytest.approx(expected[name], abs=1e-12), name
        assert set(own["interval"]) == {"seeds and images"}
        assert set(own["n_seeds"]) == {3}


def test_what_is_compared(block: Resampled) -> None:
    found = {(factor, str(a.key), str(b.key)) for factor, a, b in pairs(block)}
    assert found == {
        ("init", "resnet · imagenet · 1.0", "resnet · random · 1.0"),
        ("init", "resnet · imagenet · 0.5", "resnet · random · 0.5"),
        ("frac", "resnet · random · 1.0", "resnet · random · 0.5"),
        ("frac", "resnet · imagenet · 1.0", "resnet · imagenet · 0.5"),
    }


def test_encoders_are_compared_with_those_before_them(tmp_path: Path) -> None:
    truth = make_truth(6)
    for encoder in ("vgg", "resnet", "densenet"):
        write_run(tmp_path, truth, encoder=encoder)
    found = pairs(Resampled(collect(tmp_path).blocks[0], 5))
    assert [(factor, a.key.encoder, b.key.encoder) for factor, a, b in found] == [
        ("encoder", "densenet", "resnet"), ("encoder", "vgg", "resnet"),
        ("encoder", "vgg", "densenet"),
    ]  # fmt: skip


def tiny(block: Block, cells: dict[tuple[str, int], list[int]]) -> Resampled:
    """A block of one class; each cell finds the given number of 10 defect pixels per image."""
    n = len(next(iter(cells.values())))
    truth, label = np.full((n, 1), 10), np.ones((n, 1), bool)
    counts, rows = [], []
    for (init, seed), found in cells.items():
        hits = np.array(found)[:, None]
        prob = np.full((n, 1), 0.9, np.float32)
        counts.append(PixelCounts(np.arange(n), hits, truth, hits, label, prob))
        rows.append(block.cells.iloc[0].to_dict() | {"init": init, "seed": seed})
    names, groups = tuple(f"{i}.jpg" for i in range(n)), np.arange(n)
    cut = replace(
        block, counts=tuple(counts), cells=pd.DataFrame(rows), classes=("pits",), image_ids=names,
        groups=groups,
    )  # fmt: skip
    return Resampled(cut, 400)


def test_shares_by_hand(block: Resampled) -> None:
    cells = {("random", 0): [5, 5, 5, 0], ("imagenet", 0): [6, 5, 4, 0],
             ("random", 1): [5, 5, 5, 0], ("imagenet", 1): [9, 6, 5, 0]}  # fmt: skip
    small = tiny(block.data, cells)
    a, b = (small.cell(Key("resnet", init, 1.0)) for init in ("imagenet", "random"))
    better, tied, worse = shares("dice_image", a, b)
    # Seed 0: one better, one worse, two tied; seed 1: two better, two tied.
    assert better[:, 0].tolist() == [1 / 4, 2 / 4]
    assert tied[:, 0].tolist() == [2 / 4, 2 / 4]
    assert worse[:, 0].tolist() == [1 / 4, 0]
    assert better + tied + worse == pytest.approx(np.ones((2, 401)))
    first = shares("dice_image", a, b, draws=1)  # the estimate without its replicates
    assert [s.tolist() for s in first] == [s[:, :1].tolist() for s in (better, tied, worse)]
    found = row(compare([small]), factor="init", metric="dice_image")
    assert [found["improved"], found["tied"], found["worse"]] == pytest.approx([3 / 8, 0.5, 1 / 8])
    dice = {f: 2 * f / (10 + f) for f in range(10)}
    d = [(dice[6] + dice[9]) / 2 - dice[5], (dice[6] - dice[5]) / 2, (dice[4] - dice[5]) / 2, 0.0]
    assert np.isnan(found["p"])  # two seeds: one training
    assert found["verdict"] == "one training"
    assert found["difference"] == pytest.approx(np.mean(d))
    assert found["interval"] == "images only"


def test_blocks_of_one_split_draw_the_same_images_once(block: Resampled) -> None:
    assert replace(block).draws is replace(block).draws
    assert replace(block, replicates=7).draws.shape == (8, len(block.data.image_ids))


def test_the_shares_are_those_of_a_table_of_pairs(grid: Path, compared: pd.DataFrame) -> None:
    def dice(init: str) -> np.ndarray:
        both = [
            2 * c.intersection.sum(1) / np.where(t := c.truth.sum(1) + c.predicted.sum(1), t, 1)
            for c in counts_of(grid, init)
        ]
        defective = counts_of(grid, init)[0].truth.any(1)
        return np.stack(both)[:, defective]  # (S, defective images)

    d = dice("imagenet") - dice("random")
    found = row(compared, factor="init", frac=1.0, metric="dice_image")
    assert found["improved"] == pytest.approx((d > 0).mean())
    assert found["tied"] == pytest.approx((d == 0).mean())
    assert found["worse"] == pytest.approx((d < 0).mean())
    assert [float(x) for x in found["by_seed"].split()] == pytest.approx(d.mean(1), rel=1e-5)


def test_only_primary_comparisons_have_a_p(compared: pd.DataFrame) -> None:
    primary = compared[compared["family"] == "primary"]
    assert set(primary["factor"]) == {"init"}
    assert set(primary["metric"]) == {"dice_image", "mla"}
    assert len(primary) == 4
    assert primary["p_holm"].to_numpy() == pytest.approx(holm(primary["p"]))
    rest = compared[compared["family"] == "exploratory"]
    assert rest[["p", "p_holm"]].isna().all(axis=None)
    is_clear = (primary["low"] > 0) | (primary["high"] < 0)
    assert ((primary["p"] < 0.05) == is_clear).all()


def test_the_interval_is_steadied_by_the_other_comparison_of_the_factor(
    block: Resampled, compared: pd.DataFrame
) -> None:
    a, b, other_a, other_b = (
        block.cell(Key("resnet", init, frac))
        for frac in (1.0, 0.5)
        for init in ("imagenet", "random")
    )
    by_seed = a.by_seed("mla", (0, 1, 2)) - b.by_seed("mla", (0, 1, 2))
    other = other_a.by_seed("mla", (0, 1, 2)) - other_b.by_seed("mla", (0, 1, 2))
    assert kindred("mla", a, b) == [seed_variance(other)]
    assert kindred("mla", a, other_b) == []  # two factors differ
    found = row(compared, factor="init", frac=1.0, metric="mla")
    assert [found["low"], found["high"], found["p"]] == pytest.approx(
        estimate(by_seed, [seed_variance(other)])[1:]
    )


def plain_dice(counts: PixelCounts) -> float:
    defective = counts.truth.sum(1) > 0
    both, areas = counts.intersection.sum(1), (counts.truth + counts.predicted).sum(1)
    return float((2 * both[defective] / areas[defective]).mean())


def plain_pooled(counts: PixelCounts) -> float:
    both, areas = counts.intersection.sum(0), (counts.truth + counts.predicted).sum(0)
    return float((2 * both / areas).mean())


def plain_accuracy(counts: PixelCounts) -> float:
    return float((counts.label == (counts.prob > 0.5)).mean())


def by_loops(
    a: list[PixelCounts], b: list[PixelCounts], score: Callable[[PixelCounts], float], R: int
) -> tuple[float, float]:
    """Draw groups, repeat rows, score again, average over seeds: the definition in plain loops."""
    rng, groups = np.random.default_rng(123), np.asarray(GROUPS)
    of_group = [np.flatnonzero(groups == g) for g in range(groups.max() + 1)]
    found = []
    for _ in range(R):
        drawn = rng.integers(0, len(of_group), len(of_group))
        images = np.concatenate([of_group[g] for g in drawn])
        differences = []
        for s in range(len(a)):
            first, second = (
                PixelCounts(*(value[images] for value in vars(counts).values()))
                for counts in (a[s], b[s])
            )
            differences.append(score(first) - score(second))
        found.append(np.mean(differences))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


@pytest.mark.parametrize(
    ("metric", "score"),
    [("dice_image", plain_dice), ("dice_pooled", plain_pooled),
     ("label_accuracy", plain_accuracy)],
)  # fmt: skip
def test_replicates_are_those_of_a_bootstrap_over_groups(
    grid: Path, metric: str, score: Callable[[PixelCounts], float]
) -> None:
    """Within Monte Carlo error.

    The standard error of an end is sqrt(p (1 - p) / R) divided by the density there: for a normal
    distribution 2.2% of the interval's width with 1000 replicates and 1.5% with 2000. Four times
    both combined is 11%.
    """
    a, b = (counts_of(grid, init) for init in ("imagenet", "random"))
    low, high = by_loops(a, b, score, 600)
    block = Resampled(collect(grid).blocks[0])
    first, second = (block.cell(Key("resnet", i, 1.0)).by_seed(metric, (0, 1, 2))
                     for i in ("imagenet", "random"))  # fmt: skip
    difference = (first - second).mean(0)
    assert difference[0] == pytest.approx(
        np.mean([score(x) - score(y) for x, y in zip(a, b, strict=True)])
    )
    found = np.quantile(difference[1:], [0.025, 0.975])
    assert found == pytest.approx([low, high], abs=0.13 * (high - low))


def test_under_three_seeds_the_interval_is_of_images_only(block: Resampled) -> None:
    """Two seeds that differ by a constant: no spread over images, so the interval has no width."""
    cells = {("random", 0): [5] * 6, ("random", 1): [5] * 6,
             ("imagenet", 0): [6] * 6, ("imagenet", 1): [9] * 6}  # fmt: skip
    found = row(compare([tiny(block.data, cells)]), factor="init", metric="dice_image")
    assert (found["n_seeds"], found["interval"]) == (2, "images only")
    assert found["low"] == pytest.approx(found["high"]) == pytest.approx(found["difference"])
    third = {("random", 2): [5] * 6, ("imagenet", 2): [6] * 6}
    found = row(compare([tiny(block.data, cells | third)]), factor="init", metric="dice_image")
    assert (found["n_seeds"], found["interval"]) == (3, "seeds and images")
    assert found["low"] < found["difference"] < found["high"]


def test_seeds_that_only_one_has_are_left_out(block: Resampled) -> None:
    cells = {("random", 0): [5] * 4, ("random", 7): [0] * 4,
             ("imagenet", 0): [6] * 4, ("imagenet", 3): [9] * 4}  # fmt: skip
    small = tiny(block.data, cells)
    a, b = (small.cell(Key("resnet", init, 1.0)) for init in ("imagenet", "random"))
    assert common_seeds(a, b) == (0,)
    found = row(compare([small]), factor="init", metric="dice_image")
    assert found["n_seeds"] == 1
    assert found["mean_a"] == pytest.approx(12 / 16)
    assert found["difference"] == pytest.approx(12 / 16 - 10 / 15)
    without = {key: value for key, value in cells.items() if key != ("imagenet", 0)}
    found = row(compare([tiny(block.data, without)]), factor="init", metric="dice_image")
    assert (found["n_seeds"], found["verdict"]) == (0, "undefined")
    assert np.isnan(found["difference"])


def test_gain_is_a_difference_of_differences(compared: pd.DataFrame) -> None:
    gains = compared[compared["factor"] == "gain"].set_index("metric")
    inits = compared[compared["factor"] == "init"].set_index(["frac", "metric"])["difference"]
    assert set(gains["difference_of"]) == {"gain with 0.5 − gain with 1.0"}
    assert len(gains) == compared["metric"].nunique()
    for metric, found in gains.iterrows():
        less, more = inits[0.5, metric], inits[1.0, metric]
        assert [found["mean_a"], found["mean_b"]] == pytest.approx([less, more], abs=1e-12)
        assert found["difference"] == pytest.approx(less - more, abs=1e-12)
        assert np.isnan(found["relative"])
        assert np.isnan(found["p"])


def test_of_many_protocols_each_is_compared_with_one_reference(tmp_path: Path) -> None:
    truth = make_truth(40)
    usual = {"fit": "stretch", "duplicates": "group", "balance": "even"}
    others = [{"fit": "pad"}, {"duplicates": "ignore"}, {"balance": "severstal", "fit": "pad"}]
    for seed in range(3):
        for k, data in enumerate([usual, *others]):
            more = {"data": usual | data, "science": {"k": k}, "tag": str(k)}
            write_run(tmp_path, truth, seed=seed, **more)
        write_run(tmp_path, truth, seed=seed, loss=BALANCED, data=usual, skill=0.95)
    blocks = [Resampled(block, 20) for block in collect(tmp_path).blocks]
    pairs = [(a.block, b.block) for _, a, b in protocol_pairs(blocks)]
    assert {id(b) for _, b in pairs} == {id(pairs[0][1])}
    reference = pairs[0][1].data.settings
    assert (reference["loss"], {k: reference[k] for k in usual}) == ("PaperLoss", usual)
    assert {id(a) for a, _ in pairs} | {id(pairs[0][1])} == {id(block) for block in blocks}
    sides = {sides_of(text) for text in compare(blocks)["difference_of"]}
    assert sides == {
        ("loss=BalancedLoss", "loss=PaperLoss"), ("fit=pad", "fit=stretch"),
        ("duplicates=ignore", "duplicates=group"),
        ("fit=pad · balance=severstal", "fit=stretch · balance=even"),
    }  # fmt: skip
    clear, together = (finding.says for finding in headline(blocks))
    assert clear.startswith("loss=BalancedLoss instead of loss=PaperLoss raises Dice from 0.")
    assert together == (
        "No clear change in Dice: fit=pad instead of fit=stretch, fit=pad · balance=severstal "
        "instead of fit=stretch · balance=even, duplicates=ignore instead of duplicates=group."
    )


def test_settings_follow_the_answer_on_initialisations(tmp_path: Path) -> None:
    for loss, skill in (("tlunet.model.losses.PaperLoss", 0.2), (BALANCED, 0.9)):
        for seed, init in product(range(3), ("random", "imagenet")):
            write_run(tmp_path, make_truth(40), seed=seed, init=init, loss=loss, skill=skill)
    blocks = [Resampled(block, 20) for block in collect(tmp_path).blocks]
    *_, first, last = headline(blocks)
    assert (first.place, first.is_main) == ("loss=PaperLoss", False)
    assert last.says.startswith("loss=BalancedLoss instead of loss=PaperLoss raises Dice from 0.")
    assert (last.place, last.is_main) == ("", False)


def test_protocols_are_compared_on_the_same_split_only(tmp_path: Path) -> None:
    truth = make_truth(60)
    write_run(tmp_path, truth)
    write_run(tmp_path, truth, loss=BALANCED, skill=0.95)
    other = {"data": {"split_seed": 1}, "facts": {"split_fingerprint": "9" * 64}}
    write_run(tmp_path, truth, tag="c", science={"split": "t"}, **other)
    blocks = [Resampled(block, 50) for block in collect(tmp_path).blocks]
    assert len(blocks) == 3
    ((factor, a, b),) = protocol_pairs(blocks)
    assert factor == "protocol"
    assert [cell.block.data.settings["loss"] for cell in (a, b)] == ["BalancedLoss", "PaperLoss"]
    found = compare(blocks)
    assert set(found["block"]) == {"between protocols"}
    one = row(found, metric="dice_image")
    expected = [summarise(from_table(pd.read_parquet(p)))["dice_image"]
                for p in (tmp_path / cell.block.data.cells["folder"].iloc[0] /
                          "test_images.parquet" for cell in (a, b))]  # fmt: skip
    assert [one["mean_a"], one["mean_b"]] == pytest.approx(expected)
    assert one["at"] == "resnet · random · 1.0"
    assert "loss=BalancedLoss" in one["difference_of"].split(" − ")[0]


def test_names_of_folders_change_nothing(
    grid: Path, compared: pd.DataFrame, tmp_path: Path
) -> None:
    for k, run in enumerate(sorted(grid.iterdir(), reverse=True)):
        shutil.copytree(run, tmp_path / f"x{k:02}")
        path = tmp_path / f"x{k:02}" / "test_images.parquet"
        pd.read_parquet(path).iloc[::-1].to_parquet(path, index=False)
    again = compare([Resampled(collect(tmp_path).blocks[0], 100)])
    pd.testing.assert_frame_equal(again, compared)


def test_nothing_to_compare() -> None:
    table = compare([])
    assert table.empty
    assert "p_holm" in table
    assert score_table([]).empty


@pytest.fixture(scope="module")
def recorded() -> pd.DataFrame:
    return pd.read_csv(EXPERIMENT / "results.csv").set_index(["seeds", "images", "seed_sd"])


def test_the_recorded_coverage_is_what_the_report_relies_on(recorded: pd.DataFrame) -> None:
    assert len(recorded) == 24
    assert recorded["report"].between(0.92, 0.985).all()  # 0.95 and three standard errors
    assert recorded.loc[(3, 840, 0.06), "crossed"] < 0.85
    assert recorded.loc[(3, 840, 0.06), "one_training"] < 0.4


def test_the_recorded_coverage_can_be_had_again(recorded: pd.DataFrame) -> None:
    """Agreement within four standard errors of both simulations."""
    simulation, trials = runpy.run_path(str(EXPERIMENT / "simulate.py")), 150
    rng = np.random.default_rng(5)
    found = simulation["coverage"](3, 60, [0.03], simulation["normal"], rng, trials)
    for name in ("report", "crossed", "one_training"):
        p = recorded.loc[(3, 60, 0.03), name]
        error = np.sqrt(p * (1 - p) * (1 / trials + 1 / simulation["TRIALS"]))
        assert found[name] == pytest.approx(p, abs=4 * error), name
        width = recorded.loc[(3, 60, 0.03), f"width_{name}"]
        assert found[f"width_{name}"] == pytest.approx(width, rel=0.15), name
