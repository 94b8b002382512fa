"""The split: training, validation, test and (for a fraction of the labels) unused images.

75 / 12.5 / 12.5 of the images, stratified by the set of classes in the image; near-duplicates stay
on one side. The split depends on the images' names, labels and groups and on one seed. It does not
depend on the order of the images or on the fraction of the labels that a run uses.

**Assignment.** Groups are assigned one by one: the largest first, and among groups of one size the
rarest set of classes first. Each goes to the subset with the largest deficit. The deficit counts
images with this set of classes, images with each class, and all images, so that a rounding error in
one stratum is compensated in the next (error diffusion). On Severstal's 12,568 images, sizes are
exact and class counts are within one image of their target; large groups with conflicting labels
cost a few images.

**Fraction.** The j-th of the n shuffled training images of a stratum gets the key (j + u) / n,
with one random u per stratum; a fraction keeps the smallest keys. Fractions are therefore nested,
and each stratum is within about one image of its target in all of them (systematic sampling;
Cochran, Sampling Techniques, ch. 8).
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tlunet.machine.counted import counted

FRACTIONS = (0.75, 0.125, 0.125)
"""Fractions of train, val and test in a random split."""

_TRAIN, _VAL, _TEST, _UNUSED = range(4)
_SUBSETS = np.array(["train", "val", "test", "unused"], dtype=object)


def make_split(
    image_ids: Sequence[str],
    labels: ArrayLike,
    *,
    frac: float,
    seed: int,
    groups: ArrayLike | None = None,
    fractions: tuple[float, float, float] = FRACTIONS,
    official: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Split a data set into train, val and test, and keep a fraction of train.

    Args:
        image_ids: unique names of the images.
        labels: bool `(N, M)`, "image has class m".
        frac: fraction of the training set to keep, in (0, 1]: `round(frac * n_train)` images, at
            least one. The others become "unused". This may divide a group: duplicates within the
            training set do no harm.
        seed: seed of the split, the only source of randomness.
        groups: integer `(N,)`, the near-duplicate group of each image; by default one per image.
            No group is in more than one of train/unused, val and test.
        fractions: fractions of train, val and test, all above 0, with sum 1.
        official: "train" or "test" for each image, as published. The published test set is then
            test; images that share a group with it become "unused"; `fractions[1]` of the rest
            is val.

    Returns:
        A table with columns `image_id, subset, group`, in the order of `image_ids`; subset is one
        of train, unused, val, test.

    Raises:
        ValueError: frac or fractions are out of range, lengths differ, an image is listed twice,
            there are too few images to fill every subset, or an official subset is unknown or
            empty.

    >>> names = [f"{i}.png" for i in range(16)]
    >>> split = make_split(names, np.ones((16, 1)), frac=0.5, seed=0)
    >>> split["subset"].value_counts().sort_index().to_dict()
    {'test': 2, 'train': 6, 'unused': 6, 'val': 2}
    """
    ids = np.asarray(image_ids, dtype=object)
    classes = np.asarray(labels).astype(bool)
    _check(ids, classes, frac, groups, fractions, official)
    order = np.argsort(ids)  # everything below is in the order of the names
    classes = classes[order]
    # Without groups: the rank of the name, which does not depend on the order of the rows.
    named = np.argsort(order) if groups is None else np.asarray(groups)
    group = np.unique(named[order], return_inverse=True)[1]

    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(ids))  # position of each image
    combinations, stratum = np.unique(classes, axis=0, return_inverse=True)
    offsets = rng.random(len(combinations))

    shares = np.array(fractions)
    part = np.full(len(ids), _UNUSED)
    open_ = np.ones(len(ids), bool)  # not yet assigned
    if official is not None:
        tests = np.asarray(official, dtype=object)[order] == "test"
        part[tests] = _TEST
        open_ = ~np.isin(group, group[tests])
        shares = np.array([1 - fractions[1], fractions[1]])
    dealt = group[open_], stratum[open_], shuffled[open_], combinations, shares
    part[open_] = _dealt(*map(_contents, dealt))
    _check_filled(part, len(np.unique(group[open_])))

    train = np.flatnonzero(part == _TRAIN)
    keys = _nested_keys(stratum[train], shuffled[train], offsets)
    kept = max(1, round(frac * len(train)))
    part[train[np.argsort(keys, kind="stable")[kept:]]] = _UNUSED

    subset = np.empty(len(ids), dtype=object)
    subset[order] = _SUBSETS[part]
    return pd.DataFrame({"image_id": ids, "subset": subset, "group": named})


def fingerprint(split: pd.DataFrame) -> str:
    """Compute a hash of a split that is the same for every fraction and any order of its rows.

    Args:
        split: a table with columns `image_id, subset, group`, as from `make_split`.

    Returns:
        64 hexadecimal digits: the SHA-256 of the sorted (image, group, subset), with "unused"
        counted as "train" and each group named after its first image.
    """
    by_name = split.sort_values("image_id", kind="stable")
    names = by_name["image_id"].to_numpy()
    _, place, group = np.unique(by_name["group"], return_index=True, return_inverse=True)
    subset = by_name["subset"].replace("unused", "train")
    rows = sorted(zip(names, names[place][group], subset, strict=True))
    return hashlib.sha256("".join("\t".join(row) + "\n" for row in rows).encode()).hexdigest()


@lru_cache(maxsize=16)  # a sweep has a few split seeds, its cells many
def _dealt(*contents: tuple[bytes, str, tuple[int, ...]]) -> NDArray[np.int64]:
    """Deal out what `_contents` holds: the cells of a sweep repeat the question."""
    group, stratum, shuffled, combinations, shares = (
        np.frombuffer(content, kind).reshape(shape) for content, kind, shape in contents
    )
    return _deal(group, stratum, shuffled, combinations, shares)


def _contents(array: NDArray[np.generic]) -> tuple[bytes, str, tuple[int, ...]]:
    """All that an array is, to look it up by."""
    return array.tobytes(), array.dtype.str, array.shape


def _deal(
    group: NDArray[np.int64],
    stratum: NDArray[np.int64],
    shuffled: NDArray[np.int64],
    combinations: NDArray[np.bool_],
    shares: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Assign whole groups to subsets; return the subset of each image."""
    # The traits of an image: a constant 1, and its classes. The constant has the largest weight:
    # sizes stay within one image of their target even at the expense of class counts.
    traits = np.column_stack([np.ones(len(combinations)), combinations])  # (S, 1 + M)
    weights = np.r_[4.0, np.ones(combinations.shape[1])]
    class_images = traits[stratum].sum(axis=0)  # (1 + M,)
    rarest = np.where(combinations, class_images[1:], np.inf).min(axis=1, initial=np.inf)
    # Strata with the same rarest class are adjacent, the defect-free images last.
    rank = np.lexsort((np.bincount(stratum, minlength=len(combinations)), rarest)).argsort()

    size = np.bincount(group)[group]
    # The rank of a group is the lowest rank of its images; its images are adjacent.
    by_rank = np.lexsort((shuffled, rank[stratum]))
    turn = np.empty(len(group), np.int64)
    turn[by_rank] = np.arange(len(group))
    first_turn = np.full(group.max(initial=0) + 1, len(group))
    np.minimum.at(first_turn, group, turn)
    queue = np.lexsort((first_turn[group], -size))

    part = np.empty(len(group), np.int64)
    owed_stratum = np.zeros((len(combinations), len(shares)))
    owed_trait = np.zeros((traits.shape[1], len(shares)))
    starts = np.flatnonzero(np.diff(group[queue], prepend=-1))
    counts = np.add.reduceat(traits[stratum[queue]], starts)  # (G, 1 + M)
    empty = np.ones(len(shares), bool)
    turns = zip(np.split(queue, starts[1:]), counts, range(len(starts), 0, -1), strict=False)
    for members, count, left in turns:
        strata = stratum[members]
        np.add.at(owed_stratum, strata, shares)
        owed_trait += count[:, None] * shares
        owed = owed_stratum[strata].sum(axis=0) + (weights * count) @ owed_trait  # (parts,)
        if left <= empty.sum():  # a few large groups: the last ones fill empty subsets
            owed[~empty] = -np.inf
        # Rounded: the last bits, and therefore ties, may differ between machines.
        chosen = int(owed.round(6).argmax())
        part[members] = chosen
        empty[chosen] = False
        np.subtract.at(owed_stratum[:, chosen], strata, 1)
        owed_trait[:, chosen] -= count
    return part


def _nested_keys(
    stratum: NDArray[np.int64], shuffled: NDArray[np.int64], offsets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Compute (j + u) / n for each image: its relative position in its stratum."""
    queue = np.lexsort((shuffled, stratum))
    sizes = np.bincount(stratum, minlength=len(offsets))
    starts = np.cumsum(sizes) - sizes
    place = np.empty(len(stratum), np.int64)
    place[queue] = np.arange(len(stratum)) - starts[stratum[queue]]
    return (place + offsets[stratum]) / sizes[stratum]


def _check(
    ids: NDArray[np.object_],
    classes: NDArray[np.bool_],
    frac: float,
    groups: ArrayLike | None,
    fractions: tuple[float, float, float],
    official: Sequence[str] | None,
) -> None:
    if not 0 < frac <= 1:
        raise ValueError(f"frac={frac}: expected a fraction above 0 and at most 1")
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-9:
        raise ValueError(
            f"fractions={tuple(fractions)}: expected three fractions above 0 that sum to 1"
        )
    if classes.ndim != 2:
        raise ValueError(f"labels of shape {classes.shape}: expected (images, classes)")
    columns = {"labels": classes, "groups": groups, "official": official}
    for name, column in columns.items():
        if column is not None and len(np.asarray(column)) != len(ids):
            raise ValueError(f"{len(np.asarray(column))} {name} for {len(ids)} images")
    seen, times = np.unique(ids.astype(str), return_counts=True)
    if (times > 1).any():
        raise ValueError(f"image '{seen[times > 1][0]}' is listed {times[times > 1][0]} times")
    if official is not None:
        unknown = sorted(set(official) - {"train", "test"})
        if unknown:
            raise ValueError(f"official subset {unknown[0]!r}: expected 'train' or 'test'")
        for name in ("train", "test"):
            if name not in set(official):
                raise ValueError(f"the official split has no {name} images")


def _check_filled(part: NDArray[np.int64], n_groups: int) -> None:
    for number in (_TRAIN, _VAL, _TEST):
        if not (part == number).any():
            raise ValueError(
                f"{len(part)} images ({counted(n_groups, 'group')}) are too few: "
                f"no image is left for {_SUBSETS[number]}"
            )
