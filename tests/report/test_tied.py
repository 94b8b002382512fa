"""Splits and starting weights that follow the seed: which cells belong together, and how sure."""

import html
import json
import re
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from studies import make_truth, write_run
from tlunet.model.scores import summarise
from tlunet.report.alarms import alarms
from tlunet.report.analysis.blocks import Block, Key, collect
from tlunet.report.analysis.bootstrap import draw_images
from tlunet.report.analysis.comparisons import compare, protocol_pairs
from tlunet.report.analysis.resampled import Resampled, shares
from tlunet.report.analysis.statistics import estimate
from tlunet.report.figures.figures import image_table, label_table
from tlunet.report.findings import scope
from tlunet.report.report import write_report
from tlunet.report.tables import class_table, count_images

TRUTH = make_truth(60)
TESTED = {0: range(24), 1: range(12, 36), 2: range(36, 59)}  # seeds 0 and 1 share twelve images


def run(study: Path, seed: int, split: int, **more: Any) -> Path:
    """A run whose split, with test images of its own, is made with another seed."""
    names = list(TRUTH)
    return write_run(
        study, {names[k]: TRUTH[names[k]] for k in TESTED[split]}, seed=seed,
        groups=list(TESTED[split]), tag=f"-{split}", data={"split_seed": split, "n": 60},
        science={"split": f"s{split}"}, facts={"split_fingerprint": str(split) * 64}, **more,
    )  # fmt: skip


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """ImageNet and random weights, three seeds, each with its own split."""
    for seed, (init, skill) in product(TESTED, (("random", 0.5), ("imagenet", 0.8))):
        run(tmp_path / "tied", seed, seed, init=init, skill=skill)
    return tmp_path / "tied"


def test_a_split_that_follows_the_seed_makes_no_blocks(study: Path) -> None:
    (block,) = collect(study).blocks
    assert block.title == "synthetic"
    assert block.splits == {0: "0" * 64, 1: "1" * 64, 2: "2" * 64}
    assert block.has_own_splits
    assert block.settings["split_seed"] == "${seed}"
    assert len(block.cells) == 6
    assert block.missing == ()
    names = list(TRUTH)
    assert block.image_ids == tuple(sorted(names[:59]))
    assert count_images(block) == "23 to 24 test images of each seed (59 in total)"
    for counts, seed in zip(block.counts, block.cells["seed"], strict=True):
        assert [block.image_ids[k] for k in counts.index] == [names[k] for k in TESTED[seed]]
    assert block.labels.tolist() == [TRUTH[name].any((1, 2)).tolist() for name in names[:59]]
    assert class_table_images(block) == block.labels.sum(0).tolist()


def class_table_images(block: Block) -> list[int]:
    scores = pd.DataFrame(
        [(*key, f"{metric}_{m}", 0.5, 0.4, 0.6) for key in block.keys for m in range(1, 5)
         for metric in ("dice_class", "iou_class", "dice_pooled", "auc", "ap")],
        columns=["encoder", "init", "frac", "metric", "mean", "low", "high"],
    )  # fmt: skip
    titles = [group.title for group in class_table(scores, block).groups]
    return [int(re.findall(r"in (\d+) test images", title)[0]) for title in titles]


def test_every_seed_is_scored_on_its_own_images(study: Path) -> None:
    block = Resampled(collect(study).blocks[0], 200)
    cell = block.cell(Key("resnet", "imagenet", 1.0))
    for metric in ("dice_image", "mla"):
        expected = [
            json.loads((study / folder / "metrics.json").read_text())[metric]
            for folder in block.data.runs(cell.key)["folder"]
        ]
        assert cell.by_seed(metric, (0, 1, 2))[:, 0] == pytest.approx(expected)
    images = cell.images("mla", (0, 1, 2))
    assert (~np.isnan(images)).sum(1).tolist() == [24, 24, 23]
    random = block.cell(Key("resnet", "random", 1.0))
    better, tied, worse = shares("mla", cell, random)
    d = images - random.images("mla", (0, 1, 2))
    assert better[:, 0] == pytest.approx([(row[~np.isnan(row)] > 0).mean() for row in d])
    assert better + tied + worse == pytest.approx(np.ones((3, 201)))


def test_seeds_share_only_the_images_that_both_were_tested_on(study: Path) -> None:
    """Networks that find all classes in every other image: half of the images shared is r = 0.5."""
    (block,) = collect(study).blocks
    counts = tuple(
        replace(c, prob=np.where(c.index[:, None] % 2, c.label, 1 - c.label)) for c in block.counts
    )
    same = Resampled(replace(block, counts=counts), 4000)
    by_seed = same.cell(Key("resnet", "random", 1.0)).by_seed("mla", (0, 1, 2))[:, 1:]
    correlation = np.corrcoef(by_seed)
    assert correlation[0, 1] == pytest.approx(0.5, abs=0.1)
    assert [correlation[0, 2], correlation[1, 2]] == pytest.approx([0, 0], abs=0.06)


def test_the_empty_predictor_is_the_mean_over_the_splits(study: Path) -> None:
    (block,) = collect(study).blocks
    empty = [summarise(counts)["empty_predictor"] for counts in block.of_each_split.values()]
    assert block.empty_predictor["dice_kaggle"] == pytest.approx(
        np.mean([e["dice_kaggle"] for e in empty])
    )
    assert block.empty_predictor["auc"]["mean"] == 0.5


def test_all_seeds_with_all_splits_are_blocks(tmp_path: Path) -> None:
    for seed, split in product(TESTED, TESTED):
        run(tmp_path, seed, split)
    blocks = collect(tmp_path).blocks
    assert [b.title for b in blocks] == [f"synthetic · split_seed={k}" for k in TESTED]
    assert all(len(block.cells) == 3 for block in blocks)


def test_a_run_of_an_earlier_sweep_belongs_to_both(tmp_path: Path) -> None:
    """seed=0,1,2, and then again with data.split_seed='${seed}': seed 0 is finished already."""
    for seed, split in ((0, 0), (1, 0), (2, 0), (1, 1), (2, 2)):
        run(tmp_path, seed, split)
    tied, one = collect(tmp_path).blocks
    assert [tied.title, one.title] == ["synthetic · split_seed=${seed}", "synthetic · split_seed=0"]
    assert tied.seeds == one.seeds == [0, 1, 2]
    assert one.splits == dict.fromkeys(range(3), "0" * 64)
    (shared,) = {*tied.cells["folder"]} & {*one.cells["folder"]}
    assert shared.startswith("resnet-random-1.0-s0-")
    assert shared.endswith("-0")


def test_two_losses_with_splits_of_their_seeds_are_compared(tmp_path: Path) -> None:
    for seed in TESTED:
        run(tmp_path, seed, seed)
        run(tmp_path, seed, seed, loss="tlunet.model.losses.BalancedLoss", skill=0.9)
    blocks = [Resampled(block, 100) for block in collect(tmp_path).blocks]
    assert [factor for factor, *_ in protocol_pairs(blocks)] == ["protocol"]
    cells = blocks[0].data.cells.assign(split_fingerprint="9" * 64)
    other = Resampled(replace(blocks[0].data, cells=cells), 100)
    assert list(protocol_pairs([other, blocks[1]])) == []


def with_start(study: Path, start: int, seed: int) -> None:
    """Write a run whose starting weights are made with another seed."""
    folder = write_run(study, TRUTH, init="synthetic", seed=seed, tag=f"-{start}",
                       science={"start": f"w{start}"})  # fmt: skip
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["init"]["seed"] = start
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def test_starting_weights_that_follow_the_seed_are_one_initialisation(tmp_path: Path) -> None:
    for seed in TESTED:
        with_start(tmp_path, seed, seed)
        write_run(tmp_path, TRUTH, seed=seed)
    (block,) = collect(tmp_path).blocks
    assert [str(key) for key in block.keys] == ["resnet · random · 1.0", "resnet · synthetic · 1.0"]
    assert block.seeds == [0, 1, 2]
    assert block.has_own_starts
    assert not block.has_own_splits
    assert "seed=${seed}" in block.runs(block.keys[1])["recipe"].iloc[0]


def test_starting_weights_of_two_seeds_are_two_initialisations(tmp_path: Path) -> None:
    for seed, start in product((0, 1), (0, 1)):
        with_start(tmp_path, start, seed)
    (block,) = collect(tmp_path).blocks
    assert [key.init for key in block.keys] == ["synthetic seed=0", "synthetic seed=1"]
    assert not block.has_own_starts


def test_the_scope_says_what_was_varied(study: Path, tmp_path: Path) -> None:
    (tied,) = collect(study).blocks
    own = "over seeds, each with its own split of these images"
    assert scope([tied]) == f"Scope: {own}; these starting weights."
    for seed in TESTED:
        write_run(tmp_path / "plain", TRUTH, seed=seed)
        with_start(tmp_path / "starts", seed, seed)
    (plain,) = collect(tmp_path / "plain").blocks
    (starts,) = collect(tmp_path / "starts").blocks
    fixed = "these training images, this split"
    assert scope([plain]) == f"Scope: {fixed}, these starting weights."
    with_starts = f"{fixed}; over seeds, each with its own starting weights"
    assert scope([starts]) == f"Scope: {with_starts}."
    both = replace(tied, cells=tied.cells.assign(recipe="seed=${seed}"))
    assert scope([both]) == f"Scope: {own} and its own starting weights."
    assert scope([plain, replace(tied, title="tied")]) == (
        f"Scope of synthetic: {fixed}, these starting weights. "
        f"Scope of tied: {own}; these starting weights."
    )


def test_the_report_of_such_a_study(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tlunet.report.sections.figures", lambda *_: [])
    write_report(study)
    page = re.sub(
        r"<(script|style|svg)\b.*?</\1>", "", (study / "report.html").read_text(), flags=re.S
    )
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
    assert (
        "6 finished cells, 23 to 24 test images of each seed (59 in total), seeds 0, 1, 2." in text
    )
    assert "Scope: over seeds, each with its own split of these images; these starting" in text
    assert "3 seeds, 95% interval over seeds and images" in (study / "answer.md").read_text()
    scores = pd.read_csv(study / "scores.csv")
    assert set(scores["n_seeds"]) == {3}
    assert scores.loc[scores["metric"] == "mla", "low"].notna().all()


def test_figures_get_the_images_of_each_seed(study: Path) -> None:
    block = Resampled(collect(study).blocks[0], 20)
    images = image_table(block)
    names = list(TRUTH)
    assert len(images) == 2 * (24 + 24 + 23)
    for (_, seed), own in images.groupby(["init", "seed"], observed=True):
        assert own["image_id"].tolist() == [names[k] for k in TESTED[seed]]
    labels = label_table(block.data)
    assert len(labels) == 4 * len(images)
    first = labels[(labels["seed"] == 2) & (labels["init"] == "imagenet")]
    expected = np.concatenate([TRUTH[names[k]].any((1, 2)) for k in TESTED[2]])
    assert first["label"].tolist() == expected.tolist()


def test_a_class_that_is_missing_from_one_split_is_named(tmp_path: Path) -> None:
    for seed in TESTED:
        run(tmp_path, seed, seed)
    names = [n for n in TRUTH if not TRUTH[n][3].any()][:10]
    write_run(tmp_path, {n: TRUTH[n] for n in names}, seed=7, tag="-7", groups=range(10),
              data={"split_seed": 7, "n": 60},
              facts={"split_fingerprint": "7" * 64})  # fmt: skip
    study = collect(tmp_path)
    assert study.blocks[0].seeds == [0, 1, 2, 7]
    said = [alarm.text for alarm in alarms(study)]
    assert any(
        t.startswith("class 4 (patches) is in no test image of seed 7: its AUC") for t in said
    )
    assert not any("test image of seed 0" in text for text in said)


TRIALS, POOL, IMAGES = 300, 320, 40


@pytest.mark.parametrize("n_seeds", [3, 5])
@pytest.mark.parametrize("seed_sd", [0.0, 0.03])
def test_intervals_over_splits_cover_the_truth(n_seeds: int, seed_sd: float) -> None:
    """Each seed is tested on 40 of 320 images, drawn anew; 0.95 ± three standard errors."""
    rng = np.random.default_rng(10 + n_seeds)
    weights = draw_images(np.arange(POOL), 400).astype(float)  # (R + 1, POOL)
    covered = 0
    for _ in range(TRIALS):
        image = rng.normal(0, 0.15, POOL)
        by_seed = []
        for a in rng.normal(0, seed_sd, n_seeds):
            own = rng.choice(POOL, IMAGES, replace=False)
            d = a + image[own] + rng.normal(0, 0.1, IMAGES)
            by_seed.append(weights[:, own] @ d / weights[:, own].sum(1))
        found = estimate(np.stack(by_seed))
        covered += found.low <= 0 <= found.high
    assert 0.91 <= covered / TRIALS <= 0.99


def test_one_comparison_of_such_a_study(study: Path) -> None:
    found = compare([Resampled(collect(study).blocks[0], 400)])
    dice = found[(found["metric"] == "dice_image") & (found["factor"] == "init")].iloc[0]
    assert (dice["n_seeds"], dice["interval"]) == (3, "seeds and images")
    per_seed = [float(x) for x in dice["by_seed"].split()]
    assert dice["difference"] == pytest.approx(np.mean(per_seed), abs=1e-5)
    assert dice["low"] < dice["difference"] < dice["high"]
