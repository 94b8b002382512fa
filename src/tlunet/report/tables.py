"""Build the tables of a report: pure functions of data frames."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tlunet.model.scores import DEAD_BELOW
from tlunet.report.analysis.blocks import Block, Key
from tlunet.report.analysis.resampled import interval_over
from tlunet.report.analysis.statistics import SEEDS_NEEDED
from tlunet.report.document.document import Column, Entry, Group, Table
from tlunet.report.values import (
    LARGEST,
    MAIN,
    SCORES,
    TONES,
    entry,
    number,
    spoken,
    times,
    with_interval,
    words,
)
from tlunet.runs.names import condition

FACTORS = {
    "init": "Gain from pre-training",
    "gain": "Does the gain grow with less data?",
    "frac": "Gain from more training data",
    "encoder": "Encoders compared",
    "protocol": "Settings compared",
}


def count_images(block: Block) -> str:
    """Say how many test images there are; each seed has its own if each has its own split."""
    total = len(block.image_ids)
    if not block.has_own_splits:
        return f"{total} test images"
    counts = sorted({len(counts.index) for counts in block.of_each_split.values()})
    each = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{each} test images of each seed ({total} in total)"


def score_tables(scores: pd.DataFrame, block: Block) -> list[Table]:
    """Build the score tables of a block, main metrics first, with the empty predictor."""
    others = [m for m in SCORES if m not in MAIN]
    parts = [MAIN, *(others[k : k + 4] for k in range(0, len(others), 4))]
    title = "Mean and 95% interval per cell"
    return [_score_table(title, scores, block, metrics) for metrics in parts]


def _score_table(title: str, scores: pd.DataFrame, block: Block, metrics: Sequence[str]) -> Table:
    by_key: Any = scores.set_index(["encoder", "init", "frac", "metric"])
    seeds = {key: int(by_key.loc[(*key, metrics[0]), "n_seeds"]) for key in block.keys}
    differ = len(set(seeds.values())) > 1
    means = {m: [float(by_key.loc[(*key, m), "mean"]) for key in block.keys] for m in metrics}
    columns = [Column("condition"), *([Column("seeds", True)] if differ else [])]
    columns += [Column(SCORES[m][0], True, SCORES[m][1]) for m in metrics]
    rows = []
    for key in block.keys:
        row = [_named(key), *([entry(seeds[key], "{:.0f}")] if differ else [])]
        for metric in metrics:
            mean, low, high = by_key.loc[(*key, metric), ["mean", "low", "high"]].astype(float)
            is_best = len(block.keys) > 1 and mean == np.nanmax(means[metric] or [np.nan])
            row.append(Entry(with_interval(mean, low, high), _value(mean), is_best=bool(is_best)))
        rows.append(tuple(row))
    empty = block.empty_predictor
    foot = [Entry("never finds a defect"), *([Entry("")] if differ else [])]
    foot += [entry(empty[m]["mean"] if isinstance(empty[m], dict) else empty[m]) for m in metrics]
    over = ", ".join(sorted({interval_over(int(n)) for n in scores["n_seeds"]}))
    counts = sorted(set(seeds.values()))
    each = f"{counts[0]} {'seed' if counts == [1] else 'seeds'}" if not differ else "seeds"
    notes = (
        f"Mean over {each} with 95% interval ({over}) from {count_images(block)} "
        f"in {len(set(block.groups))} groups of near-duplicates; threshold {block.threshold}. "
        "The best value of a column is bold.",
    )
    return Table(title, tuple(columns), tuple(rows), (tuple(foot),), notes)


def _named(key: Key) -> Entry:
    return Entry(condition(*key), condition(*key))


def _value(value: Any) -> float | None:
    """Return the sort key of a number; JSON has no infinity."""
    return None if pd.isna(value) else float(min(value, LARGEST))


def worth_table(worth: pd.DataFrame) -> Table:
    """Build the table of label-worth: how many times the labels pre-training is worth."""
    columns = (
        Column("score"), Column("condition"),
        Column("to be reached", True, "Score of the pre-trained weights with this fraction"),
        Column("random reaches it with", True, "Fraction of the labels, read off the curve"),
        Column("worth", True, "That fraction / frac; 95% interval in brackets"),
        Column("verdict", meaning="Whether the interval excludes one"), Column("seeds", True),
    )  # fmt: skip
    rows = []
    for _, r in worth.iterrows():
        share = "not reached" if np.isinf(r["share"]) else number(r["share"], "{:.0%}")
        rows.append((
            *words(SCORES[r["metric"]][0]), _named(Key(r["encoder"], r["init"], r["frac"])),
            entry(r["score"]), Entry(share, _value(r["share"])),
            Entry(times(r["worth"], r["low"], r["high"]), _value(r["worth"])),
            Entry(r["verdict"], r["verdict"], TONES[r["verdict"]]), entry(r["n_seeds"], "{:.0f}"),
        ))  # fmt: skip
    return Table("Label-worth of pre-training", columns, tuple(rows), notes=(
        "The curve of random weights is interpolated in the logarithm of the fraction and taken as "
        "rising. ∞: random weights may not reach the score with all labels. The interval contains "
        "every fraction at which the difference from the score to be reached is not clear.",
    ))  # fmt: skip


def class_table(scores: pd.DataFrame, block: Block) -> Table:
    """Build the table with one group per class and one row per cell."""
    metrics = ("dice_class", "iou_class", "dice_pooled", "auc", "ap")
    columns = [Column("condition"), *(Column(SCORES[m][0], True) for m in metrics)]
    columns.append(Column("seeds that never find it", True))
    images = block.labels.sum(0)  # (M,)
    by_key: Any = scores.set_index(["encoder", "init", "frac", "metric"])
    rows, groups = [], []
    for m, name in enumerate(block.classes, start=1):
        groups.append(Group(f"{m} {name}, in {images[m - 1]} test images", len(block.keys)))
        means = [
            [float(by_key.loc[(*key, f"{metric}_{m}"), "mean"]) for key in block.keys]
            for metric in metrics
        ]
        for key in block.keys:
            row = [_named(key)]
            for metric, of_all in zip(metrics, means, strict=True):
                mean, low, high = by_key.loc[(*key, f"{metric}_{m}"), ["mean", "low", "high"]]
                is_best = len(block.keys) > 1 and mean > 0 and mean == np.nanmax(of_all)
                text = with_interval(mean, low, high)
                row.append(Entry(text, _value(mean), is_best=bool(is_best)))
            dead = sum(m in classes for classes in block.runs(key)["dead_classes"].tolist())
            row.append(entry(dead, "{:.0f}", "bad" if dead else ""))
            rows.append(tuple(row))
    title = "Mean and 95% interval per class and cell"
    return Table(title, tuple(columns), tuple(rows), notes=(
        "Dice and IoU by class: mean over the images that show the class. A class counts as never "
        f"found if its pooled Dice is below {DEAD_BELOW:g}; its Kaggle-Dice can still be high.",
    ), groups=tuple(groups))  # fmt: skip


def flag_table(flags: pd.DataFrame) -> Table:
    """Build the table of images missed and falsely flagged, class by class.

    Args:
        flags: from :func:`tlunet.report.analysis.flags.flags`, of one block or of several.
    """
    is_one = flags["block"].nunique() == 1
    every = {
        "missed_masks": ("missed, by masks", "Images with the defect without a predicted pixel"),
        "false_masks": ("falsely flagged, by masks", "Defect-free images with a predicted pixel"),
        "missed_labels": ("missed, by labels", "Images with the defect without its label"),
        "false_labels": ("falsely flagged, by labels", "Defect-free images with a predicted label"),
    }
    totals = {name: "defect_free" if "false" in name else "defective" for name in every}
    names = [name for name in every if flags[totals[name]].any()]
    columns = (Column("condition"), *(Column(every[n][0], True, every[n][1]) for n in names))
    rows, groups = [], []
    for title, own in flags.groupby("class", sort=False):
        shares = {name: own[name] / own[totals[name]].replace(0, np.nan) for name in names}
        groups.append(Group(str(title), len(own)))
        for k, (_, row) in enumerate(own.iterrows()):
            key = condition(row["encoder"], row["init"], row["frac"])
            settings = "" if is_one else row["block"].partition(" · ")[2]
            label = " · ".join(filter(None, (settings, key)))
            cells = [Entry(label, label)]
            for name in names:
                share, total = shares[name].iloc[k], row[totals[name]]
                note: str = "" if pd.isna(share) else f"{row[name]:.1f} of {total:.0f}"
                is_best = len(own) > 1 and share == shares[name].min()
                cells.append(entry(share, "{:.1%}")._replace(note=note, is_best=bool(is_best)))
            rows.append(tuple(cells))
    notes = ["Mean over seeds, in images; the best value of a column is bold."]
    if not flags["defect_free"].any():
        notes.append("Every test image has a defect: none can be flagged falsely.")
    title = "Images missed and falsely flagged"
    return Table(title, columns, tuple(rows), notes=tuple(notes), groups=tuple(groups))


def claim_table(claims: pd.DataFrame) -> Table:
    """Build the table of claims: claimed value, measured value with interval, verdicts."""
    columns = (
        Column("claim", meaning="Below it: the source, and what it was measured on"),
        Column("claimed", True), Column("measured", True, "95% interval in brackets"),
        Column("direction"), Column("size"),
    )  # fmt: skip
    rows = []
    for _, c in claims.iterrows():
        is_share = c["kind"] in ("relative", "relative_growth", "improved")
        form = "{:.0%}" if c["kind"] == "improved" else "{:+.0%}" if is_share else "{:+.3f}"
        measured = with_interval(c["value"], c["low"], c["high"], form)
        if c["kind"] == "label_worth":
            form, measured = "{:.1f}×", times(c["value"], c["low"], c["high"])
        verdict, of_size = c["direction"], c["size"] if pd.notna(c["size"]) else "no size claimed"
        case = "" if pd.isna(c["case"]) else c["case"]
        over = f"{case} ({c['interval']})" if pd.notna(c["interval"]) else case
        note = f". {c['note']}" if pd.notna(c["note"]) else ""
        seeds = f"{c['n_seeds']:.0f} seeds" if pd.notna(c["n_seeds"]) and c["n_seeds"] > 1 else ""
        source = c["where"] if pd.notna(c["where"]) else ""
        below = "; ".join(filter(None, (source, spoken(over), seeds)))
        rows.append((
            Entry(c["says"] + note, c["says"], note=below),
            entry(c["number"], form), Entry(measured, _value(c["value"])),
            Entry(verdict, verdict, TONES[verdict]),
            Entry(of_size, of_size, TONES.get(of_size, "muted")),
        ))  # fmt: skip
    return Table("Claim, measurement, verdict", columns, tuple(rows), notes=(
        "Direction: supported if the 95% interval excludes zero on the claimed side, contradicted "
        "if on the other side, inconclusive if it includes zero. Size: supported if the interval "
        "excludes zero and lies within the claimed number ± half of it, contradicted if it "
        "excludes the number, else compatible, not shown. With fewer than "
        f"{SEEDS_NEEDED} seeds both are \"one training\".",
        "A claim about ImageNet weights is not measured with another initialisation. A number "
        "shown for it is from the initialisation named below the claim and is not a verdict.",
    ))  # fmt: skip
