"""Summarise a survey: class combinations, near-duplicates, the split."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlunet.data.checks.summary import Summary, summarise
from tlunet.data.checks.survey import Survey
from tlunet.data.fit import content_size


class Combination(NamedTuple):
    """Classes (from 0) that occur together in an image, and the rows of these images."""

    classes: tuple[int, ...]
    rows: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Facts:
    """Summary of a data set.

    Attributes:
        survey: what the images contain.
        summary: near-duplicates and the split.
        combinations: most frequent first.
        warnings: shown at the top of the page, one line each.
    """

    survey: Survey
    summary: Summary
    combinations: list[Combination]
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
    summary = summarise(survey, frac=frac, split=split, duplicates=duplicates, groups=groups)
    warnings = [
        *_problems(survey),
        *summary.warnings(),
        *(f"no split: {line}" for line in summary.why_unsplit),
    ]
    return Facts(survey, summary, _combinations(survey.labels), warnings)


def _problems(survey: Survey) -> list[str]:
    if not survey.problems:
        return []
    spoilt = len(survey.source.records) - len(survey.records)
    return [
        f"{len(survey.problems)} problems in the data; {spoilt} images are excluded from this "
        f"page. First problem: {survey.problems[0]}"
    ]


def _combinations(labels: NDArray[np.bool_]) -> list[Combination]:
    sets, place = np.unique(labels, axis=0, return_inverse=True)
    found = [
        Combination(tuple(np.flatnonzero(classes).tolist()), np.flatnonzero(place.ravel() == k))
        for k, classes in enumerate(sets)
    ]
    return sorted(found, key=lambda c: (-len(c.rows), c.classes))
