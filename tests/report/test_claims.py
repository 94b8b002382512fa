"""Judge claims in studies with known answers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from studies import make_truth, write_run
from tlunet.errors import ConfigError
from tlunet.model.scores import PixelCounts
from tlunet.report.analysis.answers import ANSWERS
from tlunet.report.analysis.blocks import Block, collect
from tlunet.report.analysis.claims import find_claims, judge, read_claims
from tlunet.report.analysis.resampled import Resampled
from tlunet.report.document.document import Entry
from tlunet.report.tables import claim_table
from tlunet.report.values import times

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
PAPER = EXPERIMENTS / "tlunet_paper" / "claims.yaml"
N = 40
A = {"encoder": "resnet", "init": "imagenet", "frac": 1.0}
B = {"init": "random"}
GRID = [(e, i, f) for e in ("resnet", "densenet") for i in ("random", "imagenet")
        for f in (1.0, 0.5)]  # fmt: skip


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Block:
    """A block that tests fill with their own data."""
    folder = tmp_path_factory.mktemp("studies")
    write_run(folder, make_truth(6))
    return collect(folder).blocks[0]


def found_in(area: float, seed: int, noise: float = 0.02, classes: int = 2) -> PixelCounts:
    """A network that finds about this fraction of 1000 pixels; every fourth image lacks a class."""
    rng = np.random.default_rng(seed)
    label = np.ones((N, classes), bool)
    for m in range(classes):
        label[m::4, m] = False
    truth = np.where(label, 1000, 0)
    share = np.clip(area + noise * rng.normal(size=label.shape), 0, 1)
    hits = (truth * share).astype(int)
    prob = np.clip(0.5 + (label - 0.5) * (area + 0.3 * rng.normal(size=label.shape)), 0.01, 0.99)
    return PixelCounts(np.arange(N), hits, truth, hits, label, prob.astype(np.float32))


def study(
    template: Block,
    cells: dict[tuple[str, str, float], float],
    seeds: tuple[int, ...] = (0, 1, 2),
    noise: float = 0.02,
    classes: int = 2,
    **more: Any,
) -> Resampled:
    """A block whose cells find the given fraction of the defects."""
    rows, counts, history = [], [], []
    for k, ((encoder, init, frac), area) in enumerate(cells.items()):
        for seed in seeds:
            factors = {"encoder": encoder, "init": init, "frac": frac, "seed": seed}
            rows.append(template.cells.iloc[0].to_dict() | factors)
            counts.append(found_in(area, 100 * k + seed, noise, classes))
            curve = {"epoch": [1, 0], "val_dice": [area + 0.001 * seed, 1 - area + 0.001 * seed]}
            history.append(pd.DataFrame(curve).assign(val_mla=area, **factors))
    block = replace(
        template, cells=pd.DataFrame(rows), counts=tuple(counts), history=pd.concat(history),
        classes=tuple("abcd"[:classes]), image_ids=tuple(f"{i:03}" for i in range(N)),
        groups=np.arange(N), **more,
    )  # fmt: skip
    return Resampled(block, 300)


def verdict(block: Resampled | list[Resampled], **claim: Any) -> pd.Series:
    claim = {"id": "c", "says": "…", "where": None, "note": None, "a": A, "b": B} | claim
    blocks = block if isinstance(block, list) else [block]
    table = judge([claim], blocks)
    assert len(table) == 1
    return table.iloc[0]


RESNET = {("resnet", "random", 1.0): 0.5, ("resnet", "imagenet", 1.0): 0.7}
DICE = {a: 2 * a / (1 + a) for a in (0.5, 0.7)}  # if there are no false positives
GAIN = DICE[0.7] - DICE[0.5]


def test_a_difference_that_is_there(template: Block) -> None:
    block = study(template, RESNET)
    found = verdict(block, kind="difference", metric="dice_image", number=GAIN)
    assert (found["direction"], found["size"]) == ("supported", "supported")
    assert found["value"] == pytest.approx(GAIN, abs=0.01)
    assert found["low"] < found["value"] < found["high"]
    assert (found["n_seeds"], found["interval"]) == (3, "seeds and images")
    assert found["case"] == "resnet · imagenet · 1.0 vs. resnet · random · 1.0"
    assert found["block"] == block.data.title
    table = judge([{"id": "c", "says": "", "kind": "difference", "metric": "mla", "a": A}], [block])
    assert pd.isna(table["size"].iloc[0])  # no number, no verdict on size


def test_a_difference_of_another_size_and_of_another_sign(template: Block) -> None:
    block = study(template, RESNET)
    found = verdict(block, kind="difference", metric="dice_image", number=0.5)
    assert (found["direction"], found["size"]) == ("supported", "contradicted")
    turned = {"a": A | B, "b": {"init": "imagenet"}}
    found = verdict(block, kind="difference", metric="dice_image", number=GAIN, **turned)
    assert (found["direction"], found["size"]) == ("contradicted", "contradicted")


def test_a_difference_that_cannot_be_told(template: Block) -> None:
    block = study(template, dict.fromkeys(RESNET, 0.6), noise=0.2)
    found = verdict(block, kind="difference", metric="dice_image", number=0.4)
    assert (found["direction"], found["size"]) == ("inconclusive", "contradicted")


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_verdicts_need_three_seeds(template: Block, seeds: tuple[int, ...]) -> None:
    for number in (GAIN, 0.9):
        found = verdict(
            study(template, RESNET, seeds), kind="difference", metric="dice_image", number=number
        )
        assert (found["direction"], found["size"]) == ("one training", "one training")
        assert found["interval"] == "images only"


def test_relative(template: Block) -> None:
    ratio = DICE[0.7] / DICE[0.5] - 1
    found = verdict(study(template, RESNET), kind="relative", metric="dice_image", number=ratio)
    assert (found["direction"], found["size"]) == ("supported", "supported")
    assert found["value"] == pytest.approx(ratio, abs=0.02)
    worse = {key: 1.2 - area for key, area in RESNET.items()}
    found = verdict(study(template, worse), kind="relative", metric="dice_image", number=ratio)
    assert (found["direction"], found["size"]) == ("contradicted", "contradicted")


def test_several_pairs_are_averaged_or_must_each_hold(template: Block) -> None:
    cells = RESNET | {("densenet", "random", 1.0): 0.5, ("densenet", "imagenet", 1.0): 0.5}
    cells["densenet", "imagenet", 1.0] = 0.4
    block = study(template, cells)
    both = {"a": A | {"encoder": ["resnet", "densenet"]}, "kind": "difference"}
    mean = verdict(block, metric="dice_image", **both)
    small = 2 * 0.4 / 1.4 - DICE[0.5]
    assert mean["value"] == pytest.approx((GAIN + small) / 2, abs=0.01)
    assert mean["direction"] == "supported"
    weakest = verdict(block, metric="dice_image", every=True, **both)
    assert weakest["direction"] == "contradicted"
    assert weakest["value"] == pytest.approx(small, abs=0.01)
    assert weakest["case"].endswith("(weakest of 2)")
    assert "densenet" in weakest["case"]
    two = verdict(block, metric=["dice_image", "iou_image"], every=True, **both)
    assert two["case"].endswith("(weakest of 4)")


def test_at_most(template: Block) -> None:
    block = study(template, RESNET)
    at_most = {"kind": "at_most", "metric": "dice_image"}
    assert verdict(block, margin=GAIN + 0.1, **at_most)["direction"] == "supported"
    assert verdict(block, margin=GAIN - 0.1, **at_most)["direction"] == "contradicted"
    near = verdict(block, margin=GAIN, **at_most)
    assert near["direction"] == "inconclusive"
    assert near["low"] < near["value"] < near["high"]
    assert near["value"] == pytest.approx(GAIN, abs=0.01)


def test_improved(template: Block) -> None:
    block = study(template, RESNET)
    found = verdict(block, kind="improved", metric="dice_image", number=1.0)
    assert (found["value"], found["direction"], found["size"]) == (1.0, "supported", "supported")
    found = verdict(block, kind="improved", metric="dice_image", number=0.81)
    assert found["size"] == "contradicted"
    turned = {"a": A | B, "b": {"init": "imagenet"}}
    found = verdict(block, kind="improved", metric="dice_image", number=0.81, **turned)
    assert (found["value"], found["direction"]) == (0.0, "contradicted")
    chance = study(template, dict.fromkeys(RESNET, 0.6), noise=0.1)
    assert verdict(chance, kind="improved", metric="dice_image")["direction"] == "inconclusive"
    found = verdict(block, kind="improved", metric="auc")
    assert (found["direction"], found["case"]) == ("not measured", "auc is not a mean over images")


@pytest.mark.parametrize(("half", "expected"), [(0.8, "supported"), (0.55, "contradicted")])
def test_growth(template: Block, half: float, expected: str) -> None:
    cells = RESNET | {("resnet", "random", 0.5): 0.4, ("resnet", "imagenet", 0.5): half}
    cells["resnet", "random", 0.5] = 0.5
    found = verdict(
        study(template, cells), kind="growth", metric="dice_image", a=A | {"frac": 0.5},
        than={"frac": 1.0},
    )  # fmt: skip
    assert found["direction"] == expected
    dice = 2 * half / (1 + half) - DICE[0.5]
    assert found["value"] == pytest.approx(dice - GAIN, abs=0.01)


def test_the_relative_gain_can_grow_while_the_gain_shrinks(template: Block) -> None:
    """0.5 → 0.7 with all data, 0.2 → 0.35 with half: a smaller gain of a much smaller level."""
    cells = RESNET | {("resnet", "random", 0.5): 0.2, ("resnet", "imagenet", 0.5): 0.35}
    block = study(template, cells)
    claim = {"metric": "dice_image", "a": A | {"frac": 0.5}, "than": {"frac": 1.0}}
    dice = [2 * area / (1 + area) for area in (0.5, 0.7, 0.2, 0.35)]
    relative = dice[3] / dice[2] - dice[1] / dice[0]
    found = verdict(block, kind="relative_growth", number=relative, **claim)
    assert found["value"] == pytest.approx(relative, abs=0.03)
    assert (found["direction"], found["size"]) == ("supported", "supported")
    assert found["low"] < relative < found["high"]
    shown = claim_table(pd.DataFrame([found])).rows[0]
    assert [shown[1].text, shown[2].text[:4]] == [f"{relative:+.0%}", f"{found['value']:+.0%}"]
    turned = verdict(block, kind="relative_growth", **claim | {"a": A, "than": {"frac": 0.5}})
    assert turned["direction"] == "contradicted"


def test_best(template: Block) -> None:
    cells = RESNET | {("densenet", "random", 1.0): 0.3, ("densenet", "random", 0.5): 0.99}
    block = study(template, cells)
    found = verdict(block, kind="best", metric="dice_image")
    assert found["direction"] == "supported"  # the cell with less data is not compared
    assert found["case"].endswith("vs. resnet · random · 1.0 (weakest of 2)")
    assert verdict(block, kind="best", metric="dice_image", a=A | B)["direction"] == "contradicted"
    alone = study(template, {("resnet", "imagenet", 1.0): 0.7})
    found = verdict(alone, kind="best", metric="dice_image")
    assert (found["direction"], found["case"]) == ("not measured", "nothing to compare it with")


def by_class(template: Block, areas: list[float]) -> Resampled:
    """Classes of which the given fraction is found; the last is the rarest."""
    block = study(template, {("resnet", "imagenet", 1.0): 0.5}, classes=len(areas))
    counts = []
    for own in block.data.counts:
        label = own.label.copy()
        label[:20, -1] = False
        truth = np.where(label, 1000, 0)
        hits = (truth * np.asarray(areas)).astype(int)
        counts.append(PixelCounts(own.index, hits, truth, hits, label, own.prob))
    return Resampled(replace(block.data, counts=tuple(counts)), 100)


def test_classes(template: Block) -> None:
    block = by_class(template, [0.9, 0.8, 0.2])
    claim = {"kind": "classes", "metric": "dice_class"}
    found = verdict(block, higher=[1, 2], lower=[3], **claim)
    assert found["direction"] == "supported"
    assert found["case"] == "resnet · imagenet · 1.0: class 2 vs. 3 (weakest of 2)"
    assert verdict(block, higher=[3], lower=[1], **claim)["direction"] == "contradicted"
    found = verdict(block, higher=[1], lower=[4], **claim)
    assert (found["direction"], found["size"]) == ("not measured", None)
    assert found["case"] == "no score dice_class_4 in this data set"


def test_rarest(template: Block) -> None:
    claim = {"kind": "rarest", "metric": "dice_class"}
    found = verdict(by_class(template, [0.9, 0.8, 0.2]), **claim)
    assert found["direction"] == "supported"
    assert "minus class 3" in found["case"]
    assert verdict(by_class(template, [0.2, 0.3, 0.9]), **claim)["direction"] == "contradicted"


def test_median_is_by_order_alone(template: Block) -> None:
    block = study(template, RESNET)
    found = verdict(block, kind="median", metric="dice_image")
    assert found["direction"] == "supported"
    assert found["value"] == pytest.approx(GAIN, abs=0.01)
    assert np.isnan(found["low"])
    assert found["interval"] == "by order, no interval"
    turned = {"a": A | B, "b": {"init": "imagenet"}}
    found = verdict(block, kind="median", metric=["dice_image", "iou_image"], **turned)
    assert found["direction"] == "contradicted"


def test_smallest_box(template: Block) -> None:
    narrow = study(template, RESNET, noise=0.01)
    wide = study(template, dict.fromkeys(RESNET, 0.6), noise=0.15)
    counts = (*wide.data.counts[:3], *narrow.data.counts[3:])
    block = Resampled(replace(narrow.data, counts=counts), 50)
    claim = {"kind": "smallest_box", "metric": "dice_image"}
    found = verdict(block, **claim)
    values = [np.concatenate([block.images[k]["dice_image"] for k in rows])
              for rows in ((0, 1, 2), (3, 4, 5))]  # fmt: skip
    heights = [np.subtract(*np.nanquantile(v, [0.75, 0.25])) for v in values]
    assert found["direction"] == "supported"
    assert found["value"] == pytest.approx(heights[0] - heights[1])
    assert verdict(block, a=A | B, **claim)["direction"] == "contradicted"
    wide = [np.subtract(*np.nanquantile(v, [0.875, 0.125])) for v in values]
    assert verdict(block, box=0.75, **claim)["value"] == pytest.approx(wide[0] - wide[1])


def test_complex(template: Block) -> None:
    """Images 0 to 19 have simple defects that are found, the others ragged ones that are not."""
    block = study(template, RESNET)
    counts = []
    for own in block.data.counts:
        hits = own.intersection.copy()
        hits[20:] //= 4
        counts.append(PixelCounts(own.index, hits, own.truth, hits, own.label, own.prob))
    block = Resampled(replace(block.data, counts=tuple(counts)), 300)
    ragged = np.where(np.arange(N) < 20, 1.1, 5.0) + np.arange(N) / 1000
    block.__dict__["shapes"] = {"raggedness": ragged, "components": np.where(ragged < 2, 1.0, 7.0)}
    found = verdict(block, kind="complex", metric="dice_image")
    assert found["direction"] == "supported"
    assert found["case"].endswith("(weakest of 2)")
    dice = block.images[3]["dice_image"]  # of ImageNet, seed 0
    assert found["value"] == pytest.approx(np.nanmean(dice[:20]) - np.nanmean(dice[20:]), abs=0.03)
    block.__dict__["shapes"] = {"components": np.ones(N)}
    found = verdict(block, kind="complex", metric="dice_image")
    assert found["case"] == "components hardly varies between the images"
    found = verdict(study(template, RESNET), kind="complex", metric="dice_image")
    assert (found["direction"], found["case"]) == ("not measured", "the study folder is not known")


def test_faster(template: Block) -> None:
    """ImageNet reaches 0.5, the best of random, in its second epoch; random in its first."""
    block, claim = study(template, RESNET), {"kind": "faster", "metric": "val_dice"}
    found = verdict(block, **claim)
    assert (found["value"], found["direction"]) == (-1.0, "contradicted")
    turned = {"a": A | B, "b": {"init": "imagenet"}}
    found = verdict(block, **claim, **turned)  # random never reaches 0.7: two epochs are not enough
    assert (found["value"], found["interval"]) == (-1.0, "seeds only (t)")


def test_curve(template: Block) -> None:
    """The curves of ImageNet end higher (0.7 vs. 0.5) and start lower (0.3 vs. 0.5)."""
    block, claim = study(template, RESNET), {"kind": "curve", "metric": "val_dice"}
    last = verdict(block, epoch="last", **claim)
    assert (last["direction"], last["interval"]) == ("supported", "seeds only (t)")
    assert last["value"] == pytest.approx(0.2)
    first = verdict(block, epoch="first", **claim)
    assert first["direction"] == "contradicted"
    assert first["value"] == pytest.approx(-0.2)
    two = verdict(study(template, RESNET, (0, 1)), epoch="last", **claim)
    assert two["direction"] == "one training"


CURVE = {("resnet", "random", f): a for f, a in ((1.0, 0.7), (0.5, 0.6), (0.25, 0.4))}


@pytest.mark.parametrize(
    ("area", "expected"), [(0.6, "supported"), (0.45, "inconclusive"), (0.3, "contradicted")]
)
def test_label_worth(template: Block, area: float, expected: str) -> None:
    """ImageNet with a quarter is as good as random with half: two times the labels."""
    noise = 0.3 if expected == "inconclusive" else 0.01
    block = study(template, CURVE | {("resnet", "imagenet", 0.25): area}, noise=noise)
    quarter = A | {"frac": 0.25}
    found = verdict(block, kind="label_worth", metric="dice_image", a=quarter, number=2.0)
    assert found["direction"] == expected
    if expected == "supported":
        assert found["value"] == pytest.approx(2.0, abs=0.1)
        assert 1 < found["low"] <= found["value"] <= found["high"] < 3
        assert found["case"].endswith("imagenet · 0.25 vs. random with 0.25, 0.5, 1.0")
        assert claim_table(pd.DataFrame([found])).rows[0][1:3] == (
            Entry("2.0×", 2.0), Entry(times(*found[["value", "low", "high"]]), found["value"]),
        )  # fmt: skip
    if expected == "contradicted":  # below random's curve with the smallest fraction
        assert found["value"] == 0
        assert found["high"] <= 1


def test_label_worth_that_is_not_measured(template: Block) -> None:
    found = verdict(study(template, RESNET), kind="label_worth", metric="dice_image")
    assert found["case"] == "random weights were not trained on several fractions"
    assert found["direction"] == "not measured"


def test_unmeasured(template: Block) -> None:
    found = verdict(study(template, RESNET), kind="unmeasured")
    assert (found["direction"], found["case"]) == ("not measured", "no measurement answers it")


def test_every_kind_is_tested_here() -> None:
    kinds = {"difference", "relative", "at_most", "improved", "growth", "best", "classes",
             "rarest", "median", "smallest_box", "curve", "faster", "complex", "relative_growth",
             "label_worth", "unmeasured"}  # fmt: skip
    assert set(ANSWERS) == kinds


def test_an_imagenet_claim_is_not_measured_by_another_initialisation(template: Block) -> None:
    cells = {(e, i.replace("imagenet", "synthetic"), f): a for (e, i, f), a in RESNET.items()}
    found = verdict(study(template, cells), kind="difference", metric="dice_image", number=GAIN)
    assert (found["direction"], found["size"]) == ("not measured", "not measured")
    assert found["value"] == pytest.approx(GAIN, abs=0.01)  # still shown
    assert found["case"].startswith("with init=synthetic instead: resnet · synthetic · 1.0")


def test_two_recipes_of_imagenet_do_not_answer_for_it_unmarked(template: Block) -> None:
    """With two weight files the cells are named ``imagenet path=…``, which is still ImageNet."""
    cells = {("resnet", "random", 1.0): 0.5} | {
        ("resnet", f"imagenet path={p}", 1.0): 0.7 for p in "ab"
    }
    found = verdict(study(template, cells), kind="difference", metric="dice_image")
    assert "instead" not in found["case"]


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ({"metric": "dice_class_3"}, "no score dice_class_3 in this data set"),
        ({"metric": ["auc_1", "auc_4"], "every": True}, "no score auc_4 in this data set"),
        ({"a": A | {"frac": 0.5}}, "not finished: resnet · imagenet · 0.5"),
        ({"b": {"init": "checkpoint"}}, "not finished: resnet · checkpoint · 1.0"),
        ({"b": {"init": ["random", "imagenet"]}}, "a has 1 cells, b 2"),
        ({"b": {"loss": "NoLoss"}}, "0 protocols with {'loss': 'NoLoss'}, expected one"),
    ],
)
def test_why_a_claim_is_not_measured(template: Block, claim: dict, reason: str) -> None:
    block = study(template, RESNET)
    found = verdict(block, **{"kind": "difference", "metric": "dice_image", "number": 1} | claim)
    assert (found["direction"], found["size"]) == ("not measured", "not measured")
    assert found["case"] == reason
    assert pd.isna(found["value"])


def test_no_seed_in_common(template: Block) -> None:
    block = study(template, RESNET)
    cells = block.data.cells.assign(seed=range(6))
    found = verdict(Resampled(replace(block.data, cells=cells), 50), kind="difference",
                    metric="dice_image")  # fmt: skip
    assert found["direction"] == "not measured"
    assert found["case"].startswith("no common seed")


def test_a_class_without_a_test_image_is_not_measured(template: Block) -> None:
    block = study(template, RESNET)
    counts = tuple(
        PixelCounts(c.index, *(np.where([True, False], x, 0) for x in
                               (c.intersection, c.truth, c.predicted)),
                    c.label & [True, False], c.prob)
        for c in block.data.counts
    )  # fmt: skip
    empty = Resampled(replace(block.data, counts=counts), 50)
    for metric in ("auc_2", ["auc_1", "auc_2"]):
        found = verdict(empty, kind="difference", metric=metric, every=True)
        assert found["direction"] == "not measured"


def test_claims_between_protocols(template: Block) -> None:
    cells = {("resnet", "random", 1.0): 0.5}
    blocks = [
        study(template, cells, title="x · loss=PaperLoss", settings={"loss": "PaperLoss"}),
        study(template, dict.fromkeys(cells, 0.7), title="x · loss=BalancedLoss",
              settings={"loss": "BalancedLoss"}),
    ]  # fmt: skip
    claims = read_claims(EXPERIMENTS / "loss_reading" / "claims.yaml")
    table = judge(claims, blocks)
    assert table["block"].tolist() == ["between protocols"] * len(claims)
    dice = table.set_index("id").loc["dice"]
    assert dice["direction"] == "supported"
    assert dice["value"] == pytest.approx(GAIN, abs=0.01)
    assert "of x · loss=BalancedLoss vs." in dice["case"]
    cells = blocks[1].data.cells.assign(split_fingerprint="9" * 64)
    other = Resampled(replace(blocks[1].data, cells=cells), 50)
    table = judge(claims, [blocks[0], other])
    assert set(table["case"]) == {"a and b have different splits"}
    assert set(table["direction"]) == {"not measured"}


def test_a_claim_is_judged_in_every_block(template: Block) -> None:
    blocks = [study(template, RESNET, title=t) for t in ("one", "two")]
    claim = {"id": "c", "says": "", "kind": "difference", "metric": "mla", "a": A, "b": B}
    assert judge([claim, claim], blocks)["block"].tolist() == ["one", "two"] * 2


GOOD = {"id": "c", "says": "s", "kind": "difference", "metric": "mla", "a": A, "b": B}


def without(*keys: str) -> dict[str, Any]:
    return {k: v for k, v in GOOD.items() if k not in keys}


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (GOOD | {"nubmer": 1}, "claim 'c': unknown key 'nubmer'; allowed: a, b,"),
        (GOOD | {"kind": "bigger"}, "claim 'c': kind is 'bigger'; allowed: difference,"),
        (without("kind"), "claim 'c': kind is None"),
        (without("metric"), "claim 'c': key 'metric' is missing"),
        (without("a"), "claim 'c': key 'a' is missing"),
        (without("says"), "claim 'c': key 'says' is missing"),
        (without("id"), "claim '\\?': key 'id' is missing"),
        (GOOD | {"kind": "growth"}, "claim 'c': key 'than' is missing"),
        (GOOD | {"kind": "relative_growth"}, "claim 'c': key 'than' is missing"),
        (GOOD | {"kind": "at_most"}, "claim 'c': key 'margin' is missing"),
        (GOOD | {"kind": "curve"}, "claim 'c': key 'epoch' is missing"),
        (GOOD | {"kind": "classes", "higher": [1]}, "claim 'c': key 'lower' is missing"),
        (GOOD | {"a": {"init": "x", "frac": 1}}, "claim 'c': key 'encoder' is missing in 'a'"),
        (GOOD | {"kind": "label_worth"}, "claim 'c': key 'b' is not used"),
        # Wrong types are reported before the report starts, not by a traceback in the middle.
        (GOOD | {"a": 5}, "claim 'c'"),
        (GOOD | {"kind": ["difference"]}, "claim 'c'"),
        (GOOD | {"number": "five"}, "claim 'c'"),
        (GOOD | {"a": A | {"frac": "half"}}, "claim 'c'"),
        (GOOD | {"kind": "curve", "epoch": "middle"}, "claim 'c'"),
        (without("b"), "claim 'c': key 'b' is missing"),
    ],
)
def test_faults_of_a_claim_are_named(tmp_path: Path, claim: dict, message: str) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": [GOOD, claim]}))
    with pytest.raises(ConfigError, match=message) as caught:
        read_claims(path)
    assert all(line.startswith(f"{path}, claim") for line in caught.value.lines)
    with pytest.raises(ConfigError):
        find_claims(tmp_path)


def test_every_fault_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": [GOOD | {"x": 1, "y": 2}, without("metric", "a")]}))
    with pytest.raises(ConfigError) as caught:
        read_claims(path)
    assert len(caught.value.lines) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("claims: [a: {", "cannot be read"),
        ("claims: {id: c}", "expected a key 'claims' with a list of claims"),
        ("claims: [1, 2]", "expected a key 'claims'"),
        ("- id: c", "expected a key 'claims'"),
        ("", "expected a key 'claims'"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_file_that_holds_no_claims(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "claims.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_claims(path)
    assert len(caught.value.lines) == 1
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    assert find_claims(tmp_path) is None
    with pytest.raises(ConfigError, match=r"claims.yaml: cannot be read \(No such file"):
        read_claims(tmp_path / "claims.yaml")


@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        *(
            (kind, "dice_imag")
            for kind in ANSWERS
            if kind not in ("growth", "relative_growth", "unmeasured")
        ),
        *((kind, "auc") for kind in ("improved", "median", "smallest_box")),
        ("rarest", "mla"),
        ("classes", "mla"),
    ],
)
def test_a_score_that_is_not_there_is_not_measured(template: Block, kind: str, metric: str) -> None:
    more = {"epoch": "last", "margin": 0.1, "higher": [1], "lower": [2]}
    found = verdict(study(template, RESNET), kind=kind, metric=metric, **more)
    assert found["direction"] == "not measured"
    assert found["case"]


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*/claims.yaml")), ids=lambda p: str(p))
def test_the_claims_of_every_experiment_can_be_read(path: Path) -> None:
    claims = read_claims(path)
    assert claims
    assert len({claim["id"] for claim in claims}) == len(claims)
    assert find_claims(path.parent) == path


def test_the_papers_claims_are_all_there_with_their_numbers() -> None:
    claims = {claim["id"]: claim for claim in read_claims(PAPER)}
    assert len(claims) == 39
    assert {name: claim["number"] for name, claim in claims.items() if "number" in claim} == {
        "mla-all-data": 0.05,
        "mla-all-data-resnet": 0.05,
        "mla-all-data-densenet": 0.05,
        "mla-half-data": 0.08,
        "dice-resnet-all-data": 0.26,
        "dice-densenet-all-data": 0.05,
        "dice-resnet-half-data": 0.12,
        "dice-densenet-half-data": 0.60,
        "dice-densenet-half-data-own": 0.60,
        "improved-resnet": 0.81,
        "improved-densenet": 0.63,
        "gain-grows-dice-relative-densenet-resnet": 0.55,  # 60% minus 5%
        "gain-grows-mla": 0.03,  # 8 points minus 5 points
    }
    # Paper III-D: DenseNet's 5% gain is over ResNet (random).
    assert claims["dice-densenet-all-data"]["b"]["encoder"] == "resnet"


def test_the_papers_claims_in_a_grid_that_agrees_with_it(template: Block) -> None:
    cells = {(e, i, f): 0.5 + (i == "imagenet") * 0.2 * (2 - f) for e, i, f in GRID}
    table = judge(read_claims(PAPER), [study(template, cells, classes=4)]).set_index("id")
    assert len(table) == 39
    for name in ("dice-mean-every-case", "dice-median-every-case", "gain-grows-dice",
                 "improved-resnet", "dice-resnet-all-data"):  # fmt: skip
        assert table.loc[name, "direction"] == "supported", name
    assert table.loc["complex-shapes", "direction"] == "not measured"
    assert set(table["direction"]) <= {
        "supported", "contradicted", "inconclusive", "not measured",
    }  # fmt: skip
