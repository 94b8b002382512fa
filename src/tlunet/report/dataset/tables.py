"""Tables of a data set."""

import numpy as np

from tlunet.data.checks.summary import PARTS
from tlunet.report.dataset.facts import Facts
from tlunet.report.dataset.plots import percent
from tlunet.report.document.document import Column, Entry, Table
from tlunet.report.values import number

SPECK = 5  # pixels


def classes(facts: Facts) -> Table:
    """Build the table of images and pixels per class."""
    survey, total = facts.survey, len(facts.survey.records)
    every = max(1, int(survey.pixels.sum()))
    all_pixels = float(facts.pixels_each.sum())
    rows = []
    for m, name in enumerate(facts.names):
        images, pixels = int(survey.labels[:, m].sum()), int(survey.pixels[:, m].sum())
        alone = int((survey.labels[:, m] & (survey.labels.sum(1) == 1)).sum())
        rows.append((
            Entry(name, name), Entry(f"{m + 1}", m + 1), _count(images),
            _percentage(images / total), _count(alone), _count(pixels),
            _percentage(pixels / every), _percentage(pixels / all_pixels),
        ))  # fmt: skip
    free = int((~survey.labels.any(1)).sum())
    foot = (Entry("no defect"), Entry("–"), _count(free), _percentage(free / total),
            *([Entry("–")] * 4))  # fmt: skip
    columns = (
        Column("class"),
        Column("id", True, "the class id in masks and tables"),
        Column("images", True, "images that show the class"),
        Column("fraction", True, "of all images"),
        Column("alone", True, "images that show no other class"),
        Column("pixels", True, "pixels of the class in all images"),
        Column("of defects", True, "fraction of all defect pixels"),
        Column("of all", True, "fraction of all pixels: the precision of random guessing"),
    )
    return Table("Images and pixels", columns, tuple(rows), (foot,))


def regions(facts: Facts) -> Table:
    """Build the table of the number and size of regions per class."""
    rows = []
    for name, areas in zip(facts.names, facts.survey.regions, strict=True):
        low, middle, high, top = (
            np.percentile(areas, (25, 50, 75, 100)) if len(areas) else [np.nan] * 4
        )
        rows.append((Entry(name, name), _count(len(areas)), *map(_area, (low, middle, high, top))))
    columns = (
        Column("class"),
        Column("regions", True, "connected sets of pixels of the class (corners connect)"),
        Column("25%", True, "a quarter of the regions are smaller"),
        Column("median", True, "half of the regions are smaller"),
        Column("75%", True, "a quarter of the regions are larger"),
        Column("largest", True, "largest region"),
    )
    notes = []
    specks = sum(int((areas < SPECK).sum()) for areas in facts.survey.regions)
    if specks:
        notes.append(
            f"{specks:,} regions have fewer than {SPECK} pixels: possibly annotation slips."
        )
    if at := facts.survey.counted_at:
        notes.append(f"Counted at {at[0]}×{at[1]}, the size to which all masks are resized.")
    return Table("Regions, in pixels", columns, tuple(rows), notes=tuple(notes))


def split(facts: Facts) -> Table:
    """Build the table of images per class and part of the split; requires a split."""
    assert facts.summary.split is not None
    labels = facts.survey.labels
    labels = np.column_stack([labels, ~labels.any(1)])
    rows = []
    for name, column in zip((*facts.names, "no defect"), labels.T, strict=True):
        of_part = [column[facts.summary.part(part)] for part in PARTS]
        rows.append((
            Entry(name, name), *(_count(int(part.sum())) for part in of_part),
            *(_percentage(float(part.mean())) for part in of_part),
        ))  # fmt: skip
    sizes = [int(facts.summary.part(part).sum()) for part in PARTS]
    foot = (Entry("images"), *map(_count, sizes), *([Entry("–")] * 3))
    words = ("training", "validation", "test")
    columns = (
        Column("images with"),
        *(Column(word, True) for word in words),
        *(Column(f"of {word}", True, f"fraction of the {word} images") for word in words),
    )
    used = int((facts.summary.split["subset"] == "train").sum())
    note = f"With frac={facts.summary.frac:g}, {used:,} of the training images are used."
    title = "Default split of run.py (split_seed 0)"
    if facts.summary.is_official:
        title = "Official test set (data.split=official, split_seed 0)"
    return Table(title, columns, tuple(rows), (foot,), (note,))


def _count(n: int) -> Entry:
    return Entry(f"{n:,}", n)


def _percentage(share: float) -> Entry:
    return Entry(percent(share), share)


def _area(value: float) -> Entry:
    return Entry(number(value, "{:,.0f}"), None if np.isnan(value) else value)
