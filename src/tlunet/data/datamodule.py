"""The LightningDataModule: it owns split, subsampling, pack and loaders."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from tlunet.data.augment import Augment, flip
from tlunet.data.batches import Batches, EpochOrder, unpack_bits
from tlunet.data.pack.pack import Progress, open_pack
from tlunet.data.readers.layouts import LAYOUTS, NAMES
from tlunet.data.residency import Resident, bring, fits, make_way
from tlunet.data.source import Source
from tlunet.data.split import make_split
from tlunet.data.synthetic.generate import VERSION, generate, is_drawn, read
from tlunet.errors import ConfigError, DataError

SYNTHETIC_SIZE = (32, 64)  # the whole grid in minutes on 2 cores
READERS, DRAWERS = 4, 16  # processes at most that read a pack, or augment, ahead of a GPU


class DefectDataModule(pl.LightningDataModule):
    """Images, masks and labels in three parts, 75 / 12.5 / 12.5 (paper III-B).

    A batch is a dict: ``image`` uint8 (B, 1 or 3, H, W), ``mask`` bool (B, M, H, W), ``label``
    bool (B, M), ``id`` the images' names, ``index`` int64 (B,) their rows in the pack. Labels are
    those of the native masks: an image keeps the label of a class whose mask vanishes when it is
    resized, and loses it only where ``augment.transform`` moves the defect out of the picture.
    Where several processes share the data a batch may also have ``count``, how many of its images
    count, and ``weight`` of its loss.

    Args:
        name: ``severstal``, ``synthetic``, ``folder``, ``neu_seg``, or ``auto``: Severstal if it
            is in ``<cache>/severstal``, else the synthetic strips.
        root: where the data lie; ``<cache>/<name>`` by default.
        cache: folder for packs and synthetic strips.
        frac: share of the training part that is used, in (0, 1].
        batch_size: images a step of training.
        eval_batch_size: images a step of validation and test; by default the same.
        seed: of the order and the flips.
        split: ``random``, or ``official`` for the data set's own test part.
        split_seed: of the random split; ``frac`` and ``seed`` do not enter.
        subset: ``all`` images, or only the ``defective`` ones, by the native masks.
        size: (height, width) of all images; ``None`` keeps their own.
        residency: where the pack lies while training: ``memmap``, ``gpu``, or ``auto`` (on the
            GPU if it takes less than half of its free memory, and :attr:`reserved` is left).
        on_error: ``stop`` at faults of the data, or ``skip`` the images that have one.
        augment: of the training images; by default none.
        workers: processes that prepare batches; by default none on a CPU, where they would only
            take cores from the network, and none if the pack lives on the GPU.
        classes: for ``folder``: names of the class ids 1…M.
        n: for ``synthetic``: number of strips.
        strip_seed: for ``synthetic``: seed of the strips.
        balance: for ``synthetic``: ``even`` or ``severstal``, the real data's shares.
        family: for ``synthetic``: ``strips``, or ``sheets`` (for pre-training).
        progress: told how far drawing and packing are.

    Attributes:
        reserved: bytes of the GPU that training takes beside the pack; 0 where nobody says so.

    Raises:
        ConfigError: a value that is not allowed.
        DataError: from ``prepare_data``: faults of the data.

    Example:
        >>> import tempfile
        >>> data = DefectDataModule("synthetic", cache=tempfile.mkdtemp(), n=32, frac=0.5)
        >>> data.prepare_data(); data.setup()
        >>> for batch in data.batches("val"):
        ...     print(batch["image"].shape, batch["label"].shape)
        torch.Size([4, 1, 32, 64]) torch.Size([4, 4])
    """

    def __init__(
        self,
        name: str = "auto",
        root: str | Path | None = None,
        cache: str | Path = "data",
        *,
        frac: float = 1.0,
        batch_size: int = 16,
        eval_batch_size: int | None = None,
        seed: int = 0,
        split: str = "random",
        split_seed: int = 0,
        subset: str = "all",
        size: Sequence[int] | None = None,
        residency: str = "auto",
        on_error: str = "stop",
        augment: Augment | None = None,
        workers: int | None = None,
        classes: Sequence[str] = (),
        n: int = 256,
        strip_seed: int = 0,
        balance: str = "even",
        family: str = "strips",
        progress: Progress | None = None,
    ) -> None:
        super().__init__()
        self.cache = Path(cache)
        self.dataset = resolve_name(name, self.cache)
        self.root = Path(root) if root else self.cache / self.dataset
        if self.dataset == "severstal" and is_drawn(self.root):
            self.dataset = "synthetic"  # tlunet data synth: no result of it may pass for steel's
        self.frac, self.batch_size, self.seed = frac, batch_size, seed
        self.eval_batch_size = eval_batch_size or batch_size
        self.split_kind, self.split_seed, self.subset = split, split_seed, subset
        self.size = (int(size[0]), int(size[1])) if size else None
        self.residency, self.on_error, self.workers = residency, on_error, workers
        self.augment = augment or Augment(0, 0)
        self.classes = tuple(classes)
        self.n, self.strip_seed, self.balance, self.family = n, strip_seed, balance, family
        self.progress = progress
        self.reserved = 0
        self._resident: Resident | None = None

    def prepare_data(self) -> None:
        """Draw the strips if they are synthetic, list the files, and open or build the pack."""
        if hasattr(self, "pack"):
            return  # a trainer asks again before each fit and test
        self.pack = open_pack(
            self._source(),
            self.cache / "packs",
            size=self.size,
            on_error=self.on_error,
            progress=self.progress,
        )

    def setup(self, stage: str | None = None) -> None:
        """Split; ``self.split`` is the table, ``self.rows`` the pack's rows of each subset."""
        if hasattr(self, "split"):
            return
        index, labels = self.pack.index, self.pack.labels
        chosen = np.arange(len(index))
        if self.subset == "defective":
            chosen = np.flatnonzero(labels.any(1))
        index = index.iloc[chosen]
        official = index["part"].tolist() if self.split_kind == "official" else None
        try:
            self.split = make_split(
                index["image_id"].tolist(),
                labels[chosen],
                frac=self.frac,
                seed=self.split_seed,
                groups=index["group"].to_numpy(),
                official=official,
            )
        except ValueError as error:
            raise DataError(f"{self.root}: {error}") from error
        self.rows = {
            subset: chosen[(self.split["subset"] == subset).to_numpy()]
            for subset in ("train", "unused", "val", "test")
        }
        # No labels in it, so it is taken over the whole training part: the same for every frac.
        # Images set aside because they nearly duplicate a test image are no part of it.
        groups = self.split["group"]
        tested = groups[self.split["subset"] == "test"]
        training = self.split["subset"].isin(["train", "unused"]) & ~groups.isin(tested)
        self.mean, self.std = self.pack.mean_std(chosen[training.to_numpy()])

    def _source(self) -> Source:
        if self.dataset == "synthetic":
            return self._synthetic()
        if self.dataset not in LAYOUTS:
            raise ConfigError(f"data={self.dataset}: allowed are {', '.join(NAMES)}")
        return LAYOUTS[self.dataset].read(self.root, self.classes)

    def _synthetic(self) -> Source:
        if is_drawn(self.root):
            return read(self.root)
        height, width = self.size or SYNTHETIC_SIZE
        what = f"{self.family}-{self.n}-{height}x{width}-{self.balance}-s{self.strip_seed}"
        home = self.cache / "synthetic" / f"{what}-v{VERSION}"
        if not home.exists():
            report = self.progress
            try:
                generate(
                    home,
                    n=self.n,
                    size=(height, width),
                    seed=self.strip_seed,
                    balance=self.balance,
                    family=self.family,
                    progress=(lambda d: report("drawing strips", d, self.n)) if report else None,
                )
            except ValueError as error:
                raise ConfigError(f"data=synthetic: {error}") from None
        return read(home, self.family)

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled by (seed, epoch), flips drawn."""
        return self._loader("train", train=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """In the pack's order."""
        return self._loader("val", train=False)

    def test_dataloader(self) -> DataLoader[Any]:
        """In the pack's order."""
        return self._loader("test", train=False)

    def batches(self, subset: str, epoch: int = 0) -> Iterator[dict[str, Any]]:
        """The batches of one epoch as a trainer sees them, without one.

        Args:
            subset: ``train``, ``val`` or ``test``.
            epoch: of the order and the flips of ``train``.
        """
        loader = self._loader(subset, train=subset == "train")
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for batch in loader:
            yield self.on_after_batch_transfer(batch, 0)

    def _loader(self, subset: str, train: bool) -> DataLoader[Any]:
        augment = self.augment if train else None
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if self._resident is None:
            if self.lives_on(device):
                self._resident = bring(self.pack, device)
            else:
                make_way()
        batch_size = self.batch_size if train else self.eval_batch_size
        workers = self._workers(device, augment)
        return DataLoader(
            Batches(self.pack, self.seed, augment, fetch=self._resident is None),
            sampler=EpochOrder(
                self.rows[subset],
                batch_size,
                self.seed,
                shuffle=train,
                start=self._behind() if train else (0, 0),
                share=self._share(),
                loss_size=self.batch_size,
            ),
            batch_size=None,  # the sampler hands out whole batches
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
        )

    def _share(self) -> tuple[int, int]:
        """(rank, number) of the processes that a trainer runs."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _behind(self) -> tuple[int, int]:
        """(epoch, batches of it) that a resumed trainer has behind it."""
        if self.trainer is None:
            return 0, 0
        loop = self.trainer.fit_loop
        epochs: Any = loop.epoch_progress.current  # its type knows but half of its counts
        is_within = epochs.started > epochs.processed
        return epochs.processed, loop.epoch_loop.batch_progress.current.ready if is_within else 0

    def lives_on(self, device: torch.device) -> bool:
        """Whether the whole pack lies on the device while training; else it is memory-mapped.

        Raises:
            ConfigError: ``residency`` is ``gpu`` and that is not possible.
        """
        why = None
        if device.type == "cpu":
            why = "there is no GPU"
        elif self.augment.transform:
            why = "augment.transform runs on the CPU"
        if self.residency == "gpu" and why:
            raise ConfigError(f"data.residency=gpu: {why} here; take memmap or auto")
        if self.residency == "memmap" or why:
            return False
        return self.residency == "gpu" or fits(self.pack, device, self.reserved)

    def _workers(self, device: torch.device, augment: Augment | None) -> int:
        if self.workers is not None:
            return self.workers
        if device.type == "cpu" or self._resident is not None:
            return 0
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return min(cores or 1, DRAWERS if augment and augment.transform else READERS)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """On the device: gather if the pack is stored there, flip, unpack the bits."""
        if "image" in batch:
            image, bits = batch["image"], batch["bits"]
        else:
            assert self._resident is not None
            image, bits = (part[batch["index"]] for part in self._resident)  # gathered here
        if "flip" in batch:
            image, bits = flip(image, batch["flip"]), flip(bits, batch["flip"])
        mask = unpack_bits(bits, len(self.pack.classes))  # (B, M, H, W)
        kept = {k: v for k, v in batch.items() if k not in ("bits", "flip")}
        return kept | {"image": image, "mask": mask}


def resolve_name(name: str, cache: Path) -> str:
    """``auto`` becomes ``severstal`` if that is in ``<cache>/severstal``, else ``synthetic``."""
    if name != "auto":
        return name
    return "severstal" if (cache / "severstal" / "train.csv").is_file() else "synthetic"
