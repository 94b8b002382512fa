"""The recorded scores, computed again from the run folders with plain pandas alone."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from studies import write_grid
from tlunet.report.report import write_report

ROOT = Path(__file__).parents[2]
CELL = ["encoder", "init", "frac"]
TOLERANCE = 1e-6


def plain_scores(table: pd.DataFrame, threshold: float) -> dict[str, float]:
    """Every score of a ``test_images.parquet``, by the definitions in docs/statistics.md."""
    t = table.rename(columns={"intersection": "both", "truth_pixels": "X", "predicted_pixels": "Y"})
    t["areas"], t["guess"] = t["X"] + t["Y"], t["prob"] > threshold
    image = t.groupby("image_id")[["both", "X", "areas"]].sum().query("X > 0")
    out = {
        "dice_image": (2 * image["both"] / image["areas"]).mean(),
        "iou_image": (image["both"] / (image["areas"] - image["both"])).mean(),
    }
    t["dice"] = (2 * t["both"] / t["areas"]).fillna(1.0)
    t["iou"] = (t["both"] / (t["areas"] - t["both"])).fillna(1.0)
    pooled = t.groupby("class_id")[["both", "X", "areas"]].sum().query("X > 0")
    of_class = {
        "dice_class": t[t["X"] > 0].groupby("class_id")["dice"].mean(),
        "iou_class": t[t["X"] > 0].groupby("class_id")["iou"].mean(),
        "dice_pooled": 2 * pooled["both"] / pooled["areas"],
        "iou_pooled": pooled["both"] / (pooled["areas"] - pooled["both"]),
        "auc": pd.Series({m: plain_auc(own) for m, own in t.groupby("class_id")}),
        "ap": pd.Series({m: plain_precision(own) for m, own in t.groupby("class_id")}),
    }
    for name, scores in of_class.items():
        out |= {name: scores.mean()} | {f"{name}_{m}": score for m, score in scores.items()}
    t["hit"], t["either"] = t["label"] & t["guess"], t["label"] | t["guess"]
    t["right"] = t["label"] == t["guess"]
    labels = t.groupby("image_id")[["hit", "either"]].sum()
    return out | {
        "dice_kaggle": t["dice"].mean(),
        "iou_kaggle": t["iou"].mean(),
        "mla": (labels["hit"] / labels["either"]).fillna(1.0).mean(),
        "label_accuracy": t["right"].mean(),
        "subset_accuracy": t.groupby("image_id")["right"].all().mean(),
    }


def plain_auc(own: pd.DataFrame) -> float:
    """The share of pairs of a positive and a negative that are in order, by their ranks."""
    positive = int(own["label"].sum())
    pairs = positive * (len(own) - positive)
    ranks = own["prob"].rank()[own["label"]].sum()
    return (ranks - positive * (positive + 1) / 2) / pairs if pairs else np.nan


def plain_precision(own: pd.DataFrame) -> float:
    """The mean over the positives of the precision at their probability."""
    at = own.groupby("prob")["label"].agg(["sum", "size"]).sort_index(ascending=False)
    precision = at["sum"].cumsum() / at["size"].cumsum()
    return (precision * at["sum"]).sum() / at["sum"].sum() if at["sum"].any() else np.nan


def deviations(study: Path) -> pd.Series:
    """Compare a study's ``scores.csv`` with its run folders; one protocol, one recipe per init.

    Returns:
        The absolute difference of every score of every cell.
    """
    rows = []
    for file in study.glob("*/test_images.parquet"):
        meta = json.loads((file.parent / "meta.json").read_text())
        scores = plain_scores(pd.read_parquet(file), meta["threshold"])
        rows += [(*(meta[k] for k in CELL), name, value) for name, value in scores.items()]
    found = pd.DataFrame(rows, columns=[*CELL, "metric", "mean"])
    found = found.groupby([*CELL, "metric"])["mean"].agg(lambda x: x.mean(skipna=False))
    recorded = pd.read_csv(study / "scores.csv").set_index([*CELL, "metric"])["mean"]
    assert found.index.sort_values().equals(recorded.index.sort_values())
    assert (found.isna() == recorded.reindex(found.index).isna()).all()
    return (found - recorded.reindex(found.index)).abs()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = write_grid(
        tmp_path_factory.mktemp("runs") / "grid", 60, encoders=("resnet",), seeds=(0, 1)
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in ("figures", "pictures"):
            patch.setattr(f"tlunet.report.report.{name}", lambda *_: [])
        write_report(study)
    return study


def test_every_score_is_that_of_plain_pandas(study: Path) -> None:
    found = deviations(study)
    assert len(found) == 4 * (7 + 6 + 6 * 4)  # cells × (means over images, over classes, by class)
    assert found.max() < TOLERANCE


def test_the_check_finds_a_wrong_number(study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for run in study.glob("*/test_images.parquet"):
        (copy / run.parent.name).mkdir()
        for name in ("test_images.parquet", "meta.json"):
            (copy / run.parent.name / name).write_bytes(run.with_name(name).read_bytes())
    scores = pd.read_csv(study / "scores.csv")
    scores.loc[7, "mean"] += 2 * TOLERANCE
    scores.to_csv(copy / "scores.csv", index=False)
    assert (deviations(copy) > TOLERANCE).sum() == 1


def test_the_lines_in_the_documentation(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    [lines] = re.findall(r"```python\n(.*?)```", text, re.S)
    monkeypatch.chdir(study.parent)
    names: dict[str, pd.DataFrame] = {}
    exec(lines.replace("runs/neu_seg", "grid"), names)
    recorded = pd.read_csv(study / "scores.csv").set_index(CELL)
    for metric in ("dice_image", "mla"):
        expected = recorded[recorded["metric"] == metric]["mean"]
        found = names["scores"][metric].reindex(expected.index)
        assert (found - expected).abs().max() < TOLERANCE
    assert names["largest"] < TOLERANCE
