"""Read a finished cell: one run folder, as a report needs it.

Shapes: N test images, M classes.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from omegaconf import OmegaConf
from pyarrow import compute, csv

from tlunet.errors import DataError
from tlunet.machine.files import read_json
from tlunet.model.scores import PixelCounts, from_table
from tlunet.runs.settings import read_settings, spoken

FACTORS = ("encoder", "init", "frac", "seed")
FREE = (*FACTORS, "start", "version")  # what may differ between the cells of a block
RECIPES = {"synthetic": ("n", "size", "epochs", "seed"), "imagenet": ("path",),
           "checkpoint": ("path",), "random": ()}  # fmt: skip

#: Image names are strings: 007 is not a number and NA is not a missing value.
SPLIT = csv.ConvertOptions(
    column_types={"image_id": pa.string(), "subset": pa.string(), "group": pa.int64()},
    include_columns=["image_id", "subset", "group"],
)


@dataclass(frozen=True, eq=False)
class Run:
    """A finished cell.

    Attributes:
        meta: contents of ``meta.json``.
        folder: name of the run folder.
        time: when it was finished.
        protocol: everything that may not differ between the cells of a block, but for the split.
        settings: the same as typed on the command line, with the split.
        recipe: what the starting weights were made from.
        dead_classes: ids of the classes that it does not find.
        empty_predictor: scores of the predictor that never finds a defect.
        image_ids: N names of test images, sorted.
        groups: (N,) numbers of their near-duplicate groups.
        counts: N rows in the order of ``image_ids``.
        history: ``history.csv``.
    """

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
        """Encoder, initialisation, fraction and seed."""
        encoder, init, frac, seed = (self.meta[name] for name in FACTORS)
        return encoder, init, frac, seed

    @property
    def split(self) -> str:
        """Fingerprint of the split."""
        return str(self.meta["split_fingerprint"])


def read_run(folder: Path, meta: dict[str, Any], time: str) -> Run:
    """Read the run folder of a finished cell.

    Args:
        folder: the run folder.
        meta: contents of its ``meta.json``.
        time: when it was finished.

    Raises:
        DataError: the test images are not those of the split. Other kinds of damage raise what
            the reading library raises.
    """
    counts, ids = _counts(folder / "test_images.parquet")
    groups = _groups(folder / "split.csv", ids)
    config = OmegaConf.load(folder / "config.yaml")
    metrics = read_json(folder / "metrics.json")
    machine = {"precision": meta["precision"], "device": meta["accelerator"]}
    fixed = {k: v for k, v in meta["science"].items() if k not in (*FREE, "split")}
    return Run(
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
