"""Split a data set, and find classes that cannot be learned, before training."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tlunet.data.grouping.groups import group_images, split_error
from tlunet.data.source import Record, Source
from tlunet.data.split import make_split
from tlunet.errors import ConfigError


def default_split(
    source: Source,
    records: Sequence[Record],
    labels: np.ndarray,
    near: np.ndarray,
    *,
    frac: float,
    split: str,
    duplicates: str = "group",
    groups: str | None = None,
) -> pd.DataFrame:
    """Split these images as ``run.py`` does with the default seed.

    Args:
        source: the data set.
        records: N of its images.
        labels: bool (N, M).
        near: (N,), near-duplicate groups.
        frac: fraction of the training set to use.
        split: ``random`` or ``official``.
        duplicates: ``group`` or ``ignore``, as ``data.duplicates``.
        groups: as ``data.groups``.

    Returns:
        The table from `make_split`.

    Raises:
        ConfigError: ``frac`` keeps no image.
        DataError: there are too few images to split, or one is in none of the groups.
    """
    ids = [record.image_id for record in records]
    parts = [record.part for record in records] if split == "official" else None
    together = group_images(ids, near, duplicates=duplicates, rule=groups)
    try:
        table = make_split(ids, labels, frac=frac, seed=0, groups=together, official=parts)
    except ValueError as error:
        raise split_error(source.root, error, ids, together, near) from error
    require_training_image(table, frac)
    return table


def gaps(split: pd.DataFrame, labels: np.ndarray, classes: Sequence[str], frac: float) -> list[str]:
    """List the classes that are absent from a subset of the split, one line each.

    Args:
        split: the table from `make_split`, N rows.
        labels: bool (N, M).
        classes: M names.
        frac: fraction of the training set that is used.
    """
    subset = split["subset"].to_numpy()
    used, val, test = (labels[subset == part].sum(0) for part in ("train", "val", "test"))
    whole = labels[is_training(split)].sum(0)
    lines = []
    for m, name in enumerate(classes):
        if not labels[:, m].any():
            lines.append(f"{name}: absent from the data, cannot be learned, no scores")
            continue
        if whole[m] and not used[m]:
            lines.append(
                f"{name}: absent from the training set at frac={frac:g} ({whole[m]} images at "
                "frac=1), cannot be learned; use a larger frac"
            )
        elif not used[m]:
            lines.append(f"{name}: absent from the training set, cannot be learned")
        lines += [
            f"{name}: absent from the {part} set, no {part} scores"
            for part, count in (("validation", val[m]), ("test", test[m]))
            if not count
        ]
    return lines


def vanished(
    labels: np.ndarray, mask_labels: np.ndarray, classes: Sequence[str], size: tuple[int, int]
) -> list[str]:
    """Report how many images lose the mask of a class at a size: one line, or none.

    Args:
        labels: bool (N, M), from the native masks.
        mask_labels: bool (N, M), from the masks at that size.
        classes: M names.
        size: (height, width).

    >>> vanished(np.array([[1], [1]]) > 0, np.array([[0], [1]]) > 0, ["pits"], (32, 64))
    ['At 32×64 the masks of class 1 (pits) vanish in 1 of 2 images; the images keep their label.']
    """
    counts = zip(classes, (labels & ~mask_labels).sum(0), labels.sum(0), strict=True)
    parts = [
        f"the masks of {numbered(m, name)} vanish in {lost} of {total} images"
        for m, (name, lost, total) in enumerate(counts, start=1)
        if lost
    ]
    at = f"At {size[0]}×{size[1]} "
    return [f"{at}{', '.join(parts)}; the images keep their label."] if parts else []


def numbered(m: int, name: str) -> str:
    """Format a class by its id and, if it has one, its name.

    >>> numbered(1, "pits"), numbered(1, "class 1")
    ('class 1 (pits)', 'class 1')
    """
    return name if name == f"class {m}" else f"class {m} ({name})"


def require_training_image(split: pd.DataFrame, frac: float) -> None:
    """Raise ConfigError if ``frac`` of the training set is less than one image."""
    n = int(is_training(split).sum())
    if round(frac * n) < 1:
        raise ConfigError(
            f"frac={frac:g}: keeps none of the {n} training images; expected {1 / n:.2g} or more"
        )


def is_training(split: pd.DataFrame) -> np.ndarray:
    """Mark the whole training set, (N,), without near-duplicates of official test images."""
    tested = split.loc[split["subset"] == "test", "group"]
    return (split["subset"].isin(["train", "unused"]) & ~split["group"].isin(tested)).to_numpy()
