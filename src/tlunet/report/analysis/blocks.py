"""Collect a study's finished cells in comparable blocks: one data set, split and protocol each.

Within a block only encoder, initialisation, fraction and seed vary. Cells of different blocks are
never averaged; two blocks on the same split are compared cell by cell.

Shapes: K cells in a block, N test images, M classes.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pyarrow import ArrowException, compute, csv
from yaml import YAMLError

from tlunet.errors import DataError
from tlunet.machine.files import read_json
from tlunet.model.scores import PixelCounts, from_table
from tlunet.runs.settings import read_settings, spoken, what_differs

FACTORS = ("encoder", "init", "frac", "seed")
FREE = (*FACTORS, "start", "version")  # what may differ between the cells of a block
FIRST = ("resnet", "densenet", "random")  # as in the paper; others follow by name
RECIPES = {"synthetic": ("n", "size", "epochs", "seed"), "imagenet": ("path",),
           "checkpoint": ("path",), "random": ()}  # fmt: skip


#: Image names are strings: 007 is not a number and NA is not a missing value.
SPLIT = csv.ConvertOptions(
    column_types={"image_id": pa.string(), "subset": pa.string(), "group": pa.int64()},
    include_columns=["image_id", "subset", "group"],
)

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
        split: fingerprint of the split.
        threshold: probability threshold for pixels and labels.
        classes: M names.
        image_ids: N names of test images, sorted.
        groups: (N,) numbers of the near-duplicate groups, from 0.
        cells: K rows in display order: the factors, ``folder``, ``finished`` (when),
            ``dead_classes``, ``recipe`` (of the starting weights) and the contents of
            ``meta.json``.
        counts: one per cell, rows in the order of ``image_ids``.
        history: the cells' ``history.csv``, with the factors.
        settings: the protocol, as typed on the command line.
        missing: cells without a finished run in each encoder's own grid of initialisations ×
            fractions × seeds. An encoder that serves as a baseline may have a smaller grid.
        empty_predictor: scores of the predictor that never finds a defect, as in `metrics.json`.
    """

    title: str
    dataset: str
    split: str
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


@dataclass(frozen=True)
class Study:
    """Contents of a study folder.

    Attributes:
        folder: the study folder.
        blocks: the finished cells.
        unfinished: the other cells: (title, state, error).
        faults: unreadable run folders and ignored cells, with the reason.
    """

    folder: Path
    blocks: tuple[Block, ...]
    unfinished: tuple[tuple[str, str, str], ...]
    faults: tuple[str, ...]


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
    runs, unfinished, faults = [], [], []
    for status in sorted(folder.glob("*/status.json")):
        run = status.parent
        try:
            state, meta = read_json(status), read_json(run / "meta.json")
            if state["state"] == "finished":
                runs.append(_read(run, meta, state["time"]))
            else:
                title = "{} · {} · {} · seed {}".format(*(meta.get(f, "?") for f in FACTORS))
                unfinished.append((title, state["state"], state.get("error") or ""))
        except UNREADABLE as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            faults.append(f"{run.name}: cannot be read ({reason}); run it again with force=true")
    if not runs and not unfinished and not faults:
        raise DataError(f"{folder}: no run folder in it; expected a study, such as runs/synthetic")
    protocols: dict[str, list[_Run]] = {}
    for run_ in runs:
        protocols.setdefault(run_.protocol, []).append(run_)
    words = what_differs([members[0].settings for members in protocols.values()])
    titles = [
        " · ".join([members[0].meta["dataset"], *own])
        for members, own in zip(protocols.values(), words, strict=True)
    ]
    blocks = []
    for (protocol, members), title in zip(protocols.items(), titles, strict=True):
        if titles.count(title) > 1:  # they differ in something without a short name
            title += f" · protocol {hashlib.sha256(protocol.encode()).hexdigest()[:8]}"
        kept, left_out = _one_a_cell(_label_inits(members))
        faults += left_out
        blocks.append(_block(kept, title))
    blocks.sort(key=lambda block: block.title)
    return Study(folder, tuple(blocks), tuple(unfinished), tuple(faults))


@dataclass(frozen=True, eq=False)
class _Run:
    meta: dict[str, Any]
    folder: str
    time: str
    protocol: str
    settings: dict[str, str]
    recipe: dict[str, str]
    dead_classes: list[int]
    empty_predictor: dict[str, Any]
    image_ids: tuple[str, ...]
    groups: NDArray[np.int64]
    counts: PixelCounts[NDArray[Any]]
    history: pd.DataFrame

    @property
    def cell(self) -> tuple[str, str, float, int]:
        return (*Key(self.meta["encoder"], self.meta["init"], self.meta["frac"]), self.meta["seed"])


def _read(folder: Path, meta: dict[str, Any], time: str) -> _Run:
    counts, ids = _counts(folder / "test_images.parquet")
    groups = _groups(folder / "split.csv", ids)
    config = OmegaConf.load(folder / "config.yaml")
    metrics = read_json(folder / "metrics.json")
    machine = {"precision": meta["precision"], "device": meta["accelerator"]}
    fixed = {k: v for k, v in meta["science"].items() if k not in FREE}
    return _Run(
        meta=meta,
        folder=folder.name,
        time=time,
        protocol=json.dumps([meta["dataset"], fixed], sort_keys=True),
        settings=read_settings(config) | machine,
        recipe={k: spoken(config.init[k]) for k in RECIPES.get(meta["init"], ())},
        dead_classes=metrics["dead_classes"],
        empty_predictor=metrics["empty_predictor"],
        image_ids=tuple(ids),
        groups=groups,
        counts=counts,
        history=pd.read_csv(folder / "history.csv"),
    )


def _counts(file: Path) -> tuple[PixelCounts[NDArray[Any]], list[str]]:
    """Read a cell's counts and the names of its images, both sorted by name."""
    # Names repeat for every class: as a dictionary each is read only once.
    table = pd.read_parquet(file, read_dictionary=["image_id", "class_name"])
    counts, ids = from_table(table), table["image_id"].unique().tolist()
    order = np.asarray(sorted(range(len(ids)), key=ids.__getitem__), np.int64)
    rows = {name: values[order] for name, values in vars(counts).items() if name != "index"}
    return PixelCounts(index=np.arange(len(ids)), **rows), [ids[k] for k in order]


def _groups(file: Path, ids: list[str]) -> NDArray[np.int64]:
    """Read the near-duplicate group of each test image, and check that the images match."""
    split = csv.read_csv(file, convert_options=SPLIT)
    test = split.filter(compute.equal(split["subset"], "test"))
    place = compute.index_in(pa.array(ids, pa.string()), value_set=test["image_id"])
    if place.null_count or len(compute.unique(test["image_id"])) != len(ids):
        raise DataError("the images of test_images.parquet are not the test set of split.csv")
    return test["group"].take(place).to_numpy()


def _label_inits(runs: Sequence[_Run]) -> list[_Run]:
    """Add the recipe to the name of an initialisation if a block has several under one name."""
    for init in {run.meta["init"] for run in runs}:
        namesakes = [run for run in runs if run.meta["init"] == init]
        differing = what_differs([run.recipe for run in namesakes])
        for run, words in zip(namesakes, differing, strict=True):
            run.meta["init"] = " ".join([init, *words])
    return list(runs)


def _one_a_cell(runs: Sequence[_Run]) -> tuple[list[_Run], list[str]]:
    """Keep the newest run of each cell (starting weights may differ); report the others."""
    newest: dict[tuple[Any, ...], _Run] = {}
    left_out = []
    for run in sorted(runs, key=lambda run: (run.time, run.folder)):
        if run.cell in newest:
            left_out.append(
                f"{newest[run.cell].folder}: the same cell as {run.folder} with other starting "
                "weights; the newer one is shown"
            )
        newest[run.cell] = run
    return list(newest.values()), left_out


def _block(runs: Sequence[_Run], title: str) -> Block:
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
            "recipe": ", ".join(f"{k}={v}" for k, v in r.recipe.items() if v != "None"),
        }
        for r in runs
    ]
    cells = pd.DataFrame([r.meta | more for r, more in zip(runs, own, strict=True)])
    histories = [
        r.history.assign(encoder=r.cell[0], init=r.cell[1], frac=r.cell[2], seed=r.cell[3])
        for r in runs
    ]
    groups = np.unique(first.groups, return_inverse=True)[1]
    return Block(
        title=title,
        dataset=first.meta["dataset"],
        split=first.meta["split_fingerprint"],
        threshold=float(first.meta["threshold"]),
        classes=tuple(first.meta["classes"]),
        image_ids=first.image_ids,
        groups=groups.astype(np.int64),
        cells=cells,
        counts=tuple(r.counts for r in runs),
        history=pd.concat(histories, ignore_index=True),
        settings=first.settings,
        empty_predictor=first.empty_predictor,
        missing=tuple(_missing(cells, inits)),
    )


def _missing(cells: pd.DataFrame, inits: Sequence[str]) -> Iterator[str]:
    for encoder, own in cells.groupby("encoder", sort=False):
        there = set(own[["init", "frac", "seed"]].itertuples(index=False, name=None))
        used = [init for init in inits if init in set(own["init"])]
        for frac, init, seed in product(own["frac"].unique(), used, sorted(own["seed"].unique())):
            if (init, frac, seed) not in there:
                yield f"{encoder} · {init} · {frac} · seed {seed}"
