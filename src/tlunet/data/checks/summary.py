"""Summary of a data set: what ``tlunet data check`` prints and ``tlunet data show`` draws."""

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tlunet.data.checks.describe import default_split, gaps, is_training, vanished
from tlunet.data.grouping import duplicates as near_duplicates
from tlunet.data.grouping.groups import SEPARATED, kept_together, suspicious
from tlunet.data.sizes import Sizes, are_mixed, common_size, exchanged
from tlunet.data.source import Problem, Record, Source
from tlunet.errors import UserError

PARTS = ("train", "val", "test")
SIZES = 3  # listed
IGNORED = 5  # files listed


class Examined(Protocol):
    """What was read from the N valid images of a data set."""

    @property
    def source(self) -> Source:
        """The data set."""

    @property
    def problems(self) -> list[Problem]:
        """All problems."""

    @property
    def records(self) -> list[Record]:
        """The valid images."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(height, width) of each image on disk, (N, 2)."""

    @property
    def coloured(self) -> NDArray[np.bool_]:
        """Whether each image has colour, (N,)."""

    @property
    def labels(self) -> NDArray[np.bool_]:
        """Whether a class has any pixel in the native mask, (N, M)."""

    @property
    def mask_labels(self) -> NDArray[np.bool_]:
        """Whether it still has one at the requested size, (N, M)."""

    @property
    def thumbnails(self) -> NDArray[np.uint8]:
        """To find near-duplicates, (N, 32, 32)."""

    @property
    def counted_at(self) -> tuple[int, int] | None:
        """The requested (height, width); ``None``: each image's own."""


class Repeat(NamedTuple):
    """Images that are near-duplicates of each other."""

    rows: tuple[int, ...]
    is_conflict: bool  # labelled with different classes


@dataclass(frozen=True, eq=False)
class Summary:
    """Numbers of a data set, and the sentences that state them.

    Attributes:
        images: what was read.
        frac: fraction of the training set that is used.
        is_official: whether the published test set is the test set.
        near: near-duplicate group of each image, (N,).
        duplicates: what the split does with them, as ``data.duplicates``.
        groups: what else it keeps on one side, as ``data.groups``.
        repeats: near-duplicates, those with conflicting labels first.
        split: as from `tlunet.data.split.make_split`, N rows; ``None`` if it cannot be made.
        why_unsplit: why it cannot be made, one line per problem.
    """

    images: Examined
    frac: float
    is_official: bool
    near: NDArray[np.int64]
    duplicates: str
    groups: str | None
    repeats: list[Repeat]
    split: pd.DataFrame | None
    why_unsplit: tuple[str, ...] = ()

    def part(self, name: str) -> NDArray[np.bool_]:
        """Return which images are in a part of the split, (N,); ``train`` ignores ``frac``."""
        if self.split is None:
            return np.zeros(len(self.images.records), bool)
        if name == "train":
            return is_training(self.split)
        return (self.split["subset"] == name).to_numpy()

    def overview(self) -> str:
        """Describe the images (number, size, colour) and the number of classes."""
        images = self.images
        name = images.source.name
        if name == "synthetic":
            name = "synthetic strips (not steel)"
        kinds = Counter(map(tuple, images.sizes.tolist())).most_common()
        if len(kinds) > SIZES:
            low, high = images.sizes.min(0), images.sizes.max(0)
            sizes = f"{len(kinds)} sizes, {low[0]} to {high[0]} × {low[1]} to {high[1]}"
        else:
            sizes = ", ".join(
                f"{height}×{width}" + (f" ({n:,})" if len(kinds) > 1 else "")
                for (height, width), n in kinds
            )
        coloured = int(images.coloured.sum())
        colour = "grey" if not coloured else "in colour"
        if 0 < coloured < len(images.records):
            colour = f"{coloured:,} of them in colour"
        classes = len(images.source.classes)
        return (
            f"{name}: {len(images.records):,} images of {sizes} pixels (height × width), "
            f"{colour}, {classes} {'class' if classes == 1 else 'classes'}"
        )

    def parts(self) -> str:
        """State the sizes of the parts of the split, and how much of the training set is used."""
        sizes = [int(self.part(name).sum()) for name in PARTS]
        text = f"train/val/test: {'/'.join(map(str, sizes))}"
        text += " (official test set)" if self.is_official else ""
        if self.split is not None and self.frac < 1:
            used = int((self.split["subset"] == "train").sum())
            text += f"; frac={self.frac:g} uses {used:,} of the training images"
        return text

    def classes(self) -> str:
        """State how many images show each class, in total and in each part of the split."""
        labels = self.images.labels
        columns = np.column_stack([labels, ~labels.any(1)])
        by_class = [
            f"{name} {column.sum()} ({'/'.join(str(column[self.part(p)].sum()) for p in PARTS)})"
            for name, column in zip((*self.images.source.classes, "defect-free"), columns.T,
                                    strict=True)
        ]  # fmt: skip
        *named, free = by_class
        return f"images per class, total (train/val/test): {', '.join(named)}; {free}"

    def duplicated(self) -> str:
        """Describe the near-duplicates and what the split does with them."""
        if not self.repeats:
            return "no near-duplicates"
        n = sum(len(repeat.rows) for repeat in self.repeats)
        groups = f"{len(self.repeats):,} group" + ("s" if len(self.repeats) > 1 else "")
        text = f"{n:,} images are near-duplicates (also flipped or rotated): {groups}"
        if self.duplicates == "ignore":
            return f"{text}; {SEPARATED}"
        if self.is_official and self.split is not None:
            unused = ~self.part("train") & (self.split["subset"] == "unused").to_numpy()
            alike = "repeat a test image" + (" or are grouped with one" if self.groups else "")
            return f"{text}; {unused.sum():,} training images {alike} and are not used"
        return f"{text}, each on one side of the split"

    def warnings(self) -> list[str]:
        """List what may spoil a result, one line each; none of it is a problem of a file."""
        images = self.images
        lines = []
        sizes = Sizes(map(tuple, images.sizes.tolist()))
        if len(sizes) > 1 and not images.counted_at:
            height, width = common_size(sizes) if are_mixed(sizes) else sizes.most_common(1)[0][0]
            lines.append(
                f"images have {len(sizes)} sizes; training needs one: data.size=[{height},{width}]"
            )
        classes = images.source.classes
        if images.counted_at:
            lines += exchanged(sizes, images.counted_at)
            lines += vanished(images.labels, images.mask_labels, classes, images.counted_at)
        if self.duplicates == "group":
            lines += suspicious([record.image_id for record in images.records], self.near)
        if self.split is not None:
            lines += kept_together(self.split, rule=self.groups, official=self.is_official)
            lines += gaps(self.split, images.labels, classes, self.frac)
        conflicts = [repeat for repeat in self.repeats if repeat.is_conflict]
        if conflicts:
            n = sum(len(repeat.rows) for repeat in conflicts)
            lines.append(
                f"conflicting labels in {len(conflicts):,} of {len(self.repeats):,} groups of "
                f"near-duplicates ({n:,} images)"
            )
        return lines

    def lines(self) -> list[str]:
        """State everything, one line per fact."""
        ignored = self.images.source.ignored
        named = ", ".join(path.name for path in ignored[:IGNORED])
        more = ", …" if len(ignored) > IGNORED else ""
        return [
            self.overview(),
            *([self.parts(), self.classes()] if self.split is not None else []),
            self.duplicated(),
            *([f"{len(ignored)} ignored files or folders: {named}{more}"] if ignored else []),
            *self.warnings(),
        ]


def summarise(
    images: Examined,
    *,
    frac: float = 1.0,
    split: str = "random",
    duplicates: str = "group",
    groups: str | None = None,
) -> Summary:
    """Find near-duplicates and split the images as ``run.py`` does with the default seed.

    Args:
        images: at least one valid image.
        frac: fraction of the training set to use.
        split: ``random`` or ``official``.
        duplicates: ``group`` or ``ignore``, as ``data.duplicates``.
        groups: as ``data.groups``.
    """
    near = near_duplicates.group(images.thumbnails)
    table: pd.DataFrame | None = None
    why: tuple[str, ...] = ()
    try:
        table = default_split(
            images.source, images.records, images.labels, near,
            frac=frac, split=split, duplicates=duplicates, groups=groups,
        )  # fmt: skip
    except UserError as error:  # too few images, or too small a fraction
        why = error.lines
    repeats = _repeats(near, images.labels)
    return Summary(images, frac, split == "official", near, duplicates, groups, repeats, table, why)


def _repeats(groups: NDArray[np.int64], labels: NDArray[np.bool_]) -> list[Repeat]:
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order])) + 1
    repeats = [
        Repeat(tuple(rows.tolist()), bool((labels[rows] != labels[rows[0]]).any()))
        for rows in np.split(order, starts)
        if len(rows) > 1
    ]
    return sorted(repeats, key=lambda repeat: (not repeat.is_conflict, repeat.rows))
