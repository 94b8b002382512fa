"""Gathers run folders into one table: ``results.csv``, one row per cell."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from omegaconf import OmegaConf
from rich.console import Group, RenderableType
from rich.text import Text

from tlunet.machine.files import read_json, write_whole
from tlunet.machine.table import Column, fit, lay_out, leave_out_constant
from tlunet.model.scores import DEAD_BELOW
from tlunet.runs.names import init_name, percent
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


class Shown(NamedTuple):
    """How a column of ``results.csv`` is displayed.

    Attributes:
        name: the column.
        form: format of a value.
        rank: columns are left out of a narrow terminal from the highest rank down; 0: never.
        first: what is added to a value: epochs count from 0 in files, from 1 for a person.
    """

    name: str
    form: str
    rank: int = 0
    first: int = 0


#: Heading → column of ``results.csv``.
SHOWN = {
    "encoder": Shown("encoder", "{}"),
    "init": Shown("init", "{}"),
    "frac": Shown("frac", "{}"),
    "seed": Shown("seed", "{:.0f}"),
    "Dice": Shown("dice_image", "{:.3f}"),
    "IoU": Shown("iou_image", "{:.3f}", rank=2),
    "Kaggle-Dice": Shown("dice_kaggle", "{:.3f}", rank=6),
    "MLA": Shown("mla", "{:.3f}", rank=1),
    "AUC": Shown("auc", "{:.3f}", rank=3),
    "best epoch": Shown("best_epoch", "{:.0f}", rank=4, first=1),
    "training s": Shown("seconds", "{:.0f}", rank=5),
}
SCORED = 4  # the first columns identify the cell

#: Explained below the table if the column is shown.
MEANINGS = {
    "Dice": "Dice, IoU: mean over images with a defect, classes pooled within the image.",
    "Kaggle-Dice": "Kaggle-Dice: mean over all image × class pairs, both empty = 1.",
}
EMPTY = "none"  # name of the empty predictor's row


def texts(row: "pd.Series[Any]", prefix: str = "") -> list[str]:
    """Format one row of ``results.csv`` for display; null is a dash, epochs count from 1.

    Args:
        row: row of a cell.
        prefix: ``empty_`` for the scores of the empty predictor.
    """
    return [_text(row.get(prefix + shown.name), shown) for shown in SHOWN.values()]


def _text(value: Any, shown: Shown) -> str:
    if value is None or pd.isna(value):
        return "–"
    return shown.form.format(value + shown.first if shown.first else value)


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


def show(table: pd.DataFrame, folders: Collection[str], width: int) -> RenderableType:
    """Lay out the cells of one command for the console, with warnings below the table.

    Args:
        table: from :func:`gather`.
        folders: names of the run folders to show.
        width: characters that are available. Condition, Dice and state are always shown, the
            other columns where they fit; one with the same entry in all rows is left out.
    """
    cells = table[table["folder"].isin(folders)] if len(table) else table
    if cells.empty:
        return Text("Test scores: no cell")
    studies = cells[["study", "dataset"]].drop_duplicates().dropna().to_numpy().tolist()
    title = " ".join(f"study {study}, data {dataset}" for study, dataset in studies)
    finished = cells[cells["state"] == "finished"]
    empty = texts(empty_predictor(finished), "empty_")[SCORED:] if len(finished) else None
    condition, same = leave_out_constant(_condition(cells))
    condition = [replace(condition[0], foot=EMPTY if empty else ""), *condition[1:]]
    dice, *others = _scores(cells, empty)
    others, same_score = leave_out_constant(others)
    columns = fit([*condition, dice, *others, _state(cells)], width)
    names = {column.name for column in columns}
    same = ", ".join(text for text in (same, same_score) if text)
    notes = [
        f"Same in all rows: {same}." if same else "",
        " ".join(text for name, text in MEANINGS.items() if name in names),
        f"{EMPTY}: the empty predictor, which predicts no defects." if empty else "",
        *_warnings(cells, condition),
    ]
    return Group(f"Test scores ({title})", lay_out(columns), *(Text(n) for n in notes if n))


def _condition(cells: pd.DataFrame) -> list[Column]:
    """Build the columns that identify a cell."""
    known = cells[["encoder", "init", "frac", "seed", "settings", "folder"]].astype(object)
    known = known.where(known.notna(), None)
    inits = [init_name(init) if init else "–" for init in known["init"]]
    fracs = ["–" if frac is None else percent(frac) for frac in known["frac"]]
    seeds = ["–" if seed is None else f"{seed:.0f}" for seed in known["seed"]]
    encoders = [e or folder for e, folder in zip(known["encoder"], known["folder"], strict=True)]
    columns = [
        Column("encoder", encoders, is_text=True, folds=True),
        Column("init", inits, is_text=True, folds=True),
        Column("data", fracs),
        Column("seed", seeds),
    ]
    if known["settings"].astype(bool).any():
        settings = [text or "–" for text in known["settings"]]
        columns.append(Column("settings", settings, is_text=True, folds=True))
    return columns


def _scores(cells: pd.DataFrame, empty: Sequence[str] | None) -> list[Column]:
    rows = [texts(row)[SCORED:] for _, row in cells.iterrows()]
    headings = list(SHOWN)[SCORED:]
    return [
        Column(
            heading.replace(" ", "\n").replace("-", "-\n"),
            [row[k] for row in rows],
            foot=empty[k] if empty else "",
            rank=SHOWN[heading].rank,
        )
        for k, heading in enumerate(headings)
    ]


def _state(cells: pd.DataFrame) -> Column:
    entries = [
        state + ("*" if dead else "")
        for state, dead in zip(cells["state"], cells["dead_classes"], strict=True)
    ]
    return Column("state", entries, is_text=True)


def _warnings(cells: pd.DataFrame, condition: Sequence[Column]) -> list[str]:
    """Name the classes that are not found, one line per set of classes."""
    of_cells: dict[str, list[str]] = {}
    for k, dead in enumerate(cells["dead_classes"]):
        if dead:
            parts = [(c.heading, c.entries[k]) for c in condition]
            name = " · ".join(f"seed {text}" if key == "seed" else text for key, text in parts)
            of_cells.setdefault(dead, []).append(name)
    return [
        f"* {not_found(dead.split())} (pooled Dice below {DEAD_BELOW:g}): {', '.join(names)}"
        for dead, names in of_cells.items()
    ]
