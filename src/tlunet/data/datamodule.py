"""The LightningDataModule: split, subsampling, pack and loaders."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tlunet.data.augment import Augment, flip
from tlunet.data.batches import Batches, EpochOrder, padding_of, unpack_bits
from tlunet.data.dataset import DataSet, Strips
from tlunet.data.fit import check_fit
from tlunet.data.grouping.groups import check_grouping, group_images, split_error
from tlunet.data.pack.pack import open_pack
from tlunet.data.residency import Resident, fits, make_room, to_device
from tlunet.data.sampling.copy_paste import CopyPaste
from tlunet.data.sampling.images import balanced_weights
from tlunet.data.sampling.rest import BothOrders, RestStream
from tlunet.data.split import make_split
from tlunet.errors import ConfigError
from tlunet.machine.console import Progress
from tlunet.machine.parallel import cores

READERS, DRAWERS = 4, 16  # most processes that read a pack, or augment images, ahead of a GPU


class DefectDataModule(pl.LightningDataModule):
    """Images, masks and labels, split 75 / 12.5 / 12.5 (paper III-B).

    A batch is a dict: ``image`` uint8 (B, 1 or 3, H, W), ``mask`` bool (B, M, H, W), ``label``
    bool (B, M), ``id`` the images' names, ``index`` int64 (B,) their rows in the pack. Labels
    come from the native masks: an image keeps the label of a class whose mask vanishes when it is
    resized, and loses it only if ``augment.transform`` moves the defect out of the image. If
    several processes share the data, a batch may also have ``count``, the number of its images
    that count, and ``weight``, the weight of its loss. If images are padded, it has ``padding``,
    bool (B, 1, H, W), the pixels that are not part of the image. With ``rest_batch_size`` a
    training batch has ``rest``, a dict of the same kind of images that ``frac`` leaves out: without
    ``id`` and ``mask``, with ``label`` only if ``rest_labels``.

    Args:
        dataset: the images, :class:`~tlunet.data.dataset.OnDisk` or
            :class:`~tlunet.data.dataset.Strips`; by default 256 synthetic strips.
        cache: folder for packs.
        frac: fraction of the training set to use, in (0, 1].
        batch_size: images per training step.
        eval_batch_size: images per validation or test step; by default the same.
        seed: of the order and the flips.
        split: ``random``, or ``official`` for the data set's own test set.
        split_seed: of the random split, which does not depend on ``frac`` and ``seed``.
        duplicates: ``group``: near-duplicates stay on one side of the split; ``ignore``: they need
            not, for parts under a fixed camera.
        groups: which other images stay on one side: a regular expression with one group, searched
            in each image's path, or the name of a ``.csv`` with the columns ``image,group``.
        subset: ``all`` images, or only the ``defective`` ones, by the native masks.
        size: (height, width) of all images; ``None`` keeps their own.
        fit: ``stretch`` images of other proportions to ``size``, or scale and ``pad`` them.
        residency: where the pack is kept while training: ``memmap``, ``gpu``, or ``auto`` (on the
            GPU if it needs less than half of its free memory and leaves :attr:`reserved`).
        on_error: ``stop`` at problems of the data, or ``skip`` the images concerned.
        augment: applied to training images; by default nothing.
        sampling: ``uniform``: each training image once per epoch; ``balanced``: as many draws, in
            which images of rare classes are more frequent.
        rest_batch_size: images per training step from those that ``frac`` leaves out, beside the
            labelled ones; 0: none. Their masks are never read.
        rest_labels: whether these come with their labels, which are otherwise never read either.
        workers: processes that prepare batches; by default none on a CPU, where they would take
            cores from the network, and none if the pack is on the GPU.
        progress: called with the progress of drawing and packing.

    Attributes:
        rest_rows: rows of the pack that ``frac`` leaves out, after ``setup``, without
            near-duplicates of test images.
        near: near-duplicate group of each row of ``split``, after ``setup``.
        reserved: bytes of GPU memory that training needs in addition to the pack; 0 if unknown.
        repeat: how often the training images are repeated within an epoch.
        mask_format: memory format of the masks; the loss is faster if it is that of the logits.

    Raises:
        ConfigError: a value is not allowed.
        DataError: from ``prepare_data``: problems of the data.

    Example:
        >>> import tempfile
        >>> cache = Path(tempfile.mkdtemp())
        >>> data = DefectDataModule(Strips(cache / "synthetic", n=32), cache, frac=0.5)
        >>> data.prepare_data(); data.setup()
        >>> for batch in data.batches("val"):
        ...     print(batch["image"].shape, batch["label"].shape)
        torch.Size([4, 1, 32, 64]) torch.Size([4, 4])
    """

    def __init__(
        self,
        dataset: DataSet | None = None,
        cache: str | Path = "data",
        *,
        frac: float = 1.0,
        batch_size: int = 16,
        eval_batch_size: int | None = None,
        seed: int = 0,
        split: str = "random",
        split_seed: int = 0,
        duplicates: str = "group",
        groups: str | None = None,
        subset: str = "all",
        size: Sequence[int] | None = None,
        fit: str = "stretch",
        residency: str = "auto",
        on_error: str = "stop",
        augment: Augment | None = None,
        sampling: str = "uniform",
        rest_batch_size: int = 0,
        rest_labels: bool = False,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__()
        self.cache = Path(cache)
        self.dataset = dataset or Strips(self.cache / "synthetic")
        self.frac, self.batch_size, self.seed = frac, batch_size, seed
        self.eval_batch_size = eval_batch_size or batch_size
        self.split_kind, self.split_seed, self.subset = split, split_seed, subset
        self.size = (int(size[0]), int(size[1])) if size else None
        check_fit(fit)
        check_grouping(duplicates, groups)
        self.duplicates, self.groups = duplicates, groups
        self.fit = fit
        self.residency, self.on_error, self.workers = residency, on_error, workers
        self.augment = augment or Augment(0, 0)
        self.rest_batch_size, self.rest_labels = rest_batch_size, rest_labels
        self.sampling, self.repeat = sampling, 1
        self.progress = progress
        self.reserved = 0
        self.mask_format = torch.contiguous_format
        self._resident: Resident | None = None

    def prepare_data(self) -> None:
        """Draw the strips if they are synthetic, list the files, and open or build the pack.

        Safe in several processes at once: one builds, the others wait. Nothing is done twice.
        """
        if hasattr(self, "pack"):
            return
        self.pack = open_pack(
            self.dataset.read(self.size, self.progress),
            self.cache / "packs",
            size=self.size,
            fit=self.fit,
            on_error=self.on_error,
            progress=self.progress,
        )

    def setup(self, stage: str | None = None) -> None:
        """Split; ``self.split`` is the table, ``self.rows`` the pack's rows of each subset."""
        self.prepare_data()  # a trainer calls it in one process per machine; each needs the pack
        if hasattr(self, "split"):
            return
        chosen = np.arange(len(self.pack))
        if self.subset == "defective":
            chosen = np.flatnonzero(self.pack.labels.any(1))
        self.near = self.pack.index["group"].to_numpy()[chosen]
        self.split = self._make_split(chosen)
        self.rows = {
            subset: chosen[(self.split["subset"] == subset).to_numpy()]
            for subset in ("train", "unused", "val", "test")
        }
        # Uses no labels, so it covers the whole training set, whatever frac. Images set aside as
        # near-duplicates of a test image are excluded.
        groups = self.split["group"]
        tested = groups[self.split["subset"] == "test"]
        training = self.split["subset"].isin(["train", "unused"]) & ~groups.isin(tested)
        self.mean, self.std = self.pack.mean_std(chosen[training.to_numpy()])
        rest = training & (self.split["subset"] == "unused")
        self.rest_rows = chosen[rest.to_numpy()]
        if self.rest_batch_size and not len(self.rest_rows):
            raise ConfigError(
                f"frac={self.frac}: no training image is left out for rest to learn from; use a "
                "smaller frac, or rest=none"
            )

    def _make_split(self, chosen: np.ndarray) -> pd.DataFrame:
        index = self.pack.index
        names = index["image_id"].tolist()
        # Of all images: two chosen ones may belong together because of one that is left out.
        groups = group_images(names, index["group"], duplicates=self.duplicates, rule=self.groups)
        index, groups = index.iloc[chosen], groups[chosen]
        names = index["image_id"].tolist()
        try:
            return make_split(
                names,
                self.pack.labels[chosen],
                frac=self.frac,
                seed=self.split_seed,
                groups=groups,
                official=index["part"].tolist() if self.split_kind == "official" else None,
            )
        except ValueError as error:
            raise split_error(self.dataset.root, error, names, groups, self.near) from error

    def train_dataloader(self) -> DataLoader[Any]:
        """Training batches, shuffled and flipped by (seed, epoch)."""
        return self._loader("train", train=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Validation batches, in the order of the pack."""
        return self._loader("val", train=False)

    def test_dataloader(self) -> DataLoader[Any]:
        """Test batches, in the order of the pack."""
        return self._loader("test", train=False)

    def batches(self, subset: str, epoch: int = 0) -> Iterator[dict[str, Any]]:
        """Iterate over one epoch's batches as a trainer gets them, without a trainer.

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
        if augment:
            augment.learn_from(self.pack, self.rows["train"])
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if self._resident is None:
            if self.lives_on(device):
                self._resident = to_device(self.pack, device, self.reserved)
            else:
                make_room(device, self.reserved)
        batch_size = self.batch_size if train else self.eval_batch_size
        workers = self._workers(device, augment)
        return DataLoader(
            Batches(
                self.pack, self.seed, augment, self._resident is None, rest_labels=self.rest_labels
            ),
            sampler=self.training_order(self._behind(), self._share())
            if train
            else EpochOrder(
                self.rows[subset],
                batch_size,
                self.seed,
                shuffle=False,
                share=self._share(),
                loss_size=self.batch_size,
            ),
            batch_size=None,  # the sampler yields whole batches
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
        )

    def training_order(
        self, start: tuple[int, int] = (0, 0), share: tuple[int, int] = (0, 1)
    ) -> EpochOrder:
        """Return the sampler of the training batches; its length is the steps of an epoch.

        Args:
            start: (epoch, batches) that a resumed run has already done.
            share: (rank, number of processes).
        """
        rows = self.rows["train"]
        is_balanced = self.sampling == "balanced"
        order: dict[str, Any] = {
            "rows": rows,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "shuffle": True,
            "start": start,
            "share": share,
            "repeat": self.repeat,
            "weights": balanced_weights(self.pack.labels[rows]) if is_balanced else None,
        }
        if not self.rest_batch_size:
            return EpochOrder(**order)
        return BothOrders(RestStream(self.rest_rows, self.rest_batch_size, self.seed), **order)

    @property
    def images_per_epoch(self) -> int:
        """Training images drawn per epoch; an image counts as often as it is drawn."""
        return self.repeat * len(self.rows["train"])

    def repeat_for(self, steps: int | None, epochs: int) -> None:
        """Repeat the images within an epoch as often as some number of steps in all needs.

        Args:
            steps: optimiser steps of all epochs, at least; ``None``: an epoch is one pass.
            epochs: number of epochs.
        """
        images = epochs * len(self.rows["train"])
        self.repeat = max(1, -(-(steps or 1) * self.batch_size // max(images, 1)) - 1)
        while images and steps and epochs * len(self.training_order()) < steps:
            self.repeat += 1

    @property
    def train_size(self) -> tuple[int, int]:
        """(height, width) of a training image: of the crop, if there is one."""
        return self.augment.crop or self.pack.size

    def _share(self) -> tuple[int, int]:
        """(rank, number of processes) of the trainer."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _behind(self) -> tuple[int, int]:
        """(epoch, batches of it) that a resumed trainer has already done."""
        if self.trainer is None:
            return 0, 0
        loop = self.trainer.fit_loop
        epochs: Any = loop.epoch_progress.current  # its type lacks half of its counts
        is_within = epochs.started > epochs.processed
        return epochs.processed, loop.epoch_loop.batch_progress.current.ready if is_within else 0

    def lives_on(self, device: torch.device) -> bool:
        """Whether the pack is kept on the device while training; else it is memory-mapped.

        Raises:
            ConfigError: ``residency`` is ``gpu`` and that is not possible.
        """
        why = None
        if device.type == "cpu":
            why = "there is no GPU"
        elif self.augment.is_on_cpu:
            name = "transform" if self.augment.transform else "crop"
            why = f"augment.{name} runs on the CPU"
            if isinstance(self.augment, CopyPaste):
                why = "augment=copy_paste runs on the CPU"
        if self.residency == "gpu" and why:
            raise ConfigError(f"data.residency=gpu: {why} here; use memmap or auto")
        if self.residency == "memmap" or why:
            return False
        return self.residency == "gpu" or fits(self.pack, device, self.reserved)

    def _workers(self, device: torch.device, augment: Augment | None) -> int:
        if self.workers is not None:
            return self.workers
        if device.type == "cpu" or self._resident is not None:
            return 0
        return min(cores(), DRAWERS if augment and augment.is_on_cpu else READERS)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """On the device: gather if the pack is there, flip, unpack the bits."""
        images, masks = self._resident or (None, None)
        image = batch["image"] if images is None else images[batch["index"]]
        bits = batch["bits"] if masks is None else masks[batch["index"]]
        parts = self._viewed(batch, {"image": image, "bits": bits})
        mask = unpack_bits(parts.pop("bits"), len(self.pack.classes), self.mask_format)
        kept = {k: v for k, v in batch.items() if k not in ("bits", "flip", "content", "rest")}
        if "rest" in batch:  # no mask is gathered here
            rest = batch["rest"]
            seen = self._viewed(
                rest, {"image": rest["image"] if images is None else images[rest["index"]]}
            )
            kept["rest"] = {k: v for k, v in rest.items() if k not in ("flip", "content")} | seen
        return kept | parts | {"mask": mask}  # (B, M, H, W)

    def _viewed(self, batch: dict[str, Any], parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """Mark the padding, and flip it and the other parts as drawn."""
        if "content" in batch:
            size = (parts["image"].shape[-2], parts["image"].shape[-1])
            parts = parts | {"padding": padding_of(batch["content"], size)}
        if "flip" not in batch:
            return parts
        return {name: flip(part, batch["flip"]) for name, part in parts.items()}
