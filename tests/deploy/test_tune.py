"""Compare tuning with a plain search, on untrained networks."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from deploy.networks import THRESHOLD
from PIL import Image
from rich.console import Console

from tlunet.data.datamodule import DefectDataModule
from tlunet.deploy.predict import Prediction, Predictor
from tlunet.deploy.rules import FLIPS, Rules
from tlunet.deploy.tuning.counts import Counts, count
from tlunet.deploy.tuning.gains import show
from tlunet.deploy.tuning.search import AREAS, GATES, GOALS, STEPS, fit, fit_labels, score_of
from tlunet.deploy.tuning.tune import check_same, fit_and_measure, gain
from tlunet.errors import DataError
from tlunet.model.scores import PixelCounts, mla
from tlunet.runs.data import open_data

Line = Callable[..., int]
PLAIN = Rules.plain(2, 0.5)
PIXELS = 20_000
GROUPS = np.arange(40)


def made_up(seed: int, n: int = 40) -> Counts:
    """Make random counts: lower thresholds have more pixels above them, some of them true."""
    rng = np.random.default_rng(seed)
    thresholds = (0.25, 0.5, 0.75)
    label = rng.random((n, 2)) < 0.5
    truth = np.where(label, rng.integers(50, 400, (n, 2)), 0)
    share = np.sort(rng.random((len(FLIPS), 3, n, 2)), 1)[:, ::-1]
    both = (truth * share).astype(int)
    false = (rng.exponential(60, (len(FLIPS), 3, n, 2)) * share).astype(int)
    probabilities = np.clip(0.3 + 0.3 * label + 0.3 * rng.normal(size=(len(FLIPS), n, 2)), 0, 1)
    probabilities = probabilities.astype(np.float32)
    tested = PixelCounts(
        np.arange(n), both[0, 1], truth, (both + false)[0, 1], label, probabilities[0]
    )
    return Counts(thresholds, both + false, both, probabilities, tested)


def kaggle(counts: Counts, f: int, t: int, m: int, area: float, gate: float) -> float:
    """Compute the score of class m image by image."""
    scores = []
    for i in range(len(counts.truth)):
        found, both = counts.predicted[f, t, i, m], counts.intersection[f, t, i, m]
        if found < area or counts.probabilities[f, i, m] < np.float32(gate):
            found = both = 0
        whole = counts.truth[i, m] + found
        scores.append(2 * both / whole if whole else 1.0)
    return float(np.mean(scores))


def test_the_best_of_the_grid_is_found() -> None:
    counts = made_up(0)
    areas = [round(a * PIXELS) for a in AREAS]
    most = {
        f: sum(
            max(kaggle(counts, f, t, m, a, g) for t, a, g in product(range(3), areas, GATES))
            for m in range(2)
        ) / 2
        for f in range(len(FLIPS))
    }  # fmt: skip
    rules = fit(counts, PLAIN, STEPS, "dice_kaggle", PIXELS)
    assert score_of(counts, rules, "dice_kaggle") == pytest.approx(max(most.values()))
    assert rules.flips == list(FLIPS)[max(most, key=lambda f: most[f])]
    without = fit(counts, PLAIN, STEPS[:3], "dice_kaggle", PIXELS)
    assert without.flips == "none"
    assert score_of(counts, without, "dice_kaggle") == pytest.approx(most[0])


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("seed", range(3))
def test_each_step_gains_or_changes_nothing_on_validation(goal: str, seed: int) -> None:
    tuned = fit_and_measure(made_up(seed), made_up(9), GROUPS, PLAIN, PIXELS, goal)
    scores = [step.validation for step in tuned.steps]
    assert scores == sorted(scores)
    assert scores[-1] > scores[0]
    for before, after in zip(tuned.steps, tuned.steps[1:], strict=False):
        assert after.rules == before.rules or after.validation > before.validation
    assert [step.name for step in tuned.steps] == ["", *STEPS]
    assert tuned.steps[1].rules.min_areas == (0, 0)
    assert tuned.steps[2].rules.gates == (0, 0)
    assert tuned.validation[f"tuned_{goal}"] == pytest.approx(scores[-1])
    assert tuned.validation[goal] == pytest.approx(scores[0])
    assert tuned.validation["tuned_mla"] >= tuned.validation["mla"]


@pytest.mark.parametrize("goal", GOALS)
def test_the_gains_of_the_steps_add_up_to_the_whole(goal: str) -> None:
    tuned = fit_and_measure(made_up(0), made_up(9), GROUPS, PLAIN, PIXELS, goal)
    assert tuned.steps[0].gain is None
    gains = [step.gain for step in tuned.steps[1:] if step.gain]
    assert len(gains) == len(STEPS)
    whole = tuned.gains[goal]
    assert sum(one.value for one in gains) == pytest.approx(whole.value)
    assert whole.value == pytest.approx(tuned.test[f"tuned_{goal}"] - tuned.test[goal])
    assert tuned.gains["mla"].value == pytest.approx(tuned.test["tuned_mla"] - tuned.test["mla"])
    for one in (*gains, *tuned.gains.values()):
        assert one.low <= one.value <= one.high
    assert whole.low < whole.high
    assert json.loads(json.dumps(tuned.as_dict()))["gains"][goal] == whole._asdict()


def test_the_interval_of_a_gain_is_that_of_a_mean() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.random(400), rng.random(400) + 0.1
    own = gain(before, after, np.arange(400))
    half = 1.96 * (after - before).std() / 20
    assert (own.low, own.high) == pytest.approx((own.value - half, own.value + half), abs=0.01)
    # Repeating every image four times adds no information; drawn separately it would seem to.
    again = np.tile(before, 4), np.tile(after, 4)
    together = gain(*again, np.tile(np.arange(400), 4))
    assert together == pytest.approx(own)
    apart = gain(*again, np.arange(1600))
    assert apart.high - apart.low == pytest.approx((own.high - own.low) / 2, rel=0.1)
    # Images without a score are excluded.
    holes = np.where(np.arange(400) < 100, np.nan, before)
    assert gain(holes, after, np.arange(400)) == gain(before[100:], after[100:], np.arange(300))
    assert np.isnan(gain(holes[:9], after[:9], np.arange(9))).all()
    one = gain(before[:2], after[:2], np.zeros(2, int))
    assert one.value == pytest.approx((after - before)[:2].mean())
    assert np.isnan(one[1:]).all()


def test_the_test_part_has_no_say() -> None:
    validation, test = made_up(0), made_up(1)
    order = np.random.default_rng(0).permutation(len(test.truth))
    tested = replace(test.tested, truth=test.truth[order], label=test.tested.label[order])
    other = replace(test, tested=tested, intersection=np.zeros_like(test.intersection))
    a, b = (
        fit_and_measure(validation, one, GROUPS, PLAIN, PIXELS, "dice_kaggle")
        for one in (test, other)
    )
    assert a.rules == b.rules
    assert [step.rules for step in a.steps] == [step.rules for step in b.steps]
    assert a.validation == b.validation
    assert a.test != b.test


def test_flags_are_counted_image_by_image() -> None:
    validation, test = made_up(0), made_up(1)
    tuned = fit_and_measure(validation, test, GROUPS, PLAIN, PIXELS, "dice_kaggle")
    under = test.under(tuned.rules)
    truth = [set(np.flatnonzero(row)) for row in test.tested.label]
    assert any(not classes for classes in truth)
    predictions = ("", test.tested, PLAIN.labels), ("tuned_", under, tuned.rules.labels)
    names = "missed_masks", "false_masks", "missed_labels", "false_labels"
    for m, row in zip((None, 0, 1), tuned.flags, strict=True):
        wanted = {0, 1} if m is None else {m}
        for prefix, own, bounds in predictions:
            counted = dict.fromkeys(names, 0)
            for i, classes in enumerate(truth):
                masks = {k for k in wanted if own.predicted[i, k]}
                labels = {k for k in wanted if own.prob[i, k] > np.float32(bounds[k])}
                for by, flagged in (("masks", masks), ("labels", labels)):
                    counted[f"missed_{by}"] += bool(classes & wanted) and not flagged
                    counted[f"false_{by}"] += not classes and bool(flagged)
            assert {name: row[prefix + name] for name in counted} == counted
        assert row["defective"] == sum(bool(classes & wanted) for classes in truth)
        assert row["defect_free"] == sum(not classes for classes in truth)
    shown = StringIO()
    Console(file=shown, width=100).print(show(tuned, ("scratch", "dent")))
    assert f"flagged of {tuned.flags[0]['defect_free']} defect-free images" in shown.getvalue()
    last = shown.getvalue().rpartition("dent")[2]
    assert f"{tuned.flags[2]['false_masks']} → {tuned.flags[2]['tuned_false_masks']}" in last


def test_nothing_is_flagged_falsely_without_defect_free_images() -> None:
    counts = made_up(0)
    label = np.ones_like(counts.tested.label)
    counts = replace(counts, tested=replace(counts.tested, label=label))
    tuned = fit_and_measure(counts, counts, GROUPS, PLAIN, PIXELS, "dice_kaggle")
    assert tuned.flags[0]["defect_free"] == tuned.flags[0]["false_masks"] == 0
    shown = StringIO()
    Console(file=shown, width=100).print(show(tuned, ("scratch", "dent")))
    assert "missed by labels" in shown.getvalue()
    assert "flagged" not in shown.getvalue()


def test_a_perfect_network_is_left_as_it_is() -> None:
    counts = made_up(0)
    truth = np.broadcast_to(counts.truth, counts.predicted.shape)
    sure = np.broadcast_to(counts.tested.label, counts.probabilities.shape).astype(np.float32)
    tested = replace(counts.tested, intersection=counts.truth, predicted=counts.truth, prob=sure[0])
    perfect = replace(
        counts, predicted=truth, intersection=truth, probabilities=sure, tested=tested
    )
    tuned = fit_and_measure(perfect, perfect, GROUPS, PLAIN, PIXELS, "dice_kaggle")
    assert tuned.rules == PLAIN
    assert tuned.gains["dice_kaggle"] == (0, 0, 0)


def test_nothing_to_tune_with() -> None:
    counts = made_up(0)
    empty = replace(counts, tested=replace(counts.tested, truth=np.zeros_like(counts.truth)))
    with pytest.raises(DataError, match="the validation set has no defects; nothing to tune on"):
        fit_and_measure(empty, counts, GROUPS, PLAIN, PIXELS, "dice_kaggle")


def test_labels_are_fitted_for_mla() -> None:
    found = made_up(3).under(PLAIN)
    grid = [k / 20 for k in range(1, 20)]
    most = max(
        mla(found.label, found.prob > np.float32(pair)).mean() for pair in product(grid, grid)
    )
    chosen = fit_labels(found, (0.5, 0.5))
    assert mla(found.label, found.prob > np.float32(chosen)).mean() == pytest.approx(most, abs=0.01)


@pytest.fixture(scope="module")
def data(whole_run: Path) -> DefectDataModule:
    return open_data(whole_run)


@pytest.fixture(scope="module")
def counts(whole_run: Path, data: DefectDataModule) -> Counts:
    """Counts of the validation set."""
    thresholds = (0.3, THRESHOLD, 0.6)
    return count(Predictor.load(whole_run), data.batches("val"), thresholds)


RULES = Rules((0.3, 0.6, 0.45, 0.6), (0, 900, 40, 0), (0, 0, 0, 0.5), (0.5,) * 4)


@pytest.mark.parametrize("flips", FLIPS)
def test_what_is_counted_is_what_is_predicted(
    flips: str, whole_run: Path, data: DefectDataModule, counts: Counts, tmp_path: Path
) -> None:
    rules = replace(RULES, flips=flips)
    predictor = Predictor.load(whole_run, rules=rules, batch_size=5)
    paths = []
    for row in data.rows["val"]:
        paths.append(tmp_path / f"{row}.png")
        Image.fromarray(np.array(data.pack.images[row])).save(paths[-1])
    known = counts.under(rules)
    dropped = 0
    for i, (row, one) in enumerate(zip(data.rows["val"], predictor.predict(paths), strict=True)):
        assert isinstance(one, Prediction)
        bits = np.array(data.pack.masks[row])
        truth = np.stack([bits >> m & 1 == 1 for m in range(4)])
        assert one.areas.tolist() == known.predicted[i].tolist()
        assert (one.masks & truth).sum((1, 2)).tolist() == known.intersection[i].tolist()
        np.testing.assert_allclose(one.probabilities, known.prob[i], atol=1e-6)
        dropped += (one.areas == 0).sum()
    assert dropped > 0


def test_the_verb(
    whole_run: Path, tmp_path: Path, tlunet: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tlunet("tune", whole_run, "--device", "cpu") == 0
    out = capsys.readouterr().out
    for text in ("dice_kaggle, fitted on validation", "as trained", "+ minimum areas", "total"):
        assert text in out
    assert "tuned.json" in out
    known = json.loads((whole_run / "metrics.json").read_text())
    tuned = json.loads((whole_run / "tuned.json").read_text())
    assert tuned["goal"] == "dice_kaggle"
    assert tuned["test"]["dice_kaggle"] == pytest.approx(known["dice_kaggle"], abs=1e-4)
    assert tuned["validation"]["tuned_dice_kaggle"] >= tuned["validation"]["dice_kaggle"]
    assert [step["name"] for step in tuned["steps"]] == ["", *STEPS]
    whole = tuned["gains"]["dice_kaggle"]
    assert whole["low"] <= whole["value"] <= whole["high"]
    rules = Rules.read(tuned["rules"], 4, "")
    assert len(tuned["flags"]) == 5
    try:
        assert Predictor.load(whole_run, tuned=True).rules == rules
        image = tmp_path / "a.png"
        Image.new("L", (64, 32), 90).save(image)
        assert tlunet("predict", whole_run, image, "--out", tmp_path / "out", "--tuned") == 0
        with (tmp_path / "out" / "predictions.csv").open() as file:
            rows = list(csv.DictReader(file))
        present = [float(row["probability"]) > t for row, t in zip(rows, rules.labels, strict=True)]
        assert [row["label"] == "1" for row in rows] == present
    finally:
        (whole_run / "tuned.json").unlink()


def test_scores_that_are_not_the_runs_own() -> None:
    known = {"mla": 0.5, "auc": {"per_class": {"1": 0.7, "2": None}}, "n_images": 9}
    assert check_same(known, known, True) == 0
    near = known | {"mla": 0.501}
    assert check_same(near, known, False) == pytest.approx(0.001)
    with pytest.raises(DataError, match=r"metrics\.json: mla is 0\.5, measured now 0\.501"):
        check_same(near, known, True)
    other = known | {"auc": {"per_class": {"1": 0.9}}}
    with pytest.raises(DataError, match=r"auc/per_class/1 is 0\.7"):
        check_same(other, known, False)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["RUN"], r"metrics.json: no such file"),
        (["WHOLE", "--goal", "fame"], "--goal fame: expected dice_kaggle, iou_kaggle"),
        (["OTHER"], "metrics.json: mla is"),
    ],
)
def test_a_mistake_is_a_line_and_exit_code_2(
    args: list[str], message: str, run: Path, whole_run: Path, tmp_path: Path, tlunet: Line,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    other = tmp_path / "other"
    other.mkdir()
    for path in whole_run.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    scores = json.loads((other / "metrics.json").read_text())
    (other / "metrics.json").write_text(json.dumps(scores | {"mla": scores["mla"] + 0.2}))
    meta = json.loads((run / "meta.json").read_text())
    here = [{"RUN": run, "WHOLE": whole_run, "OTHER": other}.get(arg, arg) for arg in args]
    assert meta
    assert tlunet("tune", *here, "--device", "cpu", "--precision", "32-true") == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (other / "tuned.json").exists()


def test_predict_tuned_where_nothing_was_tuned(
    run: Path, images: Path, tmp_path: Path, tlunet: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tlunet("predict", run, images, "--out", tmp_path / "out", "--tuned") == 2
    assert "not tuned; before --tuned, run tlunet tune" in (capsys.readouterr().err)
