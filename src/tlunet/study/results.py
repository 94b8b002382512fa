"""From run folders to one table: ``results.csv``, a row a cell."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from tlunet.study.files import read_json, write_whole

CELL = ("study", "dataset", "encoder", "init", "frac", "seed")
SCORES = (
    "mla", "label_accuracy", "subset_accuracy", "dice_image", "iou_image", "dice_kaggle",
    "iou_kaggle",
)  # fmt: skip
BY_CLASS = ("auc", "ap", "dice_class", "iou_class", "dice_pooled", "iou_pooled")
EMPTY = ("mla", "label_accuracy", "subset_accuracy", "dice_image", "dice_kaggle", "iou_kaggle")
FACTS = (
    "epochs", "best_epoch", "train_images", "test_images", "threshold", "parameters", "seconds",
    "images_per_second", "peak_memory", "accelerator", "hardware", "precision",
    "split_fingerprint", "data_fingerprint", "digest", "commit",
)  # fmt: skip


def state_of(folder: Path) -> str:
    """``running``, ``finished``, ``failed``, or ``missing`` for a cell never started."""
    return str(read_json(folder / "status.json").get("state", "missing"))


def gather(study: Path) -> pd.DataFrame:
    """Read every run folder of a study and write its ``results.csv``.

    Returns:
        One row a cell: which cell, its state, its scores (``dice_class`` is the mean over the
        classes, ``dice_class_1`` class 1's; null unless finished), ``empty_*`` the scores of the
        predictor that never finds a defect, ``dead_classes``, what the run cost and ran on,
        its folder, and why it failed.
    """
    rows = [_row(status.parent) for status in study.glob("*/status.json")]
    table = pd.DataFrame(rows)
    if rows:
        # As in the paper: ResNet first, all data first.
        descending = ["encoder", "frac"]
        by = ["encoder", "frac", "init", "seed", "folder"]
        table = table.sort_values(by, ascending=[key not in descending for key in by])
    write_whole(study / "results.csv", lambda path: table.to_csv(path, index=False))
    return table


def _row(folder: Path) -> dict[str, Any]:
    status, meta = read_json(folder / "status.json"), read_json(folder / "meta.json")
    finished = status["state"] == "finished"
    metrics = read_json(folder / "metrics.json") if finished else {}
    row: dict[str, Any] = {key: meta.get(key) for key in CELL}
    row["state"] = status["state"]
    row |= {score: metrics.get(score) for score in SCORES}
    for name in BY_CLASS:
        scores = metrics.get(name, {})
        row[name] = scores.get("mean")
        row |= {f"{name}_{class_id}": v for class_id, v in scores.get("per_class", {}).items()}
    row |= {f"empty_{score}": metrics.get("empty_predictor", {}).get(score) for score in EMPTY}
    row["dead_classes"] = " ".join(map(str, metrics.get("dead_classes", [])))
    row |= {fact: meta.get(fact) for fact in FACTS}
    return row | {"folder": folder.name, "error": status.get("error")}


def show(table: pd.DataFrame, folders: Collection[str]) -> Table:
    """The cells of one command as a table for the console.

    Args:
        table: from :func:`gather`.
        folders: names of the run folders to show.
    """
    shown = table[table["folder"].isin(folders)] if len(table) else table
    title = (
        " · ".join(
            f"{s} ({d})"
            for s, d in dict.fromkeys(zip(shown["study"], shown["dataset"], strict=True))
        )
        if len(shown)
        else "no cell"
    )
    out = Table(title=f"Test scores: {title}", title_justify="left")
    columns = {
        "encoder": "encoder", "init": "init", "frac": "frac", "seed": "seed",
        "dice_image": "Dice\nimage", "iou_image": "IoU\nimage", "dice_kaggle": "Dice\nKaggle",
        "mla": "MLA", "auc": "AUC", "best_epoch": "best\nepoch", "seconds": "s",
    }  # fmt: skip
    for name in columns.values():
        out.add_column(name, justify="right")
    out.add_column("state")
    for _, row in shown.iterrows():
        state = "finished" if row["state"] == "finished" else f"{row['state']}: {row['error']}"
        if row["dead_classes"]:
            state += f", never predicts class {row['dead_classes']}"
        out.add_row(*(_cell(row[key]) for key in columns), state)
    finished = shown[shown["state"] == "finished"]
    if len(finished):
        first = finished.iloc[0]
        empty = {k.removeprefix("empty_"): first[k] for k in first.index if k.startswith("empty_")}
        cells = [_cell(empty.get(key)) for key in list(columns)[4:]]
        out.add_section()
        out.add_row("(never finds a defect)", "", "", "", *cells, "")
    return out


def _cell(value: Any) -> str:
    if value is None or pd.isna(value):
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}" if value < 10 else f"{value:.0f}"
    return str(value)
