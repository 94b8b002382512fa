"""Build the tables of a report: pure functions of data frames."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tlunet.model.scores import DEAD_BELOW
from tlunet.report.analysis.blocks import Block
from tlunet.report.analysis.comparisons import interval_over
from tlunet.report.analysis.statistics import SEEDS_NEEDED
from tlunet.report.document.document import Column, Entry, Table, Tone

#: Score → heading and definition. Those in MAIN are shown first, the others in a folded section.
SCORES = {
    "dice_image": ("Dice", "mean over images with a defect, classes pooled within the image"),
    "iou_image": ("IoU", "intersection over union on the same images"),
    "mla": ("MLA", "|true ∩ predicted| / |true ∪ predicted| labels of an image, both empty = 1"),
    "auc": ("AUC", "area under the ROC curve, one class vs. the rest, mean over classes"),
    "dice_kaggle": ("Kaggle-Dice", "mean over all image × class pairs, both empty = 1"),
    "dice_class": ("Dice by class", "mean over the images that show a class, then over classes"),
    "dice_pooled": (
        "Dice pooled",
        "per class over the pixels of all images, then mean over classes",
    ),
    "iou_kaggle": ("Kaggle-IoU", "mean over all image × class pairs, both empty = 1"),
    "iou_class": ("IoU by class", "mean over the images that show a class, then over classes"),
    "iou_pooled": ("IoU pooled", "per class over the pixels of all images, then mean over classes"),
    "label_accuracy": (
        "label accuracy",
        "fraction of correct image × class labels (1 - Hamming loss)",
    ),
    "subset_accuracy": ("subset accuracy", "fraction of images with all labels correct"),
    "ap": ("AP", "average precision, one class vs. the rest, mean over classes"),
}
MAIN = ("dice_image", "iou_image", "mla", "auc", "dice_kaggle")
FACTORS = {
    "init": "Gain from pre-training",
    "gain": "Does the gain grow with less data?",
    "frac": "Gain from more training data",
    "encoder": "Encoders compared",
    "protocol": "Settings compared",
}
TONES: dict[str, Tone] = {
    "supported": "good", "contradicted": "bad", "inconclusive": "unsure", "not measured": "muted",
    "compatible, not shown": "unsure", "one training": "muted",
    "higher": "good", "lower": "bad", "undecided": "unsure", "undefined": "muted",
    "more": "good", "fewer": "bad",
}  # fmt: skip
LARGEST = 1e9
MINUS = "\N{MINUS SIGN}"


def number(value: Any, form: str = "{:.3f}") -> str:
    """Format a number with a minus sign; a missing one is a dash.

    >>> number(-0.0312), number(0.5, "{:+.2f}"), number(None)
    ('−0.031', '+0.50', '–')
    """
    return "–" if value is None or pd.isna(value) else form.format(value).replace("-", MINUS)


def with_interval(value: Any, low: Any, high: Any, form: str = "{:.3f}") -> str:
    """Format a number with its interval."""
    if value is None or pd.isna(value):
        return "–"
    if low is None or pd.isna(low):
        return number(value, form)
    return f"{number(value, form)} [{number(low, form)}, {number(high, form)}]"


def times(value: Any, low: Any, high: Any) -> str:
    """Format a multiple of the labels with its interval; it may have no upper end.

    >>> times(2.11, 1.4, float("inf")), times(float("inf"), 4, float("inf")), times(0, 0, 0.4)
    ('2.1× [1.4, ∞]', 'more than 4.0×', 'less than 0.4×')
    """
    if pd.isna(value):
        return "–"
    if np.isinf(value):
        return f"more than {low:.1f}×"
    if value == 0:
        return "less than ∞" if np.isinf(high) else f"less than {high:.1f}×"
    return f"{value:.1f}× [{low:.1f}, {'∞' if np.isinf(high) else f'{high:.1f}'}]"


def _entry(value: Any, form: str = "{:.3f}", tone: Tone = "") -> Entry:
    return Entry(
        number(value, form), None if value is None or pd.isna(value) else float(value), tone
    )


def _words(*texts: Any) -> list[Entry]:
    return [Entry(str(text), str(text)) for text in texts]


def _key_columns(*names: str) -> list[Column]:
    return [Column(name, is_number=name in ("frac", "seed", "seeds")) for name in names]


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
    others = tuple(m for m in SCORES if m not in MAIN)
    return [
        _score_table("Mean and 95% interval per cell", scores, block, MAIN),
        _score_table("Mean and 95% interval per cell", scores, block, others),
    ]


def _score_table(title: str, scores: pd.DataFrame, block: Block, metrics: Sequence[str]) -> Table:
    columns = _key_columns("encoder", "init", "frac", "seeds")
    columns += [Column(SCORES[m][0], True, SCORES[m][1]) for m in metrics]
    rows = []
    for key in block.keys:
        own = scores[(scores[["encoder", "init", "frac"]] == list(key)).all(axis=1)]
        by_metric = own.set_index("metric")
        n_seeds = int(by_metric["n_seeds"].iloc[0])
        row = [*_words(key.encoder, key.init), _entry(key.frac, "{}"), _entry(n_seeds, "{:.0f}")]
        for metric in metrics:
            mean, low, high = by_metric.loc[metric, ["mean", "low", "high"]].astype(float)
            row.append(Entry(with_interval(mean, low, high), _value(mean)))
        rows.append(tuple(row))
    empty = block.empty_predictor
    foot = [Entry("never finds a defect"), Entry(""), Entry(""), Entry("")]
    foot += [_entry(empty[m]["mean"] if isinstance(empty[m], dict) else empty[m]) for m in metrics]
    over = ", ".join(sorted({interval_over(int(n)) for n in scores["n_seeds"]}))
    notes = (
        f"Mean over seeds with 95% interval ({over}) from {count_images(block)} "
        f"in {len(set(block.groups))} groups of near-duplicates; threshold {block.threshold}.",
    )
    return Table(title, tuple(columns), tuple(rows), (tuple(foot),), notes)


def comparison_table(
    title: str, comparisons: pd.DataFrame, factor: str, metrics: Sequence[str]
) -> Table | None:
    """Build the comparisons of a factor in some metrics; ``None`` if there are none."""
    rows = comparisons[(comparisons["factor"] == factor) & comparisons["metric"].isin(metrics)]
    if rows.empty:
        return None
    is_gain, is_paired = factor == "gain", bool(rows["improved"].notna().any())
    of = "Gain over random initialisation" if is_gain else "Mean over seeds"
    columns = [
        Column("score"), Column("difference"), Column("condition"),
        Column("first", True, f"{of}, for the first"),
        Column("second", True, "The same, for the second"),
        Column("first - second", True, "95% interval in brackets"),
        Column("verdict", meaning="Whether the interval excludes zero"),
    ]  # fmt: skip
    if not is_gain:
        columns.append(Column("relative", True, "(first - second) / second"))
    if is_paired:
        columns += [
            Column("improved / tied / worse", True, "Percentage of image × seed pairs"),
            Column("p (Holm)", True, "Of the interval; corrected within the primary comparisons"),
        ]
    columns.append(Column("seeds", True))
    out = []
    for metric in metrics:
        for _, r in rows[rows["metric"] == metric].iterrows():
            row = _words(SCORES[metric][0], r["difference_of"], r["at"])
            row += [_entry(r["mean_a"]), _entry(r["mean_b"])]
            difference = with_interval(r["difference"], r["low"], r["high"], "{:+.3f}")
            row.append(Entry(difference, _value(r["difference"])))
            row.append(Entry(r["verdict"], r["verdict"], TONES[r["verdict"]]))
            if not is_gain:
                row.append(_entry(r["relative"], "{:+.1%}"))
            if is_paired:
                shares = [number(100 * r[n], "{:.0f}") for n in ("improved", "tied", "worse")]
                is_mean = not pd.isna(r["improved"])
                row.append(Entry(" / ".join(shares) if is_mean else "–", _value(r["improved"])))
                row.append(_entry(r["p_holm"], "{:.2g}"))
            row.append(_entry(r["n_seeds"], "{:.0f}"))
            out.append(tuple(row))
    over = ", ".join(sorted(set(rows["interval"])))
    notes = [f"Paired by image and seed; 95% interval over {over}."]
    notes.append(
        "Primary comparisons are those with random weights in Dice and MLA; only they have a p, "
        "corrected by Holm within the block. All others are exploratory."
    )
    return Table(title, tuple(columns), tuple(out), notes=tuple(notes))


def _value(value: Any) -> float | None:
    """Return the sort key of a number; JSON has no infinity."""
    return None if pd.isna(value) else float(min(value, LARGEST))


def worth_table(worth: pd.DataFrame) -> Table:
    """Build the table of label-worth: how many times the labels pre-training is worth."""
    columns = (
        Column("score"), *_key_columns("encoder", "init", "frac"),
        Column("to be reached", True, "Score of the pre-trained weights with this fraction"),
        Column("random reaches it with", True, "Fraction of the labels, read off the curve"),
        Column("worth", True, "That fraction / frac; 95% interval in brackets"),
        Column("verdict", meaning="Whether the interval excludes one"), Column("seeds", True),
    )  # fmt: skip
    rows = []
    for _, r in worth.iterrows():
        share = "not reached" if np.isinf(r["share"]) else number(r["share"], "{:.0%}")
        rows.append((
            *_words(SCORES[r["metric"]][0], r["encoder"], r["init"]), _entry(r["frac"], "{}"),
            _entry(r["score"]), Entry(share, _value(r["share"])),
            Entry(times(r["worth"], r["low"], r["high"]), _value(r["worth"])),
            Entry(r["verdict"], r["verdict"], TONES[r["verdict"]]), _entry(r["n_seeds"], "{:.0f}"),
        ))  # fmt: skip
    return Table("Label-worth of pre-training", columns, tuple(rows), notes=(
        "The curve of random weights is interpolated in the logarithm of the fraction and taken as "
        "rising. ∞: random weights may not reach the score with all labels. The interval contains "
        "every fraction at which the difference from the score to be reached is not clear.",
    ))  # fmt: skip


def class_table(scores: pd.DataFrame, block: Block) -> Table:
    """Build the table with one row per cell and class."""
    metrics = ("dice_class", "iou_class", "dice_pooled", "auc", "ap")
    columns = [*_key_columns("encoder", "init", "frac"), Column("class")]
    columns.append(Column("test images", True))
    columns += [Column(SCORES[m][0], True) for m in metrics]
    columns.append(Column("seeds that never find it", True))
    images = block.labels.sum(0)  # (M,)
    by_key = scores.set_index(["encoder", "init", "frac", "metric"])
    rows = []
    for key in block.keys:
        for m, name in enumerate(block.classes, start=1):
            row = [*_words(key.encoder, key.init), _entry(key.frac, "{}")]
            row += [Entry(f"{m} {name}", float(m)), _entry(int(images[m - 1]), "{:.0f}")]
            for metric in metrics:
                mean, low, high = by_key.loc[(*key, f"{metric}_{m}"), ["mean", "low", "high"]]
                row.append(Entry(with_interval(mean, low, high), _value(mean)))
            dead = sum(m in classes for classes in block.runs(key)["dead_classes"].tolist())
            row.append(_entry(dead, "{:.0f}", "bad" if dead else ""))
            rows.append(tuple(row))
    title = "Mean and 95% interval per cell and class"
    return Table(title, tuple(columns), tuple(rows), notes=(
        "Dice and IoU by class: mean over the images that show the class. A class counts as never "
        f"found if its pooled Dice is below {DEAD_BELOW:g}; its Kaggle-Dice can still be high.",
    ))  # fmt: skip


def claim_table(claims: pd.DataFrame) -> Table:
    """Build the table of claims: claimed value, measured value with interval, verdicts."""
    columns = (
        Column("claim"), Column("source"), Column("claimed", True),
        Column("measured", True, "95% interval in brackets"),
        Column("direction"), Column("size"), Column("seeds", True), Column("measured on"),
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
        rows.append((
            Entry(c["says"] + note, c["says"]),
            Entry(c["where"] if pd.notna(c["where"]) else ""),
            _entry(c["number"], form), Entry(measured, _value(c["value"])),
            Entry(verdict, verdict, TONES[verdict]),
            Entry(of_size, of_size, TONES.get(of_size, "muted")),
            _entry(c["n_seeds"], "{:.0f}"), Entry(over),
        ))  # fmt: skip
    return Table("Claim, measurement, verdict", columns, tuple(rows), notes=(
        "Direction: supported if the 95% interval excludes zero on the claimed side, contradicted "
        "if on the other side, inconclusive if it includes zero. Size: supported if the interval "
        "excludes zero and lies within the claimed number ± half of it, contradicted if it "
        "excludes the number, else compatible, not shown. With fewer than "
        f"{SEEDS_NEEDED} seeds both are \"one training\".",
        "A claim about ImageNet weights is not measured with another initialisation. A number "
        "shown for it is from the initialisation in the last column and is not a verdict.",
    ))  # fmt: skip


def cell_tables(block: Block) -> list[Table]:
    """Build the table of runs with their costs and hardware, and that of the shared settings."""
    facts = (
        ("best epoch", "best_epoch", "{:.0f}", 1), ("epochs", "epochs", "{:.0f}", 1),
        ("training images", "train_images", "{:.0f}", 1),
        ("parameters (M)", "parameters", "{:.2f}", 1e6),
        ("encoder (M)", "encoder_parameters", "{:.2f}", 1e6),
        ("GFLOP per image", "gflop_per_image", "{:.2f}", 1),
        ("training s", "seconds", "{:.0f}", 1), ("images/s", "images_per_second", "{:.1f}", 1),
        ("peak memory (GiB)", "peak_memory", "{:.2f}", 2**30),
    )  # fmt: skip
    words = ("starting weights", "hardware", "precision", "commit", "folder")
    columns = _key_columns("encoder", "init", "frac", "seed")
    columns += [Column(name, True) for name, *_ in facts] + [Column(name) for name in words]
    rows = []
    for _, c in block.cells.iterrows():
        row = [
            *_words(c["encoder"], c["init"]),
            _entry(c["frac"], "{}"),
            _entry(c["seed"], "{:.0f}"),
        ]
        for _, key, form, unit in facts:
            value = c.get(key)
            offset = key == "best_epoch"  # counted from 0 in the file
            row.append(_entry(value if pd.isna(value) else value / unit + offset, form))
        commit = "unknown" if pd.isna(c["commit"]) else c["commit"][:8]
        commit += "+" if c["dirty"] is True else ""
        start = c["recipe"] or c["init"]
        row += _words(start, c["hardware"], c["precision"], commit, c["folder"])
        rows.append(tuple(row))
    shared = tuple((Entry(k, k), Entry(v, v)) for k, v in block.settings.items())
    first = block.cells.iloc[0]
    splits = ", ".join(dict.fromkeys(block.splits.values()))
    prints = [("data set", block.dataset), ("split fingerprint", splits),
              ("data fingerprint", first["data_fingerprint"]),
              ("images (height × width)", " × ".join(map(str, first["size"]))),
              *first["versions"].items()]  # fmt: skip
    shared += tuple((Entry(k, k), Entry(str(v), str(v))) for k, v in prints)
    return [
        Table("All runs", tuple(columns), tuple(rows), notes=(
            "A + after the commit: uncommitted changes. The folder contains the run's config.yaml. "
            "GFLOP: forward pass, one multiply-add counts as two operations; training costs about "
            "three times as much.",
        )),
        Table("Shared settings", (Column("setting"), Column("value")), shared),
    ]  # fmt: skip
