"""How many times the labels pre-training is worth: by hand, by scipy, by simulation, in reports."""

import html
import re
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from studies import make_truth, write_run
from tlunet.report import render
from tlunet.report.analysis.blocks import Key, collect
from tlunet.report.analysis.bootstrap import draw_images
from tlunet.report.analysis.comparisons import compare
from tlunet.report.analysis.label_worth import (
    COLUMNS,
    Worth,
    label_worth,
    one_fraction,
    worth_more,
    worth_table,
)
from tlunet.report.analysis.resampled import Resampled
from tlunet.report.figures.efficiency import GREY, label_efficiency
from tlunet.report.labels import worth_sentence
from tlunet.report.report import write_report
from tlunet.report.tables import worth_table as shown_table

INF = float("inf")


def exact(values: dict[float, float]) -> dict[float, np.ndarray]:
    """Scores without any spread, three seeds."""
    return {frac: np.full((3, 9), value) for frac, value in values.items()}


def flat(value: float) -> np.ndarray:
    return np.full((3, 9), value)


@pytest.mark.parametrize(
    ("score", "share"),
    [(0.3, 0.25), (0.35, np.sqrt(0.25 * 0.5)), (0.4, 0.5), (0.45, np.sqrt(0.5)), (0.5, 1.0)],
)
def test_the_share_is_read_off_the_curve_in_its_logarithm(score: float, share: float) -> None:
    found = label_worth(exact({0.25: 0.3, 0.5: 0.4, 1.0: 0.5}), flat(score), 0.25)
    assert found.value == pytest.approx(share / 0.25)
    assert found.low == pytest.approx(0 if share == 0.25 else share / 0.25)  # maybe even fewer
    assert found.high == (INF if share == 1.0 else pytest.approx(share / 0.25))  # maybe even more


def test_beyond_the_curve_there_are_bounds_only() -> None:
    curve = exact({0.25: 0.3, 0.5: 0.4, 1.0: 0.5})
    above = label_worth(curve, flat(0.6), 0.25)
    assert above[:3] == (INF, 4.0, INF)
    assert above.octaves[:3] == (INF, 2.0, INF)
    below = label_worth(curve, flat(0.2), 0.5)
    assert below[:3] == (0.0, 0.0, 0.5)
    assert below.octaves[:3] == (-INF, -INF, -1.0)
    assert [worth_more(x, 3) for x in (above, below)] == ["more", "fewer"]
    assert worth_more(above, 2) == "one training"
    at_the_ends = label_worth(curve, flat(0.6), 1.0), label_worth(curve, flat(0.2), 0.25)
    assert [x[1:3] for x in at_the_ends] == [(1.0, INF), (0.0, 1.0)]
    assert [worth_more(x, 3) for x in at_the_ends] == ["more", "fewer"]


def test_where_the_curve_falls_it_is_made_rising() -> None:
    """0.5, 0.3, 0.4, 0.7: the first three are pooled to 0.4."""
    curve = exact({0.125: 0.5, 0.25: 0.3, 0.5: 0.4, 1.0: 0.7})
    found = label_worth(curve, flat(0.55), 0.125)
    assert found.value == pytest.approx(np.sqrt(0.5) / 0.125)


def test_the_interval_is_that_of_students_t_at_its_ends() -> None:
    rng = np.random.default_rng(3)
    low, high = (np.repeat(m + rng.normal(0, 0.01, (4, 1)), 9, 1) for m in (0.3, 0.5))
    target = np.repeat(0.4 + rng.normal(0, 0.01, (4, 1)), 9, 1)
    found = label_worth({0.25: low, 1.0: high}, target, 0.25)

    def p(share: float) -> float:
        w = np.log(share / 0.25) / np.log(4)
        return float(stats.ttest_1samp(((1 - w) * low + w * high - target)[:, 0], 0.0).pvalue)

    ends = [optimize.brentq(lambda q: p(q) - 0.05, *bracket) / 0.25
            for bracket in ((0.3, 4 ** -0.5), (4 ** -0.5, 0.9))]  # fmt: skip
    assert [found.low, found.high] == pytest.approx(ends, rel=2e-3)
    assert found.low < found.value < found.high


def test_it_says_no_more_than_the_comparison_at_the_same_fraction() -> None:
    rng = np.random.default_rng(0)
    noise = [np.repeat(rng.normal(0, 0.005, (3, 1)), 9, 1) for _ in range(3)]
    curve = {0.25: 0.3 + noise[0], 1.0: 0.5 + noise[1]}
    alone = label_worth(curve, 0.4 + noise[2], 0.25)
    assert worth_more(alone, 3) == "more"
    steadied = label_worth(curve, 0.4 + noise[2], 0.25, others=[0.05])
    assert (steadied.low, steadied.high, steadied.value) == (1.0, alone.high, alone.value)
    assert worth_more(steadied, 3) == "undecided"
    assert steadied.p > 0.05 > alone.p


def test_what_is_undefined() -> None:
    curve = exact({0.5: 0.3, 1.0: 0.5})
    for by_seed in (flat(np.nan), np.empty((0, 9))):
        seeds = {q: x[: len(by_seed)] for q, x in curve.items()}
        found = label_worth(seeds, by_seed, 0.5)
        assert np.isnan(found).all()
        assert worth_more(found, len(by_seed)) == "undefined"


IMAGES, TRIALS = 60, 100


@pytest.mark.parametrize("n_seeds", [3, 5])
@pytest.mark.parametrize(("score", "truth"), [(0.35, np.sqrt(2)), (0.45, 4.0), (0.32, 1.0)])
def test_intervals_cover_the_truth(n_seeds: int, score: float, truth: float) -> None:
    """Four fractions, seed sd 0.02; at least 0.95 minus three standard errors."""
    rng = np.random.default_rng(n_seeds)
    weights = draw_images(np.arange(IMAGES), 200) / IMAGES  # (R + 1, N)
    levels = {0.1: 0.25, 0.25: 0.32, 0.5: 0.38, 1.0: 0.45}
    covered = 0
    for _ in range(TRIALS):
        image = rng.normal(0, 0.15, IMAGES)

        def cell(level: float, image: np.ndarray = image) -> np.ndarray:
            x = level + image + rng.normal(0, 0.08, IMAGES) + rng.normal(0, 0.02, (n_seeds, 1))
            return (weights @ (x + rng.normal(0, 0.05, (n_seeds, IMAGES))).T).T

        found = label_worth({q: cell(level) for q, level in levels.items()}, cell(score), 0.25)
        covered += found.low - 1e-9 <= truth <= found.high + 1e-9
    assert covered / TRIALS >= 0.885


# In a study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights get better with more labels; ImageNet needs few."""
    study = tmp_path_factory.mktemp("studies") / "labels"
    truth = make_truth(60)
    skills = {"random": (0.9, 0.6, 0.35), "imagenet": (0.95, 0.9, 0.6)}
    for seed, (init, of_init) in product(range(3), skills.items()):
        for frac, skill in zip((1.0, 0.5, 0.25), of_init, strict=True):
            write_run(study, truth, init=init, frac=frac, seed=seed, skill=skill)
    return study


@pytest.fixture(scope="module")
def table(study: Path) -> pd.DataFrame:
    return worth_table([Resampled(collect(study).blocks[0], 200)])


def test_every_smaller_fraction_has_a_row(study: Path, table: pd.DataFrame) -> None:
    assert tuple(table.columns) == COLUMNS
    assert table[["frac", "metric"]].to_numpy().tolist() == [
        [f, m] for f in (0.5, 0.25) for m in ("dice_image", "mla")
    ]
    block = Resampled(collect(study).blocks[0], 200)
    level = block.cell(Key("resnet", "imagenet", 0.25)).by_seed("mla", (0, 1, 2))[:, 0].mean()
    row = table.set_index(["frac", "metric"]).loc[(0.25, "mla")]
    assert row["score"] == pytest.approx(level)
    assert row["share"] == pytest.approx(0.25 * row["worth"])
    assert (row["most"], row["n_seeds"], row["interval"]) == (4.0, 3, "seeds and images")
    assert row["low"] <= row["worth"] <= row["high"]
    init = compare([block]).query("factor == 'init'").set_index(["frac", "metric"])["verdict"]
    for key, found in table.set_index(["frac", "metric"]).iterrows():
        assert found["verdict"] != "more" or init[key] == "higher"
    assert one_fraction(table)["frac"].tolist() == [0.25, 0.25]


def test_no_row_without_a_curve_or_a_pretrained_cell(tmp_path: Path) -> None:
    truth = make_truth(12)
    write_run(tmp_path, truth)
    write_run(tmp_path, truth, init="imagenet")
    write_run(tmp_path, truth, init="imagenet", frac=0.5)
    block = Resampled(collect(tmp_path).blocks[0], 20)
    assert worth_table([block]).empty
    write_run(tmp_path, truth, frac=0.5)
    assert len(worth_table([Resampled(collect(tmp_path).blocks[0], 20)])) == 2


ROW: dict[str, Any] = {
    "encoder": "resnet", "init": "imagenet", "frac": 0.25, "metric": "dice_image", "share": 0.53,
    "worth": 2.12, "low": 1.4, "high": 2.9, "most": 4.0, "n_seeds": 5, "verdict": "more",
    "interval": "seeds and images",
}  # fmt: skip
OVER = "; resnet, 5 seeds, 95% interval over seeds and images."
WEIGHTS = "what ImageNet weights reach with 25%"


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({}, "By Dice, ImageNet weights are worth 2.1 times the labels [1.4, 2.9]: random weights "
             f"reach with 53% {WEIGHTS}{OVER}"),
        ({"high": INF}, "By Dice, ImageNet weights are worth 2.1 times the labels [1.4, ∞]: random "
                        f"weights reach with 53% {WEIGHTS}{OVER}"),
        ({"metric": "mla", "share": INF, "worth": INF, "low": 4.0, "high": INF},
         "By MLA, ImageNet weights are worth more than 4.0 times the labels: random weights do not "
         f"reach with 100% {WEIGHTS}{OVER}"),
        ({"share": INF, "worth": INF, "low": 1.5, "high": INF},
         "By Dice, ImageNet weights are worth more than 1.5 times the labels: random weights on "
         f"average do not reach with 100% {WEIGHTS}{OVER}"),
        ({"low": 0.7, "verdict": "undecided"},
         "By Dice, it is not clear whether ImageNet weights are worth more labels (2.1 times the "
         f"labels [0.7, 2.9]): random weights reach with 53% {WEIGHTS}{OVER}"),
        ({"share": 0.0, "worth": 0.0, "low": 0.0, "high": 0.4, "verdict": "fewer"},
         "By Dice, ImageNet weights are worth less than 0.4 times the labels: random weights reach "
         f"with the smallest fraction {WEIGHTS}{OVER}"),
        ({"verdict": "one training", "n_seeds": 1, "interval": "images only"},
         "In this training, by Dice, ImageNet weights are worth 2.1 times the labels [1.4, 2.9]: "
         f"random weights reach with 53% {WEIGHTS}; resnet, 1 seeds, 95% interval over images "
         "only."),
        ({"verdict": "undefined", "n_seeds": 0},
         "Label-worth in Dice is undefined (resnet, 0 common seeds)."),
    ],
)  # fmt: skip
def test_what_a_report_says(row: dict[str, Any], sentence: str) -> None:
    assert worth_sentence(pd.Series(ROW | row)) == sentence.replace("1 seeds", "1 seed")


def test_the_report(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("figures", "pictures"):
        monkeypatch.setattr(f"tlunet.report.sections.{name}", lambda *_: [])
    write_report(study)
    table = pd.read_csv(study / "label_worth.csv")
    page = (study / "report.html").read_text(encoding="utf-8")
    page = re.sub(r"<(script|style|svg)\b.*?</\1>", "", page, flags=re.S)
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
    assert "How many labels is pre-training worth?" in text  # folded below the figures
    for _, row in one_fraction(table).iterrows():
        assert worth_sentence(row) in text
    assert [row[4].text for row in shown_table(table).rows] == re.findall(
        r"(?:\d\.\d× \[[^]]*\]|(?:more|less) than \d\.\d×)", text
    )
    page = study / "page.md"
    page.write_text("<!-- label_worth label_worth.csv -->\nold\n<!-- end -->\n")
    rendered = render.render(page)
    assert "Label-worth of pre-training" in rendered
    assert worth_sentence(one_fraction(table).iloc[0])[:40] in rendered
    assert "old" not in rendered


def test_the_figure_marks_it(table: pd.DataFrame) -> None:
    scores = pd.DataFrame(
        [("resnet", init, frac, "dice_image", mean, mean - 0.02, mean + 0.02, "seeds and images")
         for init, means in (("random", (0.3, 0.4, 0.5)), ("imagenet", (0.45, 0.52, 0.6)))
         for frac, mean in zip((0.25, 0.5, 1.0), means, strict=True)],
        columns=["encoder", "init", "frac", "metric", "mean", "low", "high", "interval"],
    )  # fmt: skip
    worth = pd.DataFrame([("b", "resnet", "imagenet", 0.25, "dice_image", 0.45, 0.7, 2.8, 1.9, 3.5,
                           4.0, 3, "seeds and images", "more")], columns=COLUMNS)  # fmt: skip
    for change, end, text in (
        ({}, 0.7, "2.8×"),
        ({"worth": INF, "share": INF, "low": 4.0}, 1.0, "more than 4.0×"),
    ):
        ax = label_efficiency(scores, worth=worth.assign(**change)).axes[0]
        [line] = [x for x in ax.lines if x.get_color() == GREY and len(x.get_xdata()) == 2]
        assert line.get_xdata() == pytest.approx([0.25, end])
        assert line.get_ydata() == pytest.approx([0.45, 0.45])
        assert [t.get_text() for t in ax.texts] == [text]
    for none in (None, worth.head(0), worth.assign(worth=0.0), worth.assign(metric="mla")):
        ax = label_efficiency(scores, worth=none).axes[0]
        assert not [x for x in ax.lines if x.get_color() == GREY and len(x.get_xdata()) == 2]
    assert Worth(*worth[["worth", "low", "high", "most"]].iloc[0]).octaves.low > 0
