"""Which images make a batch, and the batch as tensors on the host."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from tlunet.data.augment import Augment
from tlunet.data.pack.pack import Pack
from tlunet.data.pack.place import unpack_labels

ORDER = 0  # stream of random numbers, beside those of tlunet.data.augment


def unpack_bits(bits: Tensor, classes: int) -> Tensor:
    """Bool (B, M, H, W) of a bit field (B, H, W).

    >>> unpack_bits(torch.tensor([[[0, 1, 2, 3]]]), 2).int().tolist()
    [[[[0, 1, 0, 1]], [[0, 0, 1, 1]]]]
    """
    # Made on the device: a list copied there would wait for all that is queued, in every step.
    powers = 1 << torch.arange(classes, dtype=bits.dtype, device=bits.device)
    return (bits.unsqueeze(1) & powers.view(-1, 1, 1)) != 0


class Rows(NamedTuple):
    """What the sampler asks for: these rows, as they are in this epoch."""

    epoch: int
    rows: np.ndarray
    counted: int  # of them that count; 0: this process has no share and sends a row for company
    weight: float  # of the loss, so that its mean over the processes is the whole batch's


class EpochOrder(Sampler[Rows]):
    """Whole batches of rows; the order is a function of (seed, epoch).

    Each of several processes has its share: in training of every batch, so that all together take
    the batches of one alone; in evaluation every n-th run of ``loss_size`` rows, over which one
    value of the loss is taken.

    Args:
        rows: of one part of the pack.
        batch_size: rows a batch, of all processes together in training, of each in evaluation.
        seed: of the order.
        shuffle: training: there is an order to draw; else the pack's holds.
        start: (epoch, batches) that a resumed run has behind it: that epoch goes on after them.
        share: (rank, number) of the processes.
        loss_size: of evaluation; by default ``batch_size``.
    """

    def __init__(
        self,
        rows: np.ndarray,
        batch_size: int,
        seed: int,
        shuffle: bool,
        start: tuple[int, int] = (0, 0),
        share: tuple[int, int] = (0, 1),
        loss_size: int | None = None,
    ) -> None:
        self.everything, self.rows, self.seed, self.shuffle = rows, rows, seed, shuffle
        self.start, self.epoch, self.share = start, start[0], share
        if not shuffle:
            self.rows = self._own(rows, loss_size or batch_size)
        count = -(-len(self.rows) // batch_size)
        # Batch normalisation cannot learn from a single image: it joins the batch before it.
        if shuffle and count > 1 and len(rows) % batch_size == 1:
            count -= 1
        self.cuts = [batch_size * b for b in range(1, count)]

    def _own(self, rows: np.ndarray, loss_size: int) -> np.ndarray:
        """This process's runs of an evaluation."""
        rank, number = self.share
        runs = np.split(rows, range(loss_size, len(rows), loss_size))[rank::number]
        return np.concatenate(runs) if runs else rows[:0]

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.cuts) + 1

    def __iter__(self) -> Iterator[Rows]:
        rows = self.rows
        rank, number = self.share
        if self.shuffle:
            rows = np.random.default_rng((ORDER, self.seed, self.epoch)).permutation(rows)
        done = self.start[1] if self.epoch == self.start[0] else 0
        for batch in np.split(rows, self.cuts)[done:]:
            own = batch[rank::number] if self.shuffle else batch
            weight = len(own) * number / len(batch) if self.shuffle else 1.0
            yield Rows(self.epoch, own if len(own) else self._company(batch), len(own), weight)

    def _company(self, batch: np.ndarray) -> np.ndarray:
        """A row for a process without a share: it must take part, or the others wait for it."""
        return batch[:1] if len(batch) else self.everything[:1]


class Batches(Dataset[dict[str, Any]]):
    """Rows of the pack as tensors on the host; without ``fetch`` only their numbers and labels."""

    def __init__(self, pack: Pack, seed: int, augment: Augment | None, fetch: bool) -> None:
        self.pack, self.seed, self.augment, self.fetch = pack, seed, augment, fetch
        self.ids = pack.index["image_id"].to_numpy()
        self.labels = pack.labels  # (N, M), of the native masks
        self.vanished = self.labels & ~pack.mask_labels  # (N, M), lost when resized

    def __getitem__(self, wanted: Rows) -> dict[str, Any]:
        epoch, rows, count, weight = wanted
        labels = self.labels[rows]
        batch: dict[str, Any] = {"index": torch.from_numpy(rows), "id": self.ids[rows].tolist()}
        if count < len(rows) or weight != 1:
            batch["count"], batch["weight"] = count, weight
        if self.augment:
            batch["flip"] = torch.from_numpy(self.augment.draw(self.seed, epoch, rows))
        if self.fetch:
            images, bits = self.pack.images[rows], self.pack.masks[rows]
            if self.augment and self.augment.transform:
                for k, row in enumerate(rows):
                    images[k], bits[k] = self.augment.apply_transform(
                        self.seed, epoch, int(row), images[k], bits[k]
                    )
                # A defect that was moved out of the picture loses its label.
                found = np.bitwise_or.reduce(bits.reshape(len(rows), -1), axis=1)
                labels = self.vanished[rows] | unpack_labels(found, labels.shape[1])
            batch["image"], batch["bits"] = channels_first(images), torch_bits(bits)
        return batch | {"label": torch.from_numpy(labels)}


def channels_first(images: np.ndarray) -> Tensor:
    """(B, H, W) or (B, H, W, 3) as (B, 1 or 3, H, W)."""
    tensor = torch.from_numpy(np.ascontiguousarray(images))
    return tensor.unsqueeze(1) if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2)


def torch_bits(bits: np.ndarray) -> Tensor:
    """A bit field as a type that torch computes on."""
    # torch computes on signed integers only, but for uint8
    signed = {2: np.int32, 4: np.int64}.get(bits.itemsize, np.uint8)
    return torch.from_numpy(np.ascontiguousarray(bits.astype(signed, copy=False)))
