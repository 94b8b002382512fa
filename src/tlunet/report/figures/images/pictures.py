"""Test images of two networks: which ones are shown, at which size, and what both predicted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import OmegaConf

from tlunet.data.bits import class_masks
from tlunet.data.pack.pack import Pack
from tlunet.data.readers.pixels import read_image
from tlunet.errors import UserError
from tlunet.report.analysis.resampled import Cell, common_seeds
from tlunet.runs.data import open_data
from tlunet.runs.masks import masks_of, read_masks
from tlunet.runs.names import condition

if TYPE_CHECKING:  # importing this must not import torch
    from tlunet.data.datamodule import DefectDataModule

PERCENTILES = (90, 50, 10)


@dataclass(frozen=True, eq=False)
class Pictures:
    """Test images of two cells with the same seed, and the predictions of both.

    Attributes:
        a: the cell compared, for example with transfer learning.
        b: the cell it is compared with.
        seed: the seed of both.
        pack: the data.
        masks: predictions of a and b, by image and class id, run-length encoded.
        files: the image files, if the pack holds the images at another size.
    """

    a: Cell
    b: Cell
    seed: int
    pack: Pack
    masks: tuple[dict[tuple[str, int], str], dict[tuple[str, int], str]]
    files: Mapping[str, Path] = field(default_factory=dict)

    @cached_property
    def dice(self) -> pd.DataFrame:
        """Dice: columns ``a, b, difference``, indexed by image id; null without a defect."""
        tested = self.a.tested(self.seed)
        scores = {
            n: c.images("dice_image", [self.seed])[0, tested]
            for n, c in (("a", self.a), ("b", self.b))
        }
        ids = pd.Index(self.image_ids, name="image_id")
        return pd.DataFrame(scores, index=ids).assign(difference=scores["a"] - scores["b"])

    @property
    def image_ids(self) -> list[str]:
        """Names of the images that the seed was tested on."""
        return [self.a.block.data.image_ids[k] for k in self.a.tested(self.seed)]

    @property
    def names(self) -> tuple[str, str]:
        """Names of a and b in figures and in the browser."""
        return condition(*self.a.key), condition(*self.b.key)

    @property
    def headings(self) -> tuple[str, str, str]:
        """Short names that distinguish a and b, and what they have in common."""
        a, b = self.a.key._asdict(), self.b.key._asdict()
        differing = [name for name in a if a[name] != b[name]]
        if len(differing) != 1:
            return *self.names, ""
        own = [condition(**{name: key[name] for name in differing}) for key in (a, b)]
        return own[0], own[1], condition(**{n: v for n, v in a.items() if n not in differing})

    @cached_property
    def rows(self) -> dict[str, int]:
        """Row in the pack of each image."""
        return {str(name): k for k, name in enumerate(self.pack.index["image_id"])}

    def region(self, name: str) -> tuple[slice, slice]:
        """Return the rows and columns of an image in the pack, without padding."""
        return self.pack.region(self.rows[name])

    def image(self, name: str) -> NDArray[np.uint8]:
        """Return an image at its own size, (H, W) or (H, W, 3); at the training size without it."""
        if name in self.files:
            try:
                return read_image(self.files[name])
            except UserError:
                pass  # moved since: the pack has it
        return np.asarray(self.pack.images[self.rows[name]][self.region(name)])

    def truth(self, name: str) -> NDArray[np.bool_]:
        """Return the ground truth of an image at the training size, (M, H, W), without padding."""
        bits = np.asarray(self.pack.masks[self.rows[name]][self.region(name)])
        return class_masks(bits, len(self.pack.classes))

    def predicted(self, name: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return what a and b predicted, as :meth:`truth`, (M, H, W) each."""
        M, size, region = len(self.pack.classes), self.pack.size, self.region(name)
        a, b = (masks_of(masks, name, M, size)[:, *region] for masks in self.masks)
        return a, b

    @property
    def chosen(self) -> dict[str, str]:
        """The images of Figure 7, and why; see :func:`chosen`."""
        block = self.a.block
        counts = block.data.counts[block.rows[self.a.key, self.seed]]
        missed = (counts.truth - counts.intersection).sum(1).tolist()
        return chosen(self.dice, dict(zip(self.image_ids, missed, strict=True)))


def open_pictures(study: Path, a: Cell, b: Cell) -> Pictures | str:
    """Open what is needed to show images; return the reason if that is impossible.

    Args:
        study: the study folder.
        a: the cell compared.
        b: the cell it is compared with.
    """
    seeds = common_seeds(a, b)
    if not seeds:
        return f"{a.key} and {b.key} have no common seed"
    folders = [
        study / str(c.block.data.cells["folder"].iloc[c.block.rows[c.key, seeds[0]]])
        for c in (a, b)
    ]
    masks = [read_masks(folder) for folder in folders]
    if masks[0] is None or masks[1] is None:
        return "the runs have no saved masks (created by an earlier version)"
    config = OmegaConf.to_container(OmegaConf.load(folders[0] / "config.yaml"))
    assert isinstance(config, dict)
    root = Path(config["data"]["root"])
    if not root.exists():
        return f"no images in {root}; write the report on the machine that ran the sweep"
    try:
        data = open_data(folders[0])
    except UserError as error:
        return "; ".join(error.lines)
    return Pictures(a, b, seeds[0], data.pack, (masks[0], masks[1]), _files(data))


def _files(data: "DefectDataModule") -> dict[str, Path]:
    """Return the image files of a data set whose pack holds the images at another size."""
    sizes = data.pack.index[["height", "width"]].to_numpy()
    if (sizes == data.pack.size).all():
        return {}
    source = data.dataset.read(data.size, data.progress)
    return {record.image_id: record.image for record in source.records}


def chosen(dice: pd.DataFrame, missed: Mapping[str, int]) -> dict[str, str]:
    """Choose the images of Figure 7 by rule: percentiles of the difference, and the worst miss.

    Args:
        dice: from :attr:`Pictures.dice`.
        missed: defect pixels that a missed, per image.

    Returns:
        Image id → why it was chosen: the 90th, 50th and 10th percentile of the difference (ties
        by name), and among the rest the image in which a missed the most defect pixels.
    """
    order = dice.dropna().reset_index().sort_values(["difference", "image_id"], kind="stable")
    names = order["image_id"].tolist()
    picked: dict[str, str] = {}
    for p in PERCENTILES:
        if names:
            name = names[round(p / 100 * (len(names) - 1))]
            picked.setdefault(name, f"{p}th percentile")
    rest = [name for name in sorted(names) if name not in picked]
    if rest:
        picked[max(rest, key=lambda name: missed.get(name, 0))] = "most pixels missed"
    return picked
