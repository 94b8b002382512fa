"""Summarise a survey: class combinations, near-duplicates, the split."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tlunet.data import duplicates as near_duplicates
from tlunet.data.checks.describe import default_split, gaps, is_training, vanished
from tlunet.data.checks.survey import Survey
from tlunet.data.fit import content_size
from tlunet.data.groups import grouping_lines
from tlunet.data.sizes import Sizes, are_mixed, common_size, exchanged
from tlunet.errors import UserError

PARTS = ("train", "val", "test")


class Combination(NamedTuple):
    """Classes (from 0) that occur together in an image, and the rows of these images."""

    classes: tuple[int, ...]
    rows: NDArray[np.int64]


class Repeat(NamedTuple):
    """Images that are near-duplicates of each other."""

    rows: tuple[int, ...]
    is_conflict: bool  # labelled with different classes


@dataclass(frozen=True, eq=False)
class Facts:
    """Summary of a data set.

    Attributes:
        survey: what the images contain.
        frac: fraction of the training set that is used.
        combinations: most frequent first.
        repeats: near-duplicates, those with conflicting labels first.
        split: as from `tlunet.data.split.make_split`, N rows; ``None`` if it cannot be made.
        warnings: shown at the top of the page, one line each.
    """

    survey: Survey
    frac: float
    combinations: list[Combination]
    repeats: list[Repeat]
    split: pd.DataFrame | None
    warnings: list[str]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the M classes."""
        return self.survey.source.classes

    @property
    def areas(self) -> NDArray[np.int64]:
        """Defect pixels of each image, (N,); a pixel of two classes counts twice."""
        return self.survey.pixels.sum(1)

    @property
    def pixels_each(self) -> NDArray[np.int64]:
        """Pixels of each image at the size at which they were counted, (N,)."""
        sizes = self.survey.sizes
        if frame := self.survey.counted_at:
            sizes = np.array([content_size((h, w), frame, self.survey.fit) for h, w in sizes])
        return sizes.prod(1)

    def part(self, name: str) -> NDArray[np.bool_]:
        """Return which images are in a part of the split, (N,); ``train`` ignores ``frac``."""
        if self.split is None:
            return np.zeros(len(self.survey.records), bool)
        if name == "train":
            return is_training(self.split)
        return (self.split["subset"] == name).to_numpy()

    def named_row(self, row: int) -> str:
        """Name the classes of an image."""
        return self.named(tuple(np.flatnonzero(self.survey.labels[row]).tolist()))

    def named(self, classes: tuple[int, ...]) -> str:
        """Name the classes of a combination."""
        return " + ".join(self.names[m] for m in classes) or "no defect"


def sum_up(
    survey: Survey,
    *,
    frac: float = 1.0,
    split: str = "random",
    duplicates: str = "group",
    groups: str | None = None,
) -> Facts:
    """Compute everything shown on the page of a data set.

    Args:
        survey: what the images contain.
        frac: fraction of the training set to use.
        split: ``random`` or ``official``.
        duplicates: ``group`` or ``ignore``, as ``data.duplicates``.
        groups: as ``data.groups``.
    """
    near = near_duplicates.group(survey.thumbnails)
    labels, source = survey.labels, survey.source
    table, warnings = None, _warnings(survey)
    try:
        table = default_split(
            source, survey.records, labels, near,
            frac=frac, split=split, duplicates=duplicates, groups=groups,
        )  # fmt: skip
        warnings += grouping_lines(
            table, near, duplicates=duplicates, rule=groups, official=split == "official"
        )
        warnings += gaps(table, labels, source.classes, frac)
    except UserError as error:  # too few images, or too small a fraction
        warnings += [f"no split: {line}" for line in error.lines]
    repeats = _repeats(near, labels)
    if conflicts := sum(repeat.is_conflict for repeat in repeats):
        warnings.append(
            f"{conflicts} of {len(repeats)} groups of duplicated images have conflicting labels"
        )
    return Facts(survey, frac, _combinations(labels), repeats, table, warnings)


def _warnings(survey: Survey) -> list[str]:
    found = []
    if survey.problems:
        spoilt = len(survey.source.records) - len(survey.records)
        found.append(
            f"{len(survey.problems)} problems in the data; {spoilt} images are excluded from this "
            f"page. First problem: {survey.problems[0]}"
        )
    sizes = Sizes(map(tuple, survey.sizes.tolist()))
    if len(sizes) > 1:
        height, width = common_size(sizes) if are_mixed(sizes) else sizes.most_common(1)[0][0]
        found.append(
            f"images have {len(sizes)} sizes; training needs one: data.size=[{height},{width}]"
        )
    if size := survey.counted_at:
        found += exchanged(sizes, size)
        found += vanished(survey.labels, survey.mask_labels, survey.source.classes, size)
    return found


def _combinations(labels: NDArray[np.bool_]) -> list[Combination]:
    sets, place = np.unique(labels, axis=0, return_inverse=True)
    found = [
        Combination(tuple(np.flatnonzero(classes).tolist()), np.flatnonzero(place.ravel() == k))
        for k, classes in enumerate(sets)
    ]
    return sorted(found, key=lambda c: (-len(c.rows), c.classes))


def _repeats(groups: NDArray[np.int64], labels: NDArray[np.bool_]) -> list[Repeat]:
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order])) + 1
    found = [
        Repeat(tuple(rows.tolist()), bool((labels[rows] != labels[rows[0]]).any()))
        for rows in np.split(order, starts)
        if len(rows) > 1
    ]
    return sorted(found, key=lambda repeat: (not repeat.is_conflict, repeat.rows))
