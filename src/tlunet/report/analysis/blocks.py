"""Collect a study's finished cells in comparable blocks: one data set, split and protocol each.

Within a block only encoder, initialisation, fraction and seed vary, and what follows the seed
(:mod:`tlunet.report.analysis.tied`). Cells of different blocks are never averaged; two blocks on
the same split are compared cell by cell.

Shapes: K cells in a block, N test images, M classes. Where each seed has its own split, N is the
number of images that any seed was tested on, and a cell has the rows of its own.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf.errors import OmegaConfBaseException
from pyarrow import ArrowException
from yaml import YAMLError

from tlunet.errors import DataError
from tlunet.machine.files import read_json
from tlunet.model.scores import PixelCounts
from tlunet.report.analysis.finished import FACTORS, Run, read_run
from tlunet.report.analysis.tied import FOLLOWS, by_split, name_inits
from tlunet.runs.settings import what_differs

FIRST = ("resnet", "densenet", "random")  # as in the paper; others follow by name

#: Exceptions raised by broken files in a run folder.
UNREADABLE = (
    *(OSError, KeyError, ValueError, TypeError, AttributeError),
    *(ArrowException, OmegaConfBaseException, YAMLError, DataError),
)


class Key(NamedTuple):
    """A cell without its seed."""

    encoder: str
    init: str
    frac: float

    def __str__(self) -> str:
        return f"{self.encoder} · {self.init} · {self.frac}"


@dataclass(frozen=True, eq=False)
class Block:
    """Finished cells of one data set, split and protocol.

    Attributes:
        title: data set, and the settings that distinguish this block from the study's others.
        dataset: name of the data set.
        threshold: probability threshold for pixels and labels.
        classes: M names.
        image_ids: N names of test images, sorted.
        groups: (N,) numbers of the near-duplicate groups, from 0.
        cells: K rows in display order: the factors, ``folder``, ``finished`` (when),
            ``dead_classes``, ``recipe`` (of the starting weights) and the contents of
            ``meta.json``.
        counts: one per cell, rows in the order of ``image_ids``; ``index`` are their places there.
        history: the cells' ``history.csv``, with the factors.
        settings: the protocol, as typed on the command line.
        missing: cells without a finished run in each encoder's own grid of initialisations ×
            fractions × seeds. An encoder that serves as a baseline may have a smaller grid.
        empty_predictor: scores of the predictor that never finds a defect, as in `metrics.json`.
    """

    title: str
    dataset: str
    threshold: float
    classes: tuple[str, ...]
    image_ids: tuple[str, ...]
    groups: NDArray[np.int64]
    cells: pd.DataFrame
    counts: tuple[PixelCounts[NDArray[Any]], ...]
    history: pd.DataFrame
    settings: dict[str, str]
    missing: tuple[str, ...]
    empty_predictor: dict[str, Any]

    @property
    def keys(self) -> list[Key]:
        """Every encoder × init × frac with a finished cell, in display order."""
        rows = self.cells[["encoder", "init", "frac"]].drop_duplicates()
        return [Key(*row) for row in rows.itertuples(index=False)]

    def runs(self, key: Key) -> pd.DataFrame:
        """Return the rows of ``cells`` with this key, one row per seed."""
        return self.cells[(self.cells[list(Key._fields)] == list(key)).all(axis=1)]

    @property
    def seeds(self) -> list[int]:
        """All seeds of any cell."""
        return sorted(int(s) for s in self.cells["seed"].unique())

    @property
    def splits(self) -> dict[int, str]:
        """Fingerprint of the split of each seed."""
        both = self.cells[["seed", "split_fingerprint"]].itertuples(index=False, name=None)
        return {int(seed): str(fingerprint) for seed, fingerprint in sorted(both)}

    @property
    def has_own_splits(self) -> bool:
        """Whether every seed has its own split."""
        return len(set(self.splits.values())) > 1

    @property
    def has_own_starts(self) -> bool:
        """Whether starting weights were made for every seed."""
        return bool(self.cells["recipe"].str.contains(f"seed={FOLLOWS}", regex=False).any())

    @property
    def of_each_split(self) -> dict[int, PixelCounts[NDArray[Any]]]:
        """The counts of one cell of each split, by its seed; their labels are the ground truth."""
        first: dict[str, tuple[int, PixelCounts[NDArray[Any]]]] = {}
        columns = self.cells[["seed", "split_fingerprint"]].itertuples(index=False)
        for (seed, split), counts in zip(columns, self.counts, strict=True):
            first.setdefault(split, (int(seed), counts))
        return dict(first.values())

    @property
    def labels(self) -> NDArray[np.bool_]:
        """Which classes each test image has, (N, M)."""
        labels = np.zeros((len(self.image_ids), len(self.classes)), bool)
        for counts in self.of_each_split.values():
            labels[counts.index] = counts.label
        return labels

    def has_images_of(self, other: "Block") -> bool:
        """Whether both were tested on the same images, seed by seed, with the same training set."""
        mine, others = self.splits, other.splits
        names = ("dataset", "classes", "image_ids")
        return all(getattr(self, name) == getattr(other, name) for name in names) and all(
            mine[seed] == others[seed] for seed in mine.keys() & others.keys()
        )


@dataclass(frozen=True)
class Study:
    """Contents of a study folder.

    Attributes:
        folder: the study folder.
        blocks: the finished cells.
        unfinished: the other cells: (title, state, error).
        problems: unreadable run folders and ignored cells, with the reason.
    """

    folder: Path
    blocks: tuple[Block, ...]
    unfinished: tuple[tuple[str, str, str], ...]
    problems: tuple[str, ...]


def display_order(names: Iterable[str]) -> list[str]:
    """Sort names: ResNet, DenseNet and random first, as in the paper, then the others by name.

    >>> display_order(["synthetic", "random", "imagenet"])
    ['random', 'imagenet', 'synthetic']
    """
    return sorted(set(names), key=lambda n: (FIRST.index(n) if n in FIRST else len(FIRST), n))


def collect(folder: Path) -> Study:
    """Read every run folder of a study.

    Raises:
        DataError: the folder is not a study folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected a study, such as runs/synthetic")
    runs, unfinished, problems = [], [], []
    for status in sorted(folder.glob("*/status.json")):
        run = status.parent
        try:
            state, meta = read_json(status), read_json(run / "meta.json")
            if state["state"] == "finished":
                runs.append(read_run(run, meta, state["time"]))
            else:
                title = "{} · {} · {} · seed {}".format(*(meta.get(f, "?") for f in FACTORS))
                unfinished.append((title, state["state"], state.get("error") or ""))
        except UNREADABLE as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            problems.append(f"{run.name}: cannot be read ({reason}); run it again with force=true")
    if not runs and not unfinished and not problems:
        raise DataError(f"{folder}: no run folder in it; expected a study, such as runs/synthetic")
    groups = list(by_split(runs))
    words = what_differs([members[0].settings for members in groups])
    titles = [
        " · ".join([members[0].meta["dataset"], *own])
        for members, own in zip(groups, words, strict=True)
    ]
    _tell_versions_apart(groups, titles)
    blocks = []
    for members, title in zip(groups, titles, strict=True):
        if titles.count(title) > 1:  # they differ in something without a short name
            protocol = members[0].protocol + members[0].split
            title += f" · protocol {hashlib.sha256(protocol.encode()).hexdigest()[:8]}"
        kept, left_out = _one_a_cell(name_inits(members))
        problems += left_out
        blocks.append(_block(kept, title))
    blocks.sort(key=lambda block: block.title)
    return Study(folder, tuple(blocks), tuple(unfinished), tuple(problems))


def _tell_versions_apart(groups: Sequence[Sequence[Run]], titles: list[str]) -> None:
    """Add to equal titles what differs between the versions of the data they were trained on."""
    for title in {t for t in titles if titles.count(t) > 1}:
        twins = [k for k, t in enumerate(titles) if t == title]
        versions = [_version(groups[k][0]) for k in twins]
        for k, words in zip(twins, what_differs(versions), strict=True):
            titles[k] = " · ".join([title, *words])


def _version(run: Run) -> dict[str, str]:
    """The version of a data set: what a person can tell it by, and its fingerprint."""
    subsets = ("train", "unused", "val", "test")
    return {
        "images": str(sum(run.meta.get(f"{subset}_images", 0) for subset in subsets)),
        "classes": ", ".join(run.meta["classes"]),
        "data": str(run.meta["data_fingerprint"])[:8],
    }


def _one_a_cell(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Keep the newest run of each cell (starting weights may differ); report the others."""
    newest: dict[tuple[Any, ...], Run] = {}
    left_out = []
    for run in sorted(runs, key=lambda run: (run.time, run.folder)):
        if run.cell in newest:
            left_out.append(
                f"{newest[run.cell].folder}: the same cell as {run.folder} with other starting "
                "weights; the newer one is shown"
            )
        newest[run.cell] = run
    return list(newest.values()), left_out


def _block(runs: Sequence[Run], title: str) -> Block:
    encoders, inits = (display_order(r.meta[k] for r in runs) for k in ("encoder", "init"))
    runs = sorted(
        runs,
        key=lambda r: (
            -r.meta["frac"],
            encoders.index(r.meta["encoder"]),
            inits.index(r.meta["init"]),
            r.meta["seed"],
        ),
    )
    first = runs[0]
    own = [
        {
            "folder": r.folder,
            "finished": r.time,
            "dead_classes": r.dead_classes,
            "recipe": ", ".join(f"{k}={v}" for k, v in r.recipe.items() if v != "null"),
        }
        for r in runs
    ]
    cells = pd.DataFrame([r.meta | more for r, more in zip(runs, own, strict=True)])
    histories = [
        r.history.assign(encoder=r.cell[0], init=r.cell[1], frac=r.cell[2], seed=r.cell[3])
        for r in runs
    ]
    splits = list({r.split: r for r in runs}.values())
    group_of = {name: g for r in splits for name, g in zip(r.image_ids, r.groups, strict=True)}
    names = sorted(group_of)
    groups = np.unique([group_of[name] for name in names], return_inverse=True)[1]
    return Block(
        title=title,
        dataset=first.meta["dataset"],
        threshold=float(first.meta["threshold"]),
        classes=tuple(first.meta["classes"]),
        image_ids=tuple(names),
        groups=groups.astype(np.int64),
        cells=cells,
        counts=tuple(_placed(r, names) for r in runs),
        history=pd.concat(histories, ignore_index=True),
        settings=first.settings,
        empty_predictor=_mean([r.empty_predictor for r in splits]),
        missing=tuple(_missing(cells, inits)),
    )


def _placed(run: Run, names: Sequence[str]) -> PixelCounts[NDArray[Any]]:
    """Return a run's counts with the places of its images among those of the block."""
    if len(run.image_ids) == len(names):
        return run.counts
    place = {name: k for k, name in enumerate(names)}
    index = np.array([place[name] for name in run.image_ids], np.int64)
    return replace(run.counts, index=index)


def _mean(scores: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Average scores as in `metrics.json` over splits; what is undefined in one is undefined."""

    def mean(values: list[Any]) -> Any:
        if all(isinstance(v, dict) for v in values):
            return _mean(values)
        known = all(isinstance(v, (int, float)) for v in values)
        return float(np.mean(values)) if known else values[0] if values[0] == values[-1] else None

    return (
        scores[0] if len(scores) == 1 else {k: mean([s.get(k) for s in scores]) for k in scores[0]}
    )


def _missing(cells: pd.DataFrame, inits: Sequence[str]) -> Iterator[str]:
    for encoder, own in cells.groupby("encoder", sort=False):
        there = set(own[["init", "frac", "seed"]].itertuples(index=False, name=None))
        used = [init for init in inits if init in set(own["init"])]
        for frac, init, seed in product(own["frac"].unique(), used, sorted(own["seed"].unique())):
            if (init, frac, seed) not in there:
                yield f"{encoder} · {init} · {frac} · seed {seed}"
