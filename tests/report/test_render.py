"""Rendering documents from recorded results."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from tlunet.errors import ConfigError, DataError
from tlunet.machine.files import write_json, write_text
from tlunet.report import render
from tlunet.report.record import record
from tlunet.runs import results

ROOT = Path(__file__).parents[2]
CLAIM = "{id: c, says: It helps, kind: difference, metric: mla, number: 0.05, %s}"
CELLS = "a: {encoder: resnet, init: imagenet, frac: 1.0}, b: {init: random}"


def cell(study: Path, init: str, state: str = "finished", **about: object) -> Path:
    folder = study / f"resnet-{init}-1.0-s0-abc"
    meta = {"study": "s", "dataset": "d", "encoder": "resnet", "init": init, "frac": 1.0, "seed": 0}
    meta |= {"split_fingerprint": "f", "hardware": "h", "precision": "32-true", "test_images": 9}
    write_json(folder / "meta.json", meta | {"seconds": 12.0, "best_epoch": 3} | about)
    error = "why" if state != "finished" else None
    write_json(folder / "status.json", {"state": state, "error": error})
    empty = {"dice_image": 0.0, "mla": 0.1, "auc": {"mean": 0.5, "per_class": {"1": 0.5}}}
    metrics = {"dice_image": 0.5, "mla": 0.75, "auc": {"mean": 0.25, "per_class": {"1": 0.25}}}
    write_json(folder / "metrics.json", metrics | {"dead_classes": [2], "empty_predictor": empty})
    return folder


@pytest.fixture
def study(tmp_path: Path) -> Path:
    cell(tmp_path, "random")
    cell(tmp_path, "imagenet", "failed")
    results.gather(tmp_path)
    score = {"block": "d", "encoder": "resnet", "frac": 1.0, "low": 0.25, "high": 0.75,
             "n_seeds": 3, "interval": "seeds and images"}  # fmt: skip
    rows = [score | {"init": i, "metric": m, "mean": v} for i, m, v in
            (("random", "mla", 0.5), ("random", "auc", 0.6), ("imagenet", "mla", 0.7),
             ("imagenet", "auc", 0.8))]  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "scores.csv", index=False)
    compared = score | {
        "factor": "init", "difference_of": "imagenet − random", "at": "resnet · 1.0",
        "init": "imagenet", "metric": "mla", "mean_a": 0.7, "mean_b": 0.5, "difference": 0.2,
        "relative": 0.4, "improved": 0.5, "tied": 0.3, "worse": 0.2, "p": 0.01, "p_holm": 0.02,
        "verdict": "higher",
    }  # fmt: skip
    pd.DataFrame([compared]).to_csv(tmp_path / "comparisons.csv", index=False)
    claim = {"block": "d", "id": "c", "says": "It helps", "where": "Fig. 5", "kind": "difference",
             "number": 0.05, "value": 0.2, "low": 0.1, "high": 0.3, "n_seeds": 3,
             "interval": "seeds and images", "case": "a vs. b", "direction": "supported",
             "size": "contradicted", "note": None}  # fmt: skip
    pd.DataFrame([claim]).to_csv(tmp_path / "claims.csv", index=False)
    (tmp_path / "claims.yaml").write_text(f"claims: [{CLAIM % CELLS}]")
    (tmp_path / "answer.md").write_text("It helps.\n")
    return tmp_path


def rendered(study: Path, block: str) -> str:
    readme = study / "README.md"
    write_text(readme, f"before\n<!-- {block} -->\nold 0.99\n<!-- end -->\nafter\n")
    text = render.render(readme)
    assert "0.99" not in text
    assert text.startswith(f"before\n<!-- {block} -->\n")
    assert text.endswith("<!-- end -->\nafter\n")
    write_text(readme, text)
    assert render.render(readme) == text
    return text


def test_results(study: Path) -> None:
    text = rendered(study, "results results.csv")
    assert "| resnet | random | 1.0 | 0 | 0.500 |" in text
    assert "| *never finds a defect* |  |  |  | 0.000 |" in text
    assert "imagenet" not in text  # its cell failed
    assert "d data, 9 test images, seed 0, h (32-true), 12 s of training in total." in text


@pytest.mark.parametrize(
    ("key", "what"), [("split_fingerprint", "splits"), ("dataset", "data sets")]
)
def test_cells_of_several_splits_or_data_sets_are_never_in_one_table(
    study: Path, key: str, what: str
) -> None:
    cell(study, "synthetic", **{key: "another"})
    results.gather(study)
    with pytest.raises(ValueError, match=f"the cells have 2 {what}"):
        render.results(study / "results.csv")


def test_scores(study: Path) -> None:
    text = rendered(study, "scores scores.csv mla,auc")
    assert "| encoder | init | frac | seeds | MLA | AUC |" in text
    assert "| resnet | random | 1.0 | 3 | 0.500 \\[0.250, 0.750\\] | 0.600" in text
    assert text.index("| random |") < text.index("| imagenet |")  # as recorded
    assert "95% interval over seeds and images" in text
    cells = pd.read_csv(study / "results.csv")
    empty = cells[cells["state"] == "finished"]["empty_mla"].iloc[0]
    assert f"| *never finds a defect* |  |  |  | *{empty:.3f}* |" in text


def test_comparisons(study: Path) -> None:
    text = rendered(study, "comparisons comparisons.csv init mla")
    assert "+0.200" in text
    assert "50 / 30 / 20" in text
    assert "higher" in text
    assert "*Not measured.*" in rendered(study, "comparisons comparisons.csv frac mla")
    assert "*Not measured.*" in rendered(study, "comparisons comparisons.csv init auc")


def test_claims(study: Path) -> None:
    text = rendered(study, "claims claims.csv")
    assert "| It helps *Fig. 5; " in text
    assert "| +0.050 | +0.200" in text
    assert "| supported | contradicted |" in text


def test_claims_of_a_study_that_was_not_run(study: Path) -> None:
    more = CLAIM.replace("number: 0.05, ", "") % CELLS
    (study / "claims.yaml").write_text(f"claims: [{CLAIM % CELLS}, {more}]")
    text = rendered(study, "claims claims.yaml")
    assert text.count("| It helps") == 2
    assert "| not measured | not measured |" in text
    assert "| not measured | no size claimed |" in text
    (study / "claims.yaml").write_text("claims: [{}]")
    with pytest.raises(ConfigError):
        render.claims(study / "claims.yaml")


def test_any_table_as_it_is(study: Path) -> None:
    pd.DataFrame({"a": [1, -2.5, None], "b": ["x|y", "", "z"]}).to_csv(study / "t.csv", index=False)
    text = rendered(study, "table t.csv")
    assert "| a | b |\n| ---: | --- |\n| 1 | x\\|y |\n| −2.5 |" in text
    assert "| – | z |" in text
    assert "nan" not in text


def test_a_text_as_it_is(study: Path) -> None:
    assert "\nIt helps.\n<!-- end -->" in rendered(study, "text answer.md")


def test_what_is_not_there_was_not_measured(study: Path) -> None:
    for block in ("results no.csv", "scores no.csv mla", "text no.md", "claims no.yaml"):
        assert "-->\n*Not measured.*\n<!-- end -->" in rendered(study, block)


def test_an_unknown_block_is_an_error(study: Path) -> None:
    write_text(study / "x.md", "<!-- figure x.csv -->\n<!-- end -->\n")
    with pytest.raises(ValueError, match="block 'figure'; allowed: results, scores"):
        render.render(study / "x.md")


def test_what_a_repository_keeps(study: Path, tmp_path: Path) -> None:
    kept = tmp_path / "experiments" / "x"
    with pytest.raises(DataError, match=r"no report\.html; write it first"):
        record(study, kept)
    write_text(study / "report.html", "page")
    for name in ("figure_4.png", "figure_4.svg", "figure_7.png", "loss-figure_7.png"):
        write_text(study / "figures" / name, name)
    write_text(kept / "figures" / "old.png", "of an earlier report")
    tables = {"results.csv", "scores.csv", "comparisons.csv", "claims.csv", "answer.md"}

    def names() -> set[str]:
        return {str(p.relative_to(kept)) for p in kept.rglob("*") if p.is_file()}

    written = record(study, kept)
    assert (
        names() == {str(p.relative_to(kept)) for p in written} == {*tables, "figures/figure_4.png"}
    )
    assert (kept / "scores.csv").read_bytes() == (study / "scores.csv").read_bytes()
    for run in study.glob("resnet-*/meta.json"):
        write_json(run, json.loads(run.read_text()) | {"dataset": "synthetic"})
    results.gather(study)
    record(study, kept)
    pictures = {"figures/figure_7.png", "figures/loss-figure_7.png"}
    assert names() == {*tables, "figures/figure_4.png", *pictures}


def test_the_command(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = study / "x.md"

    def run(*args: str) -> int:
        monkeypatch.setattr(sys, "argv", ["render", *args, str(readme)])
        return render.main()

    write_text(readme, "<!-- text answer.md -->\nold\n<!-- end -->\n")
    assert run("--check") == 1
    assert "is stale" in capsys.readouterr().out
    assert "old" in readme.read_text()
    assert run() == 0
    assert "It helps." in readme.read_text()
    assert run("--check") == 0
    write_text(readme, "<!-- nonsense answer.md -->\n<!-- end -->\n")
    assert run() == 2
    assert "nonsense" in capsys.readouterr().err


def test_gains_are_shares_of_what_all_data_gain(tmp_path: Path) -> None:
    row = {"encoder": "e", "init": "imagenet", "metric": "dice_image", "low": 0.01, "high": 0.09}
    few = "d · rest=none"
    rows = [
        {"block": few, "factor": "frac", "difference_of": "1.0 − 0.1", "frac": 1.0, "at": "e",
         "difference": 0.1},
        {"block": few, "factor": "frac", "difference_of": "0.1 − 0.05", "frac": 0.1, "at": "e",
         "difference": 0.3},  # not all data
        {"factor": "protocol", "difference_of": f"d · rest=labels − {few}", "frac": 0.1,
         "at": "e · imagenet · 0.1", "difference": 0.05},
        {"factor": "protocol", "difference_of": f"d · rest=mean_teacher − {few}", "frac": 0.1,
         "at": "e · imagenet · 0.1", "difference": 0.04, "low": -0.01},
        {"factor": "protocol", "difference_of": f"d · rest=labels − {few}", "frac": 0.05,
         "at": "e · imagenet · 0.05", "difference": 0.02},
    ]  # fmt: skip
    pd.DataFrame([row | one for one in rows]).to_csv(tmp_path / "comparisons.csv", index=False)
    lines = render.gap(tmp_path / "comparisons.csv", "dice_image").splitlines()
    assert lines[3:5] == [
        "| rest=labels · e · ImageNet · 10% | +0.050 \\[+0.010, +0.090\\] "
        "| +0.100 \\[+0.010, +0.090\\] | 50% |",
        "| rest=mean_teacher · e · ImageNet · 10% | +0.040 \\[−0.010, +0.090\\] "
        "| +0.100 \\[+0.010, +0.090\\] | – |",
    ]
    assert len(lines) == 5


def test_images_missed_and_falsely_flagged_by_class(tmp_path: Path) -> None:
    row = {"encoder": "e", "init": "random", "frac": 1.0, "n_seeds": 3, "defective": 4.0,
           "defect_free": 10.0, "missed_masks": 1.0, "false_masks": 2.0, "missed_labels": 0.0,
           "false_labels": 5.0}  # fmt: skip
    names = ("any class", "class 1 (pit)", "class 12 (dent)")
    rows = [row | {"block": f"d · {b}", "class": name} for b in ("a=1", "a=2") for name in names]
    pd.DataFrame(rows).to_csv(tmp_path / "flags.csv", index=False)
    text = render.flags(tmp_path / "flags.csv", "1")
    assert [name in text for name in names] == [True, True, False]
    assert "| a=2 · e · random · 100% | **25.0%** *1.0 of 4* | **20.0%** *2.0 of 10* |" in text
    assert "class 1 (pit)" not in render.flags(tmp_path / "flags.csv")


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in ROOT.rglob("*.md")
        if not path.relative_to(ROOT).parts[0].startswith(".")
        and path.parent.name != "benchmarks"  # other kinds of blocks: tests/bench
    ],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_every_number_in_the_docs_is_the_recorded_one(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert render.render(path) == text
    for match in render.BLOCK.finditer(text):
        assert match[0].count("\n") >= 2  # the block is not empty
