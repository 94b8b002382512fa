"""The report of a study folder, for quickly generated studies."""

import html
import io
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from studies import make_truth, set_state, write_grid, write_run
from tlunet.data.bits import class_masks
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import OnDisk, Strips
from tlunet.data.split import fingerprint
from tlunet.errors import ConfigError, DataError
from tlunet.report import report as module
from tlunet.report.alarms import alarms
from tlunet.report.analysis.blocks import Key, collect
from tlunet.report.analysis.comparisons import compare
from tlunet.report.analysis.flags import flags
from tlunet.report.analysis.resampled import Resampled, score_table
from tlunet.report.comparison_tables import comparison_table
from tlunet.report.document.document import Browser, Fold, Picture, Table, Text
from tlunet.report.figures import curves
from tlunet.report.figures import figures as drawings
from tlunet.report.figures.figures import Drawing, figures, gain_table, slug
from tlunet.report.figures.images.browser import browser
from tlunet.report.figures.images.examples import examples, figure_7
from tlunet.report.figures.images.pictures import Pictures, chosen, open_pictures
from tlunet.report.figures.style import save
from tlunet.report.findings import answer, headline
from tlunet.report.report import conclude_study, write_report
from tlunet.report.sections import _claims
from tlunet.report.sentences import Finding
from tlunet.report.tables import claim_table, flag_table, score_tables
from tlunet.report.values import with_interval

PAPER = Path(__file__).parents[2] / "experiments" / "tlunet_paper" / "claims.yaml"
BALANCED = "tlunet.model.losses.BalancedLoss"


@pytest.fixture(autouse=True)
def few_replicates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Resampled, "__init__", _light(Resampled.__init__))


def _light(init: Any) -> Any:
    return lambda self, block, replicates=100, study=None: init(self, block, replicates, study)


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the slow drawing in tests that do not need figures."""
    for name in ("figures", "pictures"):
        monkeypatch.setattr(f"tlunet.report.sections.{name}", lambda *_: [])


@pytest.fixture
def quick_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw figures without saving them, for tests that only check which ones exist."""

    def put(figure: object, stem: Path) -> str:
        stem.parent.mkdir(parents=True, exist_ok=True)
        stem.with_name(f"{stem.name}.svg").write_text("<svg></svg>")
        return "<svg></svg>"

    monkeypatch.setattr(drawings, "save", put)


def contents(study: Path) -> dict[str, bytes]:
    """The content of every file that a report writes."""
    files = [p for p in study.iterdir() if p.is_file()] + list((study / "figures").glob("*"))
    return {str(p.relative_to(study)): p.read_bytes() for p in files}


def text_of(study: Path) -> str:
    """The text of the page without tags."""
    page = (study / "report.html").read_text(encoding="utf-8")
    page = re.sub(r"<(script|style|svg)\b.*?</\1>", "", page, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ResNet's half of the paper's grid: one cell failed, one missing, one never finds class 4."""
    study = tmp_path_factory.mktemp("studies") / "grid"
    write_grid(study, 60, encoders=("resnet",), gain=0.3)
    set_state(next(study.glob("resnet-imagenet-0.5-s2-*")), "failed", "out of memory")
    shutil.rmtree(next(study.glob("resnet-random-0.5-s1-*")))
    shutil.rmtree(next(study.glob("resnet-random-1.0-s0-*")))
    write_run(study, make_truth(60), skill=0.55, dead=[4])
    shutil.copy(PAPER, study / "claims.yaml")
    (study / "figures").mkdir()
    (study / "figures" / "figure_9_of_a_cell_long_gone.svg").write_text("old")
    (study / "figures" / "figure_9_of_a_cell_long_gone.png").write_text("old")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Resampled, "__init__", _light(Resampled.__init__))
        assert write_report(study) == study / "report.html"
    return study


def test_every_file_is_there_and_no_other(grid: Path) -> None:
    drawn = {"forest", "figure_4", "figure_5", "figure_6", "figure_8", "figure_8_seconds",
             "figure_9", "label_efficiency_dice_image", "label_efficiency_mla", "gain_by_class",
             "precision_recall", "reliability", "cost"}  # fmt: skip
    expected = {f"figures/{name}.{suffix}" for name in drawn for suffix in ("svg", "png")}
    expected |= {"answer.md", "report.md", "report.html", "results.csv", "scores.csv", "flags.csv",
                 "comparisons.csv", "label_worth.csv", "claims.csv", "claims.yaml"}  # fmt: skip
    assert set(contents(grid)) == expected


def test_it_says_what_is_wrong(grid: Path) -> None:
    found = [alarm.text for alarm in alarms(collect(grid))]
    assert found[:4] == [  # the most severe first, each with what to do
        "resnet · ImageNet · 50% · seed 2 failed (out of memory): run the same command to retry",
        "class 4 (patches) is not found by 1 of 10 models (pooled Dice below 0.01: resnet · random "
        "· 100%, 1 of 3 seeds): train longer (epochs=6) or use recipe=production",
        "1 grid cell is missing: resnet · random · 50% · seed 1; run them to compare all",
        "10 of 10 models were best in their last epoch: differences are of speed, not of final "
        "quality; train longer (epochs=6)",
    ]
    few = [text for text in found if text.startswith("fewer than 3 seeds")]
    assert len(few) == 1
    assert "in 2 of 4 rows" in few[0]
    assert few[0].endswith("add seed=0,1,2,3,4 to the command")
    markdown = (grid / "report.md").read_text(encoding="utf-8")
    for text in found:
        assert text in text_of(grid)
    assert markdown.count("**Warning**") == len(found)


def test_the_headline_is_that_of_the_verdicts(grid: Path) -> None:
    """Two cells have two seeds with one in common: the growth is over seed 0 only."""
    block = Resampled(collect(grid).blocks[0])
    sentences = answer(block)
    assert len(sentences) == 2
    keys = [[Key("resnet", init, frac) for init in ("imagenet", "random")] for frac in (1.0, 0.5)]
    levels = [[block.cell(k).by_seed("dice_image", [0]) for k in pair] for pair in keys]
    gains = [a - b for a, b in levels]
    (mean, *replicates), growth = np.mean(gains, axis=0)[0], gains[1] - gains[0]
    low, high = np.quantile(replicates, [0.025, 0.975])
    after, before = (np.mean([pair[k][0, 0] for pair in levels]) for k in (0, 1))
    assert sentences[0] == Finding(
        f"In this training, ImageNet weights change Dice from {before:.3f} to {after:.3f}.",
        f"Difference {with_interval(mean, low, high, '{:+.3f}')}, mean over ResNet with 100%, 50% "
        "of the training data; this training only, 95% interval over test images.",
        is_main=True,
    )
    low, high = np.quantile(growth[0, 1:], [0.025, 0.975])
    growing = "With 50% of the training data the gain differs, in this training, from that with"
    assert sentences[1].text.startswith(growing)
    assert with_interval(growth[0, 0], low, high, "{:+.3f}") in sentences[1].text
    assert not sentences[1].is_main  # in small type
    assert " ".join(sentence.text for sentence in sentences) in text_of(grid)
    assert sentences[0].says in (grid / "answer.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("skill", "says"), [(0.9, "raise"), (0.2, "lower"), (0.6, "no clear")])
def test_the_headline_with_three_seeds(tmp_path: Path, skill: float, says: str) -> None:
    truth = make_truth(60)
    for seed in range(3):
        for init, own in (("random", 0.6), ("imagenet", skill)):
            write_run(tmp_path, truth, init=init, seed=seed, skill=own)
    block = Resampled(collect(tmp_path).blocks[0])
    [first, _] = answer(block)
    levels = [
        block.cell(Key("resnet", init, 1.0)).by_seed("dice_image", (0, 1, 2))[:, 0].mean()
        for init in ("random", "imagenet")
    ]
    between = f"from {levels[0]:.3f} to {levels[1]:.3f}"
    start = {"raise": f"raise Dice {between}", "lower": f"lower Dice {between}"}
    expected = start.get(says, f"show no clear change in Dice ({between})")
    assert first.says == f"ImageNet weights {expected}."
    sign = {"raise": "+", "lower": "−"}.get(says, "")
    assert first.detail.startswith(f"Difference {sign}")
    assert first.detail.endswith("training data; 3 seeds, 95% interval over seeds and images.")


def test_a_study_where_no_network_finds_anything(tmp_path: Path, no_figures: None) -> None:
    """The headline says so, instead of naming the highest of several zeros."""
    for init in ("random", "imagenet"):
        write_run(tmp_path, make_truth(60), init=init, dead=[1, 2, 3, 4])
    write_report(tmp_path)
    text = text_of(tmp_path)
    assert "No network finds a defect." in text
    assert "Every Dice is below 0.01. Train longer (epochs=6) or use recipe=production." in text
    assert "highest Dice" not in text


def test_what_is_lost_with_data_and_what_with_steps(tmp_path: Path) -> None:
    truth = make_truth(60)
    for seed in range(3):
        for frac, skill in ((1.0, 0.9), (0.5, 0.5)):
            write_run(tmp_path, truth, frac=frac, seed=seed, skill=skill)
    epochs = collect(tmp_path).blocks[0]
    steps = replace(epochs, settings=epochs.settings | {"budget": "steps"})
    epochs = replace(epochs, settings=epochs.settings | {"budget": "epochs"})
    sentence = headline([Resampled(epochs), Resampled(steps)])[-1].text
    assert sentence.startswith("All training data instead of 50% change Dice by +0.")
    assert "as many optimiser steps as with all, it changes by +0.000 [" in sentence
    assert sentence.endswith("3 seeds, 95% interval over seeds and images.")
    assert not any("optimiser steps" in s.text for s in headline([Resampled(epochs)]))


def test_the_headline_says_in_words_which_block_it_is_about(tmp_path: Path) -> None:
    truth = make_truth(60)
    for seed in range(3):
        for init, skill in (("random", 0.3), ("imagenet", 0.9)):
            write_run(tmp_path, truth, init=init, seed=seed, skill=skill)
    [block] = collect(tmp_path).blocks

    def places(*titles: str) -> list[str]:
        blocks = [
            replace(block, title=title, dataset=title.partition(" · ")[0]) for title in titles
        ]
        found = [f for f in headline([Resampled(block) for block in blocks]) if f.is_main]
        return [f.sentence.partition("ImageNet weights raise Dice from")[0] for f in found]

    assert places("steel · budget=epochs", "steel · budget=steps") == [
        "Equal epochs for every fraction of the data: ",
        "Equal optimiser steps for every fraction of the data: ",
    ]
    assert places("steel · loss=PaperLoss", "wood") == ["steel, loss=PaperLoss: ", "wood: "]
    assert places("steel") == [""]


def test_the_forest_plot_shows_what_is_claimed(tmp_path: Path) -> None:
    study = write_grid(tmp_path, 24, encoders=("resnet",), fracs=(1.0, 0.5))
    comparisons = compare([Resampled(collect(study).blocks[0], 50)])
    pair = {"a": {"encoder": ["resnet"], "init": "imagenet", "frac": 1.0}, "b": {"init": "random"}}
    claims = [
        {"kind": "difference", "metric": "mla", "number": 0.05, **pair},
        {"kind": "relative", "metric": "dice_image", "number": 0.26, **pair},
    ]
    table = gain_table(comparisons, claims).set_index(["frac", "metric"])
    init = comparisons[comparisons["factor"] == "init"].set_index(["frac", "metric"])
    assert table.loc[(1.0, "mla"), "claimed"] == 0.05
    expected = 0.26 * init.loc[(1.0, "dice_image"), "mean_b"]
    assert table.loc[(1.0, "dice_image"), "claimed"] == pytest.approx(expected)
    assert table.loc[0.5, "claimed"].isna().all()
    for key, row in table.iterrows():
        assert np.mean(row["seeds"]) == pytest.approx(row["value"], abs=1e-5)
        assert [row["low"], row["high"]] == init.loc[key, ["low", "high"]].tolist()


def test_the_tables_on_disk_are_those_of_the_page(grid: Path) -> None:
    text, markdown = text_of(grid), (grid / "report.md").read_text(encoding="utf-8")
    scores, compared = (pd.read_csv(grid / f"{n}.csv") for n in ("scores", "comparisons"))
    claims = pd.read_csv(grid / "claims.csv")
    for _, row in scores[scores["metric"].isin(["dice_image", "auc", "ap"])].iterrows():
        assert with_interval(row["mean"], row["low"], row["high"]) in text
    for _, row in compared[compared["metric"] == "mla"].iterrows():
        shown = with_interval(row["difference"], row["low"], row["high"], "{:+.3f}")
        assert shown in text
    assert len(claims) == 39
    for says in claims["says"]:
        assert says in text
    assert markdown.count("| supported |") >= (claims["direction"] == "supported").sum() > 0
    assert "never finds a defect" in text
    assert "never finds a defect" in markdown
    results = pd.read_csv(grid / "results.csv")
    assert results["state"].value_counts().to_dict() == {"finished": 10, "failed": 1}


def test_it_says_whose_data_it_is_and_where_they_ran(grid: Path) -> None:
    text = text_of(grid)
    assert "grid: transfer learning on synthetic strips (not steel)" in text
    assert "procedural strips, not steel: no number here is a result on steel" in text
    assert "10 finished cells, 60 test images, seeds 0, 1, 2" in text
    for fact in (
        "a CPU",
        "32-true",
        "cccccccc",
        "5" * 64,
        "resnet-random-1.0-s1-",
        "PaperLoss",
        "[0.99, 0.99]",
    ):
        assert fact in text, fact


def test_figures_are_in_the_page(grid: Path) -> None:
    page = (grid / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 9
    assert "http://" not in re.sub(r"xmlns(:\w+)?=\"[^\"]*\"|<!DOCTYPE[^>]*>", "", page)
    markdown = (grid / "report.md").read_text(encoding="utf-8")
    for file in (grid / "figures").glob("*.png"):
        assert f"](figures/{file.name})" in markdown
    assert "No images shown: the runs have no saved masks" in text_of(grid)


@pytest.mark.slow
def test_written_again_it_is_the_same_byte_by_byte(grid: Path) -> None:
    before = contents(grid)
    write_report(grid)
    after = contents(grid)
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == []


def test_claims_are_copied_and_a_faulty_file_replaces_nothing(
    tmp_path: Path, no_figures: None
) -> None:
    study = tmp_path / "study"
    write_run(study, make_truth(60))
    write_report(study)
    assert not (study / "claims.csv").exists()
    write_report(study, PAPER)
    assert (study / "claims.yaml").read_bytes() == PAPER.read_bytes()
    assert set(pd.read_csv(study / "claims.csv")["direction"]) == {"not measured"}
    (tmp_path / "bad.yaml").write_text("claims: [{id: x}]")
    with pytest.raises(ConfigError):
        write_report(study, tmp_path / "bad.yaml")
    assert (study / "claims.yaml").read_bytes() == PAPER.read_bytes()


def test_several_protocols(tmp_path: Path, no_figures: None) -> None:
    study, truth = tmp_path / "losses", make_truth(60)
    for loss, skill in ((None, 0.2), (BALANCED, 0.95)):
        for seed in range(3):
            more = {"loss": loss} if loss else {}
            write_run(study, truth, seed=seed, skill=skill, **more)
    set_state(write_run(study, truth, seed=3), "failed", "why")
    write_report(study, PAPER.parents[1] / "loss_reading" / "claims.yaml")
    text = text_of(study)
    for title in ("synthetic · loss=BalancedLoss", "synthetic · loss=PaperLoss"):
        assert f"{title} Scores and comparisons" in text
        assert f"{title} Runs" in text
    assert "Settings compared" in text
    assert f"{study.name}: settings compared on synthetic strips (not steel)" in text
    page = (study / "report.html").read_text(encoding="utf-8")
    lead, _, rest = page.partition("Trained on")  # the facts follow the first screen
    assert lead.count("<strong>Difference between settings</strong>") == 1
    assert "Right of the line: loss=BalancedLoss is higher." in lead
    assert "Difference between settings" not in rest
    pngs = sorted(file.name for file in (study / "figures").glob("*.png"))
    assert pngs == ["settings_forest.png"]
    answer = (study / "answer.md").read_text(encoding="utf-8")
    assert answer.startswith("loss=BalancedLoss instead of loss=PaperLoss raises Dice from 0.")
    assert "Dice +0." in answer
    assert answer.count("(higher)") == 3
    assert "3 seeds" in answer
    claims = pd.read_csv(study / "claims.csv").set_index("id")
    assert claims.loc["dice", ["block", "direction"]].tolist() == ["between protocols", "supported"]
    assert "Means instead of eq. 1's sums raise Dice" in text
    assert set(pd.read_csv(study / "scores.csv")["block"]) == {
        "synthetic · loss=BalancedLoss", "synthetic · loss=PaperLoss",
    }  # fmt: skip


def test_a_failed_cell_of_one_block_hides_no_missing_one_of_another(tmp_path: Path) -> None:
    study, truth = tmp_path / "study", make_truth(60)
    for seed in (0, 1):
        write_run(study, truth, seed=seed)
    write_run(study, truth, seed=0, loss=BALANCED)
    write_run(study, truth, seed=0, init="imagenet")
    write_run(study, truth, seed=0, init="imagenet", loss=BALANCED)
    set_state(write_run(study, truth, seed=1, init="imagenet"), "failed", "why")
    write_run(study, truth, seed=1, loss=BALANCED)
    said = [alarm.text for alarm in alarms(collect(study))]
    missing = "1 grid cell is missing: resnet · ImageNet · 100% · seed 1; run them to compare all"
    assert f"synthetic · loss=BalancedLoss: {missing}" in said
    assert said[0].startswith("resnet · ImageNet · 100% · seed 1 failed (why): ")


def test_protocols_that_differ_in_what_has_no_short_name(tmp_path: Path, no_figures: None) -> None:
    study, truth = tmp_path / "study", make_truth(60)
    write_run(study, truth)
    write_run(study, truth, tag="b", skill=0.9, science={"optimizer": {"eps": 1e-4}})
    write_report(study)
    assert text_of(study).count("Test scores") >= 2


@pytest.mark.parametrize("state", ["failed", "running"])
def test_no_finished_cell(tmp_path: Path, state: str, no_figures: None) -> None:
    study = tmp_path / "study"
    set_state(write_run(study, make_truth(6)), state, "out of memory")
    (study / "claims.yaml").write_bytes(PAPER.read_bytes())
    write_report(study)
    text = text_of(study)
    assert "No finished cells." in text
    is_state = "failed" if state == "failed" else "is running"
    assert f"resnet · random · 100% · seed 0 {is_state} (out of memory): " in text


def test_a_run_that_cannot_be_read_is_named(tmp_path: Path, no_figures: None) -> None:
    study, truth = tmp_path / "study", make_truth(60)
    write_run(study, truth)
    for init, name in (("imagenet", "test_images.parquet"), ("synthetic", "metrics.json")):
        run = write_run(study, truth, init=init)
        (run / name).write_bytes((run / name).read_bytes()[:50])
    write_report(study)
    text = text_of(study)
    assert text.count("run it again with force=true") == 2
    assert "1 finished cell," in text


def test_one_cell(tmp_path: Path, quick_figures: None) -> None:
    study = tmp_path / "study"
    write_run(study, make_truth(60))
    write_report(study)
    text = text_of(study)
    assert "No initialisation was compared with random weights" in text
    assert "resnet · random · 100% has the highest Dice" in text
    assert "No images shown: there is only one cell" in text
    assert (study / "figures" / "figure_4.svg").exists()
    assert not (study / "figures" / "figure_9.svg").exists()
    assert pd.read_csv(study / "comparisons.csv").empty
    assert "1 finished cell, 60 test images, seed 0" in text


def test_hostile_names_are_shown_as_they_are(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    classes = (evil, "_x_", 'a"b', "c|d & 'e'")
    study, truth = tmp_path / "study", make_truth(60, classes=classes)
    write_run(study, truth, classes=classes)
    for path in ("/x\"y'.ckpt", "</script><img src=x onerror=alert(1)>"):
        write_run(study, truth, init="checkpoint", classes=classes, path=path, tag=str(len(path)))
    set_state(write_run(study, truth, classes=classes, seed=1), "failed", evil)
    write_report(study)
    page = (study / "report.html").read_text(encoding="utf-8")
    assert page.lower().count("<script") == page.lower().count("</script>") <= 3
    assert "<img src=x" not in page
    assert "alert(1)" in page
    text = text_of(study)
    for shown in (*classes, "/x\"y'.ckpt"):
        assert shown in text, shown
    markdown = (study / "report.md").read_text(encoding="utf-8")
    assert "<script>" not in markdown.replace("\\<script", "")
    for file in (study / "figures").iterdir():
        assert re.fullmatch(r"[\w.\-]+", file.name), file.name


def test_a_name_is_no_formula(tmp_path: Path) -> None:
    """Matplotlib parses text between dollar signs as math, and fails if it is invalid."""
    rows = [("resnet", "$x^$", 1.0, 0, str(k), 1, "$y^$", k % 2 == 0, k / 9) for k in range(9)]
    names = ("encoder", "init", "frac", "seed", "image_id", "class_id", "class_name", "label")
    curve = curves.roc(pd.DataFrame(rows, columns=[*names, "prob"]))
    image, mask = np.zeros((4, 8), np.uint8), np.zeros((1, 4, 8), bool)
    picture = examples([image], [{"truth": mask, "$x^$": mask}], [{}], ["first"], ["$y^$"])
    for figure in (curve, picture):
        assert save(figure, tmp_path / "x").startswith("<svg")


def test_a_study_that_says_all_already_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_figures: None
) -> None:
    study = tmp_path / "study"
    run = write_run(study, make_truth(60))
    calls = []
    write = module.write_report
    monkeypatch.setattr(module, "write_report", lambda *a: calls.append(a) or write(*a))
    conclude_study(study, None)
    conclude_study(study, None)
    assert len(calls) == 1
    status = run / "status.json"
    status.write_text(status.read_text())
    conclude_study(study, None)
    assert len(calls) == 2


def test_no_study(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        write_report(tmp_path / "nowhere")


# Figures


def test_two_fractions_give_the_label_efficiency(tmp_path: Path, quick_figures: None) -> None:
    truth = make_truth(60)
    for k, frac in enumerate((1.0, 0.5, 0.25)):
        write_run(tmp_path, truth, frac=frac)
        block = Resampled(collect(tmp_path).blocks[0])
        drawn: set[str] = set()
        parts = figures(block, score_table([block]), Drawing(tmp_path, "x-", drawn))
        assert {part.name for part in parts if isinstance(part, Picture)} == drawn
        assert ("x-label_efficiency_dice_image" in drawn) == (k > 0)
        assert ("x-label_efficiency_mla" in drawn) == (k > 0)


def test_two_initialisations_have_a_figure_9_each(tmp_path: Path, quick_figures: None) -> None:
    write_grid(tmp_path, 60, encoders=("resnet",), inits=("random", "imagenet", "synthetic"),
               fracs=(1.0,), seeds=(0,))  # fmt: skip
    block = Resampled(collect(tmp_path).blocks[0])
    drawn: set[str] = set()
    figures(block, score_table([block]), Drawing(tmp_path, "", drawn))
    assert {name for name in drawn if "figure_9" in name} == {
        "figure_9_imagenet", "figure_9_synthetic",
    }  # fmt: skip


def test_slug() -> None:
    assert slug("synthetic · loss=PaperLoss") == "synthetic_loss_PaperLoss"
    assert slug("../../etc/'\"<x>") == "etc_x"


# Tables


def test_tables_show_a_dash_and_a_minus_sign(tmp_path: Path) -> None:
    truth = make_truth(60)
    for init, skill in (("random", 0.9), ("imagenet", 0.3)):
        write_run(tmp_path, truth, init=init, skill=skill)
    block = Resampled(collect(tmp_path).blocks[0])
    table = comparison_table("t", compare([block]), "init", ("dice_image", "auc"))
    assert table is not None
    names = [column.name for column in table.columns]
    dice, auc = (dict(zip(names, (e.text for e in row), strict=True)) for row in table.rows)
    assert names == ["condition", "ImageNet", "random", "difference", "verdict"]
    assert [(group.title, group.rows) for group in table.groups] == [("Dice", 1), ("AUC", 1)]
    assert dice["condition"] == "resnet · 100%"
    assert dice["difference"].startswith("−0.")
    assert dice["verdict"] == "one training"
    assert not any(entry.is_best for row in table.rows for entry in row)  # nothing is judged
    # No fractions and no test for scores that are not a mean over images.
    assert table.details is not None
    names = [column.name for column in table.details.columns]
    auc = dict(zip(names, (e.text for e in table.details.rows[1]), strict=True))
    assert (auc["improved / tied / worse"], auc["p (Holm)"]) == ("–", "–")
    assert auc["relative"] != "–"
    assert comparison_table("t", compare([block]), "gain", ("dice_image",)) is None
    main, *_ = score_tables(score_table([block]), block.data)
    dices = [row[1] for row in main.rows]
    assert [entry.is_best for entry in dices] == [True, False]  # random is better here
    assert float(dices[0].value or 0) > float(dices[1].value or 0)
    (foot,) = main.foot
    assert foot[0].text == "never finds a defect"
    assert foot[1].text == "0.000"
    empty = block.data.empty_predictor
    assert foot[-1].text == f"{empty['dice_kaggle']:.3f}"


def test_claims_in_a_table() -> None:
    row = {"says": "s", "where": None, "kind": "improved", "number": 0.81, "value": 0.5,
           "low": 0.4, "high": 0.6, "n_seeds": 3, "interval": "seeds and images", "case": "a",
           "direction": "supported", "size": "contradicted", "note": "n"}  # fmt: skip
    absent = row | {"kind": "difference", "number": None, "value": None, "low": None,
                    "interval": None, "direction": "not measured", "size": None,
                    "n_seeds": None, "note": None, "case": "not finished: x"}  # fmt: skip
    rows = claim_table(pd.DataFrame([row, absent])).rows
    assert [e.text for e in rows[0]] == [
        "s. n", "81%", "50% [40%, 60%]", "supported", "contradicted",
    ]  # fmt: skip
    assert rows[0][0].note == "a (seeds and images); 3 seeds"
    assert [e.text for e in rows[1]] == ["s", "–", "–", "not measured", "no size claimed"]
    assert rows[1][0].note == "not finished: x"


def test_claims_are_counted_and_those_not_measured_folded() -> None:
    names = ["block", "says", "where", "kind", "number", "value", "low", "high", "n_seeds",
             "interval", "case", "direction", "size", "note"]  # fmt: skip
    known = {"block": "b", "where": "Fig. 5", "kind": "difference", "case": "c"}
    rows = [known | {"says": str(k), "direction": word, "size": None} for k, word in
            enumerate(("not measured", "supported", "contradicted", "supported"))]  # fmt: skip
    count, tested, folded = _claims(pd.DataFrame(rows, columns=names), "b")
    assert count == Text("Of 4 claims: 2 supported, 1 contradicted, 1 not measured.")
    assert isinstance(tested, Table)
    assert [row[0].text for row in tested.rows] == ["1", "2", "3"]
    assert isinstance(folded, Fold)
    assert folded.title == "1 claim is not measured by this study"
    only = _claims(pd.DataFrame(rows[:1], columns=names), "b")
    assert [type(part) for part in only] == [Text, Fold]
    assert _claims(None, "b") == _claims(pd.DataFrame(rows, columns=names), "other") == []


def test_images_missed_and_falsely_flagged(tmp_path: Path) -> None:
    """What a plant decides on, counted image by image from the files."""
    for seed, skill in ((0, 0.3), (1, 0.9)):
        write_run(tmp_path, make_truth(60), seed=seed, skill=skill)
    block = collect(tmp_path).blocks[0]
    row, *by_class = flags([block]).to_dict("records")
    tables = [pd.read_parquet(path) for path in sorted(tmp_path.glob("*/test_images.parquet"))]
    missed, false = [], []
    for table in tables:
        sums = table.groupby("image_id")[["truth_pixels", "predicted_pixels"]].sum()
        has, flagged = sums["truth_pixels"] > 0, sums["predicted_pixels"] > 0
        missed.append((has & ~flagged).sum())
        labels = table.assign(flag=table["prob"] > 0.5).groupby("image_id")["flag"].any()
        false.append((~has & labels).sum())
    assert row["defective"] + row["defect_free"] == 60
    assert row["missed_masks"] == np.mean(missed) > 0
    assert row["false_labels"] == np.mean(false)
    assert row["false_masks"] == 0  # the runs predict nothing outside the truth
    for m, own in enumerate(by_class, start=1):
        of_class = [table[table["class_id"] == m] for table in tables]
        has = [one["truth_pixels"] > 0 for one in of_class]
        found = [one["predicted_pixels"] > 0 for one in of_class]
        assert own["class"] == f"class {m} ({block.classes[m - 1]})"
        assert own["defective"] == has[0].sum()
        assert own["missed_masks"] == np.mean(
            [(h & ~f).sum() for h, f in zip(has, found, strict=True)]
        )
        assert own["defect_free"] == row["defect_free"]
        assert own["false_masks"] == 0
    shown = flag_table(flags([block]))
    assert [group.title for group in shown.groups] == ["any class", *(r["class"] for r in by_class)]
    cells = shown.rows[0]
    assert cells[1].text == f"{100 * row['missed_masks'] / row['defective']:.1f}%"
    assert cells[1].note == f"{row['missed_masks']:.1f} of {row['defective']:.0f}"
    assert cells[2].text == "0.0%"


def test_versions_of_the_data_are_compared(tmp_path: Path, no_figures: None) -> None:
    truth = make_truth(20)
    other = dict(list(truth.items())[:15])
    changed = next(name for name, masks in other.items() if masks.any())
    other[changed] = np.zeros_like(truth[changed])
    for letter, masks in (("a", truth), ("b", other)):
        facts = {"data_fingerprint": letter * 64}
        write_run(tmp_path, masks, tag=letter, science={"data": letter}, facts=facts)
    [said] = [alarm.text for alarm in alarms(collect(tmp_path)) if "versions" in alarm.text]
    assert "the defects of 1 of 15 common test images differ in size" in said


# Pictures


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cells on strips on disk, with their predicted masks."""
    home = tmp_path_factory.mktemp("strips")
    cache, study = home / "data", home / "runs" / "strips"
    data = DefectDataModule(Strips(cache / "synthetic", n=40), cache, size=(32, 64))
    data.prepare_data()
    data.setup()
    bits = np.asarray(data.pack.masks)
    layers = (bits[:, None] >> np.arange(4, dtype=bits.dtype)[:, None, None]) & 1 == 1
    truth = dict(zip(data.pack.index["image_id"], layers, strict=True))
    about = {"root": str(data.dataset.root), "cache": str(cache), "data": {"size": [32, 64]}}
    facts = {
        "data_fingerprint": data.pack.fingerprint,
        "split_fingerprint": fingerprint(data.split),
    }
    for init, skill in (("random", 0.5), ("imagenet", 0.8)):
        write_run(study, truth, init=init, skill=skill, with_masks=True, facts=facts,
                  classes=data.pack.classes, **about)  # fmt: skip
    return study


def test_pictures_and_browser(real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tlunet.report.sections.figures", lambda *_: [])
    write_report(real)
    assert {p.name for p in (real / "figures").iterdir()} == {
        f"{name}.{suffix}" for suffix in ("png", "svg")
        for name in ("figure_7", "figure_7_outcomes", "forest", "gain_by_class")
    }  # fmt: skip
    page = (real / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 40
    text = text_of(real)
    assert "Figure 7: resnet · ImageNet · 100% vs. resnet · random · 100%" in text
    assert "No images shown" not in text
    before = contents(real)
    write_report(real)
    assert contents(real) == before


def test_the_browser_holds_what_the_runs_found(real: Path) -> None:
    block = Resampled(collect(real).blocks[0])
    drawn: set[str] = set()
    parts = drawings.pictures(real, block, Drawing(real.parent / "elsewhere", "", drawn))
    (browser,) = (part for part in parts if isinstance(part, Browser))
    assert drawn == {"figure_7", "figure_7_outcomes"}
    assert len(browser.images) == 40
    table = pd.read_parquet(next(real.glob("resnet-imagenet-*")) / "test_masks.parquet")
    found = dict(zip(zip(table["image_id"], table["class_id"], strict=True), table["runs"],
                     strict=True))  # fmt: skip
    scores = block.images[1]["dice_image"]
    for image in browser.images:
        masks = image.predictions["resnet · ImageNet · 100%"]
        assert masks == tuple(found.get((image.image_id, m), "") for m in (1, 2, 3, 4))
        own = scores[block.data.image_ids.index(image.image_id)]
        shown = image.scores["resnet · ImageNet · 100%"]
        assert shown is None if np.isnan(own) else shown == pytest.approx(own)
        counted = block.data.counts[0].truth[block.data.image_ids.index(image.image_id)]
        lengths = [sum(map(int, runs.split()[1::2])) for runs in image.truth]
        assert lengths == counted.tolist()


def test_images_are_shown_at_their_own_size(tmp_path: Path) -> None:
    """Trained at half the size: the pictures are the files, the masks are stretched over them."""
    cache = tmp_path / "data"
    drawn = DefectDataModule(Strips(cache / "synthetic", n=40), cache, size=(32, 64))
    drawn.prepare_data()
    (root,) = (cache / "synthetic").iterdir()
    data = DefectDataModule(OnDisk("severstal", root), cache, size=(16, 32))
    data.prepare_data()
    data.setup()
    masks = [class_masks(bits, 4) for bits in np.asarray(data.pack.masks)]
    truth = dict(zip(data.pack.index["image_id"], masks, strict=True))
    facts = {
        "data_fingerprint": data.pack.fingerprint,
        "split_fingerprint": fingerprint(data.split),
    }
    for init in ("random", "imagenet"):
        write_run(tmp_path / "s", truth, init=init, with_masks=True, facts=facts, root=str(root),
                  dataset="severstal", classes=data.pack.classes, cache=str(cache),
                  data={"size": [16, 32]})  # fmt: skip
    block = Resampled(collect(tmp_path / "s").blocks[0])
    keys = Key("resnet", "imagenet", 1.0), Key("resnet", "random", 1.0)
    pictures = open_pictures(tmp_path / "s", *(block.cell(key) for key in keys))
    assert isinstance(pictures, Pictures)
    name = block.data.image_ids[0]
    row = drawn.pack.index["image_id"].tolist().index(name)
    assert np.array_equal(pictures.image(name), drawn.pack.images[row])
    assert pictures.truth(name).shape == (4, 16, 32)
    shown = browser([pictures]).images
    assert {(image.size, image.shown) for image in shown} == {((16, 32), (32, 64))}
    assert Image.open(io.BytesIO(shown[0].jpeg)).size == (64, 32)
    figure = figure_7(pictures)
    sizes = {ax.images[0].get_array().shape for ax in figure.axes}  # type: ignore[union-attr]
    assert sizes == {(32 * 8, 64 * 8, 3)}  # enlarged eight times, so that edges are thin
    for record in data.dataset.read().records:  # moved since: at the size of training
        record.image.unlink()
    assert pictures.image(name).shape == (16, 32)


def harmed(study: Path, to: Path, change: dict[str, Any]) -> Resampled:
    shutil.copytree(study, to)
    for path in to.glob("*/config.yaml"):
        config = yaml.safe_load(path.read_text())
        config["data"] |= change
        path.write_text(yaml.safe_dump(config))
    return Resampled(collect(to).blocks[0])


def test_why_there_are_no_pictures(real: Path, tmp_path: Path) -> None:
    keys = Key("resnet", "imagenet", 1.0), Key("resnet", "random", 1.0)

    def said(folder: Path, block: Resampled) -> str:
        reason = open_pictures(folder, *(block.cell(key) for key in keys))
        assert isinstance(reason, str)
        return reason

    block = harmed(real, tmp_path / "a", {"root": "/nowhere"})
    assert said(tmp_path / "a", block).startswith("no images in /nowhere; write the report on")
    block = harmed(real, tmp_path / "b", {"n": 41})
    assert "or their split differ from those of the run" in said(tmp_path / "b", block)
    block = harmed(real, tmp_path / "c", {"balance": "odd"})
    assert "odd" in said(tmp_path / "c", block)
    next((tmp_path / "c").glob("resnet-random-*/test_masks.parquet")).unlink()
    assert "no saved masks" in said(tmp_path / "c", block)


def test_a_test_part_without_a_defect_has_no_figure_7(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report says that there is nothing to choose, and does not fail."""
    block = Resampled(collect(real).blocks[0])
    nothing = pd.DataFrame({"a": np.nan, "b": np.nan, "difference": np.nan},
                           index=pd.Index(block.data.image_ids, name="image_id"))  # fmt: skip
    monkeypatch.setattr("tlunet.report.figures.images.pictures.Pictures.dice", nothing)
    parts = drawings.pictures(real, block, Drawing(tmp_path, "", set()))
    assert any(isinstance(part, Text | Browser) for part in parts)
    assert not any(isinstance(part, Picture) for part in parts)


def test_figure_7_is_chosen_by_rule() -> None:
    """Eleven images with differences 0.0, 0.1 … 1.0: the percentiles are ranks 9, 5 and 1."""
    names = [f"{c}.jpg" for c in "abcdefghijk"]
    difference = np.arange(11) / 10
    table = {"a": difference, "b": 0.0, "difference": difference}
    dice = pd.DataFrame(table, index=pd.Index(names, name="image_id"))
    dice.loc["clean.jpg"] = np.nan  # without a defect: never chosen
    missed = {"j.jpg": 900, "c.jpg": 50, "d.jpg": 60, "clean.jpg": 999}
    expected = {
        "j.jpg": "90th percentile", "f.jpg": "50th percentile", "b.jpg": "10th percentile",
        "d.jpg": "most pixels missed",
    }  # fmt: skip
    assert chosen(dice, missed) == expected
    assert list(chosen(dice, missed)) == list(expected)
    assert chosen(dice.sample(frac=1, random_state=0), missed) == expected


def test_figure_7_of_ties_and_of_few_images() -> None:
    names = pd.Index(["d", "c", "b", "a"], name="image_id")
    tied = pd.DataFrame({"a": 0.5, "b": 0.5, "difference": 0.0}, index=names)
    # By name: a, b, c, d; ranks round(2.7), round(1.5), round(0.3).
    assert chosen(tied, {}) == {
        "d": "90th percentile", "c": "50th percentile", "a": "10th percentile",
        "b": "most pixels missed",
    }  # fmt: skip
    assert chosen(tied.iloc[:1], {}) == {"d": "90th percentile"}
    assert chosen(tied.iloc[:0], {}) == {}
