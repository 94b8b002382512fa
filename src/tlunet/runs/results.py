"""Gathers run folders into one table: ``results.csv``, one row per cell."""

from collections.abc import Collection, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf
from rich.table import Table

from tlunet.machine.files import read_json, write_whole
from tlunet.model.scores import DEAD_BELOW
from tlunet.runs.settings import read_settings, what_differs

CELL = ("study", "dataset", "encoder", "init", "frac", "seed")
SCORES = (
    "mla", "label_accuracy", "subset_accuracy", "dice_image", "iou_image", "dice_kaggle",
    "iou_kaggle",
)  # fmt: skip
BY_CLASS = ("auc", "ap", "dice_class", "iou_class", "dice_pooled", "iou_pooled")
FACTS = (
    "epochs", "best_epoch", "train_images", "test_images", "threshold", "parameters",
    "encoder_parameters", "gflop_per_image", "seconds",
    "images_per_second", "peak_memory", "accelerator", "hardware", "precision",
    "split_fingerprint", "data_fingerprint", "digest", "commit",
)  # fmt: skip


def gather(study: Path) -> pd.DataFrame:
    """Read every run folder of a study and write its ``results.csv``.

    Returns:
        One row per cell: the cell, its state, its scores (``dice_class`` is the mean over the
        classes, ``dice_class_1`` that of class 1; null unless finished), the scores of the empty
        predictor (``empty_*``), ``dead_classes``, cost and hardware of the run, its folder, and
        why it failed; ``settings`` lists the settings that differ between cells.
    """
    rows = [_readable_row(status.parent) for status in study.glob("*/status.json")]
    known = [row for row in rows if row["settings"]]
    for row, words in zip(known, what_differs([row["settings"] for row in known]), strict=True):
        row["settings"] = " ".join(words)
    table = pd.DataFrame(rows)
    if rows:
        # As in the paper: ResNet first, all data first.
        descending = ["encoder", "frac"]
        by = ["encoder", "frac", "init", "settings", "seed", "folder"]
        table = table.sort_values(by, ascending=[key not in descending for key in by])
    write_whole(study / "results.csv", lambda path: table.to_csv(path, index=False))
    return table


def _readable_row(folder: Path) -> dict[str, Any]:
    try:
        return _row(folder)
    except (ValueError, KeyError, AttributeError) as error:
        nothing = dict.fromkeys((*CELL, *SCORES, *BY_CLASS, *FACTS)) | {"dead_classes": ""}
        reason = f"a file of this run cannot be read ({error}); run it again with force=true"
        return nothing | {
            "settings": "",
            "state": "unreadable",
            "folder": folder.name,
            "error": reason,
        }


def _row(folder: Path) -> dict[str, Any]:
    status, meta = read_json(folder / "status.json"), read_json(folder / "meta.json")
    finished = status["state"] == "finished"
    metrics = read_json(folder / "metrics.json") if finished else {}
    row: dict[str, Any] = {key: meta.get(key) for key in CELL}
    config = folder / "config.yaml"
    row["settings"] = read_settings(OmegaConf.load(config)) if config.exists() else ""
    row["state"] = status["state"]
    row |= _means(metrics)
    for name in BY_CLASS:
        by_class = metrics.get(name, {}).get("per_class", {})
        row |= {f"{name}_{class_id}": score for class_id, score in by_class.items()}
    empty = metrics.get("empty_predictor", {})
    row |= {f"empty_{name}": score for name, score in _means(empty).items()}
    row["dead_classes"] = " ".join(map(str, metrics.get("dead_classes", [])))
    row |= {fact: meta.get(fact) for fact in FACTS}
    return row | {"folder": folder.name, "error": status.get("error")}


def _means(metrics: dict[str, Any]) -> dict[str, Any]:
    by_class = {name: metrics.get(name, {}).get("mean") for name in BY_CLASS}
    return {name: metrics.get(name) for name in SCORES} | by_class


#: Heading → column of ``results.csv`` and its format.
SHOWN = {
    "encoder": ("encoder", "{}"),
    "init": ("init", "{}"),
    "frac": ("frac", "{}"),
    "seed": ("seed", "{:.0f}"),
    "Dice": ("dice_image", "{:.3f}"),
    "IoU": ("iou_image", "{:.3f}"),
    "Kaggle-Dice": ("dice_kaggle", "{:.3f}"),
    "MLA": ("mla", "{:.3f}"),
    "AUC": ("auc", "{:.3f}"),
    "best epoch": ("best_epoch", "{:.0f}"),
    "training s": ("seconds", "{:.0f}"),
}
SCORED = 4  # the first columns identify the cell
UNMIXED = ("IoU", "best epoch", "training s")  # omitted if there is a settings column


def texts(row: "pd.Series[Any]", prefix: str = "") -> list[str]:
    """Format one row of ``results.csv`` for display; null is a dash.

    Args:
        row: row of a cell.
        prefix: ``empty_`` for the scores of the empty predictor.
    """
    values = ((row.get(prefix + name), text) for name, text in SHOWN.values())
    return ["–" if v is None or pd.isna(v) else text.format(v) for v, text in values]


def empty_predictor(cells: pd.DataFrame) -> "pd.Series[Any]":
    """Average the scores of the empty predictor (``empty_*``) over the splits of finished cells."""
    splits = cells.drop_duplicates("split_fingerprint")
    return splits.filter(like="empty_").astype(float).mean()


def not_found(class_ids: Sequence[Any]) -> str:
    """Name the classes that a network does not find.

    >>> not_found([2]), not_found([2, 4])
    ('class 2 not found', 'classes 2, 4 not found')
    """
    noun = "class" if len(class_ids) == 1 else "classes"
    return f"{noun} {', '.join(map(str, class_ids))} not found"


def show(table: pd.DataFrame, folders: Collection[str]) -> Table:
    """Show the cells of one command as a table for the console.

    Args:
        table: from :func:`gather`.
        folders: names of the run folders to show.
    """
    shown = table[table["folder"].isin(folders)] if len(table) else table
    names = [] if shown.empty else shown[["study", "dataset"]].drop_duplicates().to_numpy().tolist()
    title = " ".join(f"study {study}, data {dataset}" for study, dataset in names)
    out = Table(
        title=f"Test scores ({title or 'no cell'})",
        caption="Dice, IoU: mean over images with a defect, classes pooled within the image. "
        "Kaggle-Dice: mean over all image × class pairs, both empty = 1.",
        title_justify="left",
        caption_justify="left",
    )
    is_mixed = bool(len(shown)) and shown["settings"].ne("").any()
    kept = [name not in (UNMIXED if is_mixed else ()) for name in SHOWN]
    for heading in compress(SHOWN, kept):
        out.add_column(heading.replace(" ", "\n"), justify="right", no_wrap=True)
    if is_mixed:
        out.add_column("settings", overflow="fold")
    out.add_column("state")
    for _, row in shown.iterrows():
        state = row["state"]  # the error is printed below the table
        if row["dead_classes"]:
            state += f", {not_found(row['dead_classes'].split())}"
        settings = [row["settings"]] if is_mixed else []
        out.add_row(*compress(texts(row), kept), *settings, state)
    if len(shown) and shown["dead_classes"].ne("").any():
        out.caption = f"{out.caption} Not found: pooled Dice below {DEAD_BELOW:g}."
    finished = shown[shown["state"] == "finished"] if len(shown) else shown
    if len(finished):
        out.caption = f"{out.caption} none: the empty predictor, which predicts no defects."
        out.add_section()
        scores = texts(empty_predictor(finished), "empty_")[SCORED:]
        out.add_row(*compress(["none", "", "", "", *scores], kept))
    return out
