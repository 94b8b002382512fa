"""Groups of images that a split keeps on one side: near-duplicates, and those that a user names."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tlunet.data.readers.groups import RULE, is_rule, listed, read_groups
from tlunet.data.split import FRACTIONS
from tlunet.errors import ConfigError, DataError

DUPLICATES = ("group", "ignore")
MISSED = 0.1  # fraction of a subset's size by which the split may miss it without a line
LARGE = 0.1  # fraction of the images from which a group of near-duplicates is suspicious
SEPARATED = "the split may separate them (data.duplicates)"
ADVICE = (
    "if they show different parts under a fixed camera, or a background that fills the image, "
    "set data.duplicates=ignore"
)


def check_grouping(duplicates: str, rule: str | None, key: str = "data.") -> None:
    """Raise ConfigError for a value of ``data.duplicates`` or ``data.groups`` that is not allowed.

    Args:
        duplicates: ``group`` or ``ignore``.
        rule: as for :func:`tlunet.data.readers.groups.read_groups`; ``None`` for none.
        key: what precedes the names of the keys in a message.
    """
    if duplicates not in DUPLICATES:
        raise ConfigError(f"{key}duplicates={duplicates}: expected {', '.join(DUPLICATES)}")
    if rule is not None and not is_rule(rule):
        raise ConfigError(f"{key}groups={rule}: expected {RULE}")


def group_images(
    image_ids: Sequence[str], near: ArrayLike, *, duplicates: str = "group", rule: str | None = None
) -> NDArray[np.int64]:
    """Number the groups of images that must stay on one side.

    Args:
        image_ids: names of N images, paths relative to their folder.
        near: (N,), near-duplicate group of each image.
        duplicates: ``group``: near-duplicates stay together; ``ignore``: they do not.
        rule: the user's groups; images that share one of either kind are united.

    Returns:
        (N,) group of each image.

    Raises:
        DataError: an image belongs to no group of the rule.

    >>> group_images(["a_1", "b_1", "b_2", "c_1"], [0, 0, 2, 3], rule="^(.)").tolist()
    [0, 0, 0, 3]
    """
    groups = np.asarray(near, np.int64)
    if duplicates == "ignore":
        groups = np.arange(len(groups))
    if rule is None:
        return groups
    return united(groups, np.unique(read_groups(rule, image_ids), return_inverse=True)[1])


def united(*groupings: NDArray[np.int64]) -> NDArray[np.int64]:
    """Unite images that share a group in any of several groupings; the first one names the group.

    >>> united(np.array([0, 0, 2, 3]), np.array([5, 6, 6, 7])).tolist()
    [0, 0, 0, 3]
    """
    n = len(groupings[0])
    firsts = [np.unique(g, return_index=True, return_inverse=True)[1:] for g in groupings]
    ends = np.tile(np.arange(n), len(groupings)), np.concatenate([f[place] for f, place in firsts])
    links = coo_array((np.ones(len(ends[0]), bool), ends), shape=(n, n))
    _, component = connected_components(links, directed=False)
    _, first, place = np.unique(component, return_index=True, return_inverse=True)
    return first[place]


def split_error(
    root: Path, error: ValueError, image_ids: Sequence[str], groups: ArrayLike, near: ArrayLike
) -> DataError:
    """Explain why a data set cannot be split, with the largest group if there is one.

    Args:
        root: folder of the data set.
        error: from :func:`tlunet.data.split.make_split`.
        image_ids: names of N images.
        groups: (N,), what must stay on one side.
        near: (N,), near-duplicates.
    """
    what = f"{root}: {error}"
    n, names = _largest(image_ids, groups)
    if n > 1:
        what += f"; the largest group has {n} ({names})"
        if _largest(image_ids, near)[0] == n:
            what += f", which look alike: {ADVICE}"
    return DataError(what)


def alike_lines(image_ids: Sequence[str], near: ArrayLike, *, duplicates: str) -> list[str]:
    """Say how many images are near-duplicates, and what a split does with them: one line, or none.

    Args:
        image_ids: names of N images.
        near: (N,), near-duplicate group of each.
        duplicates: as in :func:`group_images`.
    """
    again = len(image_ids) - len(np.unique(near))
    if not again:
        return []
    n, names = _largest(image_ids, near)
    are = "image is a near-duplicate" if again == 1 else "images are near-duplicates"
    alike = f"{again} {are} of another (also flipped or rotated)"
    largest = f"the largest group has {n} ({names})"
    if duplicates == "ignore":
        return [f"{alike}; {largest}; {SEPARATED}"]
    advice = f"; {ADVICE}" if _is_large(n, image_ids) else ""
    return [f"{alike}; the split keeps them on one side; {largest}{advice}"]


def suspicious(image_ids: Sequence[str], near: ArrayLike) -> list[str]:
    """Point out a large group of near-duplicates, which may be none: one line, or none.

    Args:
        image_ids: names of N images.
        near: (N,), near-duplicate group of each.
    """
    n, names = _largest(image_ids, near)
    return [f"{n} images look alike ({names}): {ADVICE}"] if _is_large(n, image_ids) else []


def kept_together(split: pd.DataFrame, *, rule: str | None, official: bool) -> list[str]:
    """Say what the user's groups keep together, and where a split misses its sizes.

    Args:
        split: N rows, from :func:`tlunet.data.split.make_split`.
        rule: as in :func:`group_images`.
        official: whether the test set is the published one.
    """
    ids, lines = split["image_id"].tolist(), []
    n, names = _largest(ids, split["group"])
    if rule is not None:
        count = split["group"].nunique()
        lines.append(f"data.groups: {count} groups stay on one side; the largest has {n} ({names})")
    parts = split["subset"].replace("unused", "train")
    sizes = [int((parts == part).sum()) for part in ("train", "val", "test")]
    wanted = [fraction * len(ids) for fraction in FRACTIONS]
    differs = [abs(a - b) > max(1, MISSED * b) for a, b in zip(sizes, wanted, strict=True)]
    if any(differs) and not official:
        lines.append(
            f"the split has {_slashed(sizes)} images (train/val/test), expected about "
            f"{_slashed(map(round, wanted))}: groups are not divided, and the largest has {n} "
            f"({names})"
        )
    return lines


def _is_large(n: int, image_ids: Sequence[str]) -> bool:
    return n > max(2, LARGE * len(image_ids))


def _slashed(numbers: Iterable[int]) -> str:
    return "/".join(map(str, numbers))


def _largest(image_ids: Sequence[str], groups: ArrayLike) -> tuple[int, str]:
    """Return the number of images in the largest group, and the first of their names."""
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    if not len(counts):
        return 0, ""
    members = np.flatnonzero(place == counts.argmax()).tolist()
    return int(counts.max()), listed([image_ids[k] for k in members])
