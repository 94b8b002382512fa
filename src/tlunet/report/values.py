"""How a report writes scores, numbers and conditions."""

import re
from typing import Any

import numpy as np
import pandas as pd

from tlunet.report.document.document import Entry, Tone
from tlunet.runs.names import init_name, percent

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


def score(metric: str) -> tuple[str, str]:
    """Return the heading and the definition of a score, or of one class of it.

    >>> score("mla")[0], score("dice_class_2")
    ('MLA', ('Dice, class 2', 'mean over the images that show class 2'))
    """
    if metric in SCORES:
        return SCORES[metric]
    name, _, number = metric.rpartition("_")
    heading, definition = SCORES[name]
    if name in ("dice_class", "iou_class"):
        definition = f"mean over the images that show class {number}"
    return f"{heading.removesuffix(' by class')}, class {number}", definition


MAIN = ("dice_image", "iou_image", "mla", "auc", "dice_kaggle")
TONES: dict[str, Tone] = {
    "supported": "good", "contradicted": "bad", "inconclusive": "unsure", "not measured": "muted",
    "compatible, not shown": "unsure", "one training": "muted",
    "higher": "good", "lower": "bad", "undecided": "unsure", "undefined": "muted",
    "more": "good", "fewer": "bad",
}  # fmt: skip
FRACTION = re.compile(r"0\.\d+|1\.0")
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
    >>> times(float("inf"), 0, float("inf"))
    'not clear'
    """
    if pd.isna(value):
        return "–"
    if np.isinf(value):
        return f"more than {low:.1f}×" if low > 0 else "not clear"
    if value == 0:
        return "less than ∞" if np.isinf(high) else f"less than {high:.1f}×"
    return f"{value:.1f}× [{low:.1f}, {'∞' if np.isinf(high) else f'{high:.1f}'}]"


def entry(value: Any, form: str = "{:.3f}", tone: Tone = "") -> Entry:
    """Format a number as an entry that sorts by its value."""
    return Entry(
        number(value, form), None if value is None or pd.isna(value) else float(value), tone
    )


def spoken(text: str) -> str:
    """Translate the keys in a condition: fractions become percentages.

    >>> spoken("resnet · imagenet · 0.5 · seed 1"), spoken("gain with 1.0")
    ('resnet · ImageNet · 50% · seed 1', 'gain with 100%')
    """
    return " · ".join(" ".join(map(_word, part.split(" "))) for part in text.split(" · "))


def _word(word: str) -> str:
    bare = word.removesuffix(",")
    spoken = percent(float(bare)) if FRACTION.fullmatch(bare) else init_name(bare)
    return spoken + word[len(bare) :]


def words(*texts: Any) -> list[Entry]:
    """Return entries that sort by their text."""
    return [Entry(str(text), str(text)) for text in texts]
