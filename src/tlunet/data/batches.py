"""Sample the images of each batch and load them as tensors on the host."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

from tlunet.data.augment import Augment
from tlunet.data.bits import unpack_labels
from tlunet.data.pack.pack import Pack
from tlunet.data.sampling.crop import crop
from tlunet.data.sampling.images import Sampled, sample

#: Bytes per pixel of a pack's bit field → type on a device: besides uint8, torch has few operations
#: on unsigned integers.
_TYPES = {1: "uint8", 2: "int32", 4: "int64"}
KEPT = 16  # turns whose flips are kept, besides those of the batch


def unpack_bits(
    bits: Tensor, classes: int, layout: torch.memory_format = torch.contiguous_format
) -> Tensor:
    """Unpack a bit field (B, H, W) to bool (B, M, H, W), in a memory format.

    >>> unpack_bits(torch.tensor([[[0, 1, 2, 3]]]), 2).int().tolist()
    [[[[0, 1, 0, 1]], [[0, 0, 1, 1]]]]
    """
    # Created on the device: copying a list there would synchronise with the queue in every step.
    powers = 1 << torch.arange(classes, dtype=bits.dtype, device=bits.device)
    if layout == torch.channels_last:
        return ((bits.unsqueeze(-1) & powers) != 0).permute(0, 3, 1, 2)
    return (bits.unsqueeze(1) & powers.view(-1, 1, 1)) != 0


def padding_of(content: Tensor, size: tuple[int, int]) -> Tensor:
    """Mark the padded pixels of a batch, bool (B, 1, H, W).

    Args:
        content: (B, 2), height and width of each image, which starts at the top left.
        size: (H, W).

    >>> padding_of(torch.tensor([[1, 2]]), (2, 3)).int().tolist()
    [[[[0, 0, 1], [1, 1, 1]]]]
    """
    below, beyond = (
        torch.arange(side, device=content.device) >= content[:, k, None]
        for k, side in enumerate(size)
    )
    return (below[:, :, None] | beyond[:, None, :]).unsqueeze(1)


def pack_bits(masks: Tensor) -> Tensor:
    """Pack masks, bool (B, M, H, W), to a bit field (B, H, W); the inverse of `unpack_bits`.

    >>> pack_bits(torch.tensor([[[[False, True]], [[True, True]]]])).tolist()
    [[[2, 3]]]
    """
    depth = next(b for b in (8, 16, 32) if masks.shape[1] <= b)
    dtype = getattr(torch, _TYPES[depth // 8])
    bits = masks[:, 0].to(dtype)
    for m in range(1, masks.shape[1]):
        bits |= masks[:, m].to(dtype) << m
    return bits


class Rows(NamedTuple):
    """One batch as the sampler requests it: rows of the pack."""

    rows: np.ndarray
    turns: np.ndarray  # of each row, for its augmentation
    counted: int  # rows that count; 0: this process has none and sends a dummy row
    weight: float  # of the loss, so that its mean over processes equals the whole batch's loss
    rest: "Rows | None" = None  # rows beside them that have no masks, or no annotation


class EpochOrder(DistributedSampler[Rows]):
    """Sample whole batches of rows; the order is a function of (seed, epoch).

    With several processes, each gets a part of the rows. In training it gets a part of every batch,
    so that together they process the same batches as a single process. In evaluation it gets every
    n-th block of ``loss_size`` rows; the loss is computed once per block. A trainer leaves a
    ``DistributedSampler`` alone; any other it would replace in several processes.

    Args:
        rows: rows of one subset of the pack.
        batch_size: rows per batch, over all processes in training, per process in evaluation.
        seed: seed of the order.
        shuffle: whether to draw an order (training) or keep that of the pack.
        start: (epoch, batches) that a resumed run has already done; that epoch continues there.
        share: (rank, number of processes).
        loss_size: rows per block in evaluation; by default ``batch_size``.
        repeat: how often the rows are repeated within an epoch of training.
        weights: relative frequency of each row in training; ``None``: all the same.
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
        repeat: int = 1,
        weights: np.ndarray | None = None,
    ) -> None:
        self.repeat, self.weights = repeat, weights
        self.everything, self.rows, self.seed, self.shuffle = rows, rows, seed, shuffle
        self.start, self.epoch, self.share = start, start[0], share
        if not shuffle:
            self.rows = self._own(rows, loss_size or batch_size)
        self.drawn = len(self.rows) * (repeat if shuffle else 1)  # per epoch
        count = -(-self.drawn // batch_size)
        # Batch normalisation needs two or more images: a last single one joins the batch before it.
        if shuffle and count > 1 and self.drawn % batch_size == 1:
            count -= 1
        self.cuts = [batch_size * b for b in range(1, count)]

    def _own(self, rows: np.ndarray, loss_size: int) -> np.ndarray:
        """Return the rows that this process evaluates."""
        rank, number = self.share
        runs = np.split(rows, range(loss_size, len(rows), loss_size))[rank::number]
        return np.concatenate(runs) if runs else rows[:0]

    @property
    def smallest(self) -> int:
        """Rows of the smallest batch of a process; a dummy row counts."""
        sizes = np.diff([0, *self.cuts, self.drawn])
        return max(1, int(sizes.min()) // self.share[1])

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; called by Lightning before each one."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.cuts) + 1

    def __iter__(self) -> Iterator[Rows]:
        rank, number = self.share
        drawn = self._draw()
        done = self.start[1] if self.epoch == self.start[0] else 0
        batches = zip(*(np.split(part, self.cuts)[done:] for part in drawn), strict=True)
        for batch, turns in batches:
            own, weight = slice(None), 1.0
            if self.shuffle:
                own = slice(rank, None, number)
                weight = len(batch[own]) * number / len(batch)
            count = len(batch[own])
            if not count:
                batch = self._company(batch)
                turns, own = np.full(1, self.epoch), slice(None)
            yield Rows(batch[own], turns[own], count, weight)

    def _draw(self) -> Sampled:
        if self.shuffle:
            return sample(self.rows, self.seed, self.epoch, self.repeat, self.weights)
        return Sampled(self.rows, np.full(len(self.rows), self.epoch))

    def _company(self, batch: np.ndarray) -> np.ndarray:
        """Return a dummy row for a process without rows, so that collectives stay in step."""
        return batch[:1] if len(batch) else self.everything[:1]


class Batches(Dataset[dict[str, Any]]):
    """Rows of the pack as tensors on the host; without ``fetch``, only row numbers and labels.

    Args:
        pack: the pack.
        seed: seed of the flips.
        augment: of training images; ``None``: no flips either.
        fetch: whether to read images and masks.
        rest_labels: whether rows of the rest come with their labels. Their masks are never read.
    """

    def __init__(
        self,
        pack: Pack,
        seed: int,
        augment: Augment | None,
        fetch: bool,
        rest_labels: bool = False,
    ) -> None:
        self.pack, self.seed, self.augment, self.fetch = pack, seed, augment, fetch
        self.rest_labels = rest_labels
        self.ids = pack.index["image_id"].to_numpy()
        self.labels = pack.labels  # (N, M), from the native masks
        self.vanished = self.labels & ~pack.mask_labels  # (N, M), lost when resized
        self.content = pack.content if pack.fit == "pad" else None
        self._drawn: dict[int, np.ndarray] = {}  # flips (N, 2) of the latest turns

    def __getitem__(self, wanted: Rows) -> dict[str, Any]:
        rows, turns, count, weight, rest = wanted
        labels = self.labels[rows]
        batch = self._places(rows, count, weight) | {"id": self.ids[rows].tolist()}
        if rest is not None:
            batch["rest"] = self._rest(rest)
        if self.augment:
            batch["flip"] = torch.from_numpy(self._flips(self.augment, rows, turns))
        content = None if self.content is None else self.content[rows]
        if self.fetch:
            images, bits = self.pack.images[rows], self.pack.masks[rows]
            if self.augment and self.augment.crop:
                images, bits, content = crop(
                    self.augment.crop, self.seed, turns, rows, images, bits, content
                )
            if self.augment and self.augment.is_changing:
                for k, row in enumerate(rows):
                    region = _region(k, content)
                    images[region], bits[region] = self.augment.change(
                        self.seed, int(turns[k]), int(row), images[region], bits[region]
                    )
            if self.augment and self.augment.is_on_cpu:
                # An image whose defect was moved out of the frame loses the label.
                class_bits = np.bitwise_or.reduce(bits.reshape(len(rows), -1), axis=1)
                labels = self.vanished[rows] | unpack_labels(class_bits, labels.shape[1])
            batch["image"], batch["bits"] = channels_first(images), torch_bits(bits)
        if content is not None:
            batch["content"] = torch.from_numpy(content)
        return batch | {"label": torch.from_numpy(labels)}

    def _places(self, rows: np.ndarray, count: int, weight: float) -> dict[str, Any]:
        """What a batch has whether or not its rows are annotated."""
        places: dict[str, Any] = {"index": torch.from_numpy(rows)}
        if count < len(rows) or weight != 1:
            places["count"], places["weight"] = count, weight
        return places

    def _rest(self, wanted: Rows) -> dict[str, Any]:
        """The second part of a batch: it takes no mask, and no label unless they are allowed."""
        rows, turns, count, weight, _ = wanted
        rest = self._places(rows, count, weight)
        if self.augment:
            rest["flip"] = torch.from_numpy(self.augment.draw_rest(self.seed, turns, rows))
        content = None if self.content is None else self.content[rows]
        if self.fetch:
            images = self.pack.images[rows]
            if self.augment and self.augment.crop:
                unknown = np.zeros(images.shape[:3], np.uint8)
                images, _, content = crop(
                    self.augment.crop, self.seed, turns, rows, images, unknown, content
                )
            rest["image"] = channels_first(images)
        if content is not None:
            rest["content"] = torch.from_numpy(content)
        if self.rest_labels:
            rest["label"] = torch.from_numpy(self.labels[rows])
        return rest

    def _flips(self, augment: Augment, rows: np.ndarray, turns: np.ndarray) -> np.ndarray:
        """Flips of a batch; those of a turn are drawn at once for all images: milliseconds."""
        flips = np.empty((len(rows), 2), bool)
        wanted = np.unique(turns).tolist()
        for turn in wanted:
            if turn not in self._drawn:
                self._drawn[turn] = augment.draw(self.seed, turn, np.arange(len(self.labels)))
            flips[turns == turn] = self._drawn[turn][rows[turns == turn]]
        for old in list(self._drawn)[: -(len(wanted) + KEPT)]:
            del self._drawn[old]
        return flips


def _region(k: int, content: np.ndarray | None) -> tuple[int | slice, ...]:
    """Where the k-th image of a batch is, without its padding."""
    if content is None:
        return (k,)
    height, width = content[k]
    return k, slice(height), slice(width)


def channels_first(images: np.ndarray) -> Tensor:
    """Convert (B, H, W) or (B, H, W, 3) to (B, 1 or 3, H, W)."""
    tensor = torch.from_numpy(np.ascontiguousarray(images))
    return tensor.unsqueeze(1) if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2)


def torch_bits(bits: np.ndarray) -> Tensor:
    """Convert a bit field to a type that torch can compute with."""
    kind = _TYPES[bits.itemsize]
    return torch.from_numpy(np.ascontiguousarray(bits.astype(kind, copy=False)))
