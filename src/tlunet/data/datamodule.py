"""The LightningDataModule: it owns split, subsampling, pack and loaders."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from tlunet.data import folder, severstal, synthetic
from tlunet.data.augment import Augment, flip
from tlunet.data.pack import Pack, Progress, open_pack
from tlunet.data.source import Source
from tlunet.data.split import make_split
from tlunet.errors import ConfigError, DataError

NAMES = ("auto", "severstal", "synthetic", "folder", "neu_seg")
SYNTHETIC_SIZE = (32, 64)  # the whole grid in minutes on 2 cores
_ORDER = 0  # stream of random numbers, beside those of tlunet.data.augment


class DefectDataModule(pl.LightningDataModule):
    """Images, masks and labels in three parts, 75 / 12.5 / 12.5 (paper §III-B).

    A batch is a dict: ``image`` uint8 (B, 1 or 3, H, W), ``mask`` bool (B, M, H, W), ``label``
    bool (B, M), ``id`` the images' names, ``index`` int64 (B,) their rows in the pack.

    Args:
        name: ``severstal``, ``synthetic``, ``folder``, ``neu_seg``, or ``auto``: Severstal if it
            is in ``<cache>/severstal``, else the synthetic strips.
        root: where the data lie; ``<cache>/<name>`` by default.
        cache: folder for packs and synthetic strips.
        frac: share of the training part that is used, in (0, 1].
        batch_size: images a step.
        seed: of the order and the flips.
        split: ``random``, or ``official`` for the data set's own test part.
        split_seed: of the random split; ``frac`` and ``seed`` do not enter.
        subset: ``all`` images, or those with a ``defective`` region only.
        size: (height, width) of all images; ``None`` keeps their own.
        residency: where the pack lies while training: ``memmap``, ``gpu``, or ``auto`` (on the
            GPU if it takes less than half of its free memory).
        on_error: ``stop`` at faults of the data, or ``skip`` the images that have one.
        augment: of the training images; by default none.
        workers: processes that run ``augment.transform``; nothing else needs one.
        classes: for ``folder``: names of the class ids 1…M.
        n: for ``synthetic``: number of strips.
        strip_seed: for ``synthetic``: seed of the strips.
        balance: for ``synthetic``: ``even`` or ``severstal``, the real data's shares.
        family: for ``synthetic``: ``strips``, or ``sheets`` (for pre-training).
        progress: told how far drawing and packing are.

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
        seed: int = 0,
        split: str = "random",
        split_seed: int = 0,
        subset: str = "all",
        size: Sequence[int] | None = None,
        residency: str = "auto",
        on_error: str = "stop",
        augment: Augment | None = None,
        workers: int = 0,
        classes: Sequence[str] = (),
        n: int = 352,
        strip_seed: int = 0,
        balance: str = "even",
        family: str = "strips",
        progress: Progress | None = None,
    ) -> None:
        super().__init__()
        self.cache = Path(cache)
        self.dataset = resolve_name(name, self.cache)
        self.root = Path(root) if root else self.cache / self.dataset
        self.frac, self.batch_size, self.seed = frac, batch_size, seed
        self.split_kind, self.split_seed, self.subset = split, split_seed, subset
        self.size = (int(size[0]), int(size[1])) if size else None
        self.residency, self.on_error, self.workers = residency, on_error, workers
        self.augment = augment or Augment(0, 0)
        self.classes = tuple(classes)
        self.n, self.strip_seed, self.balance, self.family = n, strip_seed, balance, family
        self.progress = progress
        self._resident: tuple[Tensor, Tensor] | None = None

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
        match self.dataset:
            case "severstal":
                return severstal.read(self.root)
            case "synthetic":
                return self._synthetic()
            case "folder":
                return folder.read(self.root, classes=self.classes)
            case "neu_seg":
                return folder.read_neu_seg(self.root)
        raise ConfigError(f"data={self.dataset}: allowed are {', '.join(NAMES)}")

    def _synthetic(self) -> Source:
        height, width = self.size or SYNTHETIC_SIZE
        what = f"{self.family}-{self.n}-{height}x{width}-{self.balance}-s{self.strip_seed}"
        home = self.cache / "synthetic" / f"{what}-v{synthetic.VERSION}"
        if not home.exists():
            report = self.progress
            try:
                synthetic.generate(
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
        return severstal.read(home, name="synthetic", classes=synthetic.CLASS_NAMES[self.family])

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
        resident = self._reside(device)
        return DataLoader(
            _Batches(self.pack, self.seed, augment, fetch=not resident),
            sampler=_EpochOrder(self.rows[subset], self.batch_size, self.seed, shuffle=train),
            batch_size=None,  # the sampler hands out whole batches
            num_workers=self.workers if augment and augment.transform else 0,
            pin_memory=device.type == "cuda" and not resident,
        )

    def _reside(self, device: torch.device) -> bool:
        """Bring the pack onto the device if it should live there; say whether it does."""
        if self._resident is not None:
            return True
        if self.residency == "memmap" or device.type == "cpu" or self.augment.transform:
            if self.residency == "gpu":
                why = "augment.transform runs on the CPU" if device.type != "cpu" else "no GPU"
                raise ConfigError(f"data.residency=gpu: {why} here; take memmap or auto")
            return False
        if self.residency == "auto":
            if device.type != "cuda":
                return False
            free, _ = torch.cuda.mem_get_info(device)
            if self.pack.images.nbytes + self.pack.masks.nbytes > free / 2:
                return False
        images = _channels_first(np.asarray(self.pack.images)).to(device)
        self._resident = images, _torch_bits(np.asarray(self.pack.masks)).to(device)
        return True

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """On the device: gather if the pack lives there, unpack the bits, flip."""
        if "image" in batch:
            image, bits = batch["image"], batch["bits"]
        else:
            assert self._resident is not None
            image, bits = (part[batch["index"]] for part in self._resident)
        if "flip" in batch:
            image, bits = flip(image, batch["flip"]), flip(bits, batch["flip"])
        mask = unpack_bits(bits, len(self.pack.classes))  # (B, M, H, W)
        label = mask.flatten(2).any(-1)  # (B, M): any pixel of the class
        return {
            "image": image, "mask": mask, "label": label,
            "id": batch["id"], "index": batch["index"],
        }  # fmt: skip


def resolve_name(name: str, cache: Path) -> str:
    """``auto`` becomes ``severstal`` if that is in ``<cache>/severstal``, else ``synthetic``."""
    if name != "auto":
        return name
    return "severstal" if (cache / "severstal" / "train.csv").is_file() else "synthetic"


def unpack_bits(bits: Tensor, classes: int) -> Tensor:
    """Bool (B, M, H, W) of a bit field (B, H, W).

    >>> unpack_bits(torch.tensor([[[0, 1, 2, 3]]]), 2).int().tolist()
    [[[[0, 1, 0, 1]], [[0, 0, 1, 1]]]]
    """
    powers = torch.tensor([1 << m for m in range(classes)], dtype=bits.dtype, device=bits.device)
    return (bits.unsqueeze(1) & powers.view(-1, 1, 1)) != 0


class _Rows(NamedTuple):
    """What the sampler asks for: these rows, as they are in this epoch."""

    epoch: int
    rows: np.ndarray


class _EpochOrder(Sampler[_Rows]):
    """Whole batches of rows; the order is a function of (seed, epoch)."""

    def __init__(self, rows: np.ndarray, batch_size: int, seed: int, shuffle: bool) -> None:
        self.rows, self.seed, self.shuffle, self.epoch = rows, seed, shuffle, 0
        count = -(-len(rows) // batch_size)
        # Batch normalisation cannot learn from a single image: it joins the batch before it.
        if shuffle and count > 1 and len(rows) % batch_size == 1:
            count -= 1
        self.cuts = [batch_size * b for b in range(1, count)]

    def set_epoch(self, epoch: int) -> None:  # called by Lightning before each epoch
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.cuts) + 1

    def __iter__(self) -> Iterator[_Rows]:
        rows = self.rows
        if self.shuffle:
            rows = np.random.default_rng((_ORDER, self.seed, self.epoch)).permutation(rows)
        for part in np.split(rows, self.cuts):
            yield _Rows(self.epoch, part)


class _Batches(Dataset[dict[str, Any]]):
    """Rows of the pack as tensors on the host; without ``fetch`` only their numbers."""

    def __init__(self, pack: Pack, seed: int, augment: Augment | None, fetch: bool) -> None:
        self.pack, self.seed, self.augment, self.fetch = pack, seed, augment, fetch
        self.ids = pack.index["image_id"].to_numpy()

    def __getitem__(self, wanted: _Rows) -> dict[str, Any]:
        epoch, rows = wanted
        batch: dict[str, Any] = {"index": torch.from_numpy(rows), "id": self.ids[rows].tolist()}
        if self.augment:
            batch["flip"] = torch.from_numpy(self.augment.draw(self.seed, epoch, rows))
        if self.fetch:
            images, bits = self.pack.images[rows], self.pack.masks[rows]
            if self.augment and self.augment.transform:
                for k, row in enumerate(rows):
                    images[k], bits[k] = self.augment.apply_transform(
                        self.seed, epoch, int(row), images[k], bits[k]
                    )
            batch["image"], batch["bits"] = _channels_first(images), _torch_bits(bits)
        return batch


def _channels_first(images: np.ndarray) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(images))
    return tensor.unsqueeze(1) if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2)


def _torch_bits(bits: np.ndarray) -> Tensor:
    # torch computes on signed integers only, but for uint8
    signed = {2: np.int32, 4: np.int64}.get(bits.itemsize, np.uint8)
    return torch.from_numpy(np.ascontiguousarray(bits.astype(signed, copy=False)))
