"""Run any number of images of any size through a network in batches.

Threads decode images ahead of the network. Images of the same shape share a batch; results keep
the input order. Nothing here needs torch: :mod:`tlunet.deploy.predict` and
:mod:`tlunet.deploy.runtime` compute the batches.
"""

import copy
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tlunet.data.bits import class_areas, class_masks
from tlunet.data.fit import content_size, framed
from tlunet.data.readers.pixels import read_image
from tlunet.deploy.rules import Rules
from tlunet.deploy.tiles import Blend, Tile, cut, is_tiled
from tlunet.errors import ConfigError, DataError

SMALLEST = 32  # minimum pixels per side for an encoder with five stages
DISTORTED = 1.2  # change of an image's proportions that is worth a message
WINDOW = 4  # batches an image may wait for others of its size: bounds memory use


class Prediction(NamedTuple):
    """Result for one image, at its original size H × W."""

    path: Path
    probabilities: NDArray[np.float32]  # (M,) that the image contains the class
    labels: NDArray[np.bool_]  # (M,) predicted labels
    bits: NDArray[np.unsignedinteger]  # (H, W) bit field: bit m-1 = class m
    image: NDArray[np.uint8]  # (H, W) or (H, W, 3)

    @property
    def masks(self) -> NDArray[np.bool_]:
        """Masks (M, H, W)."""
        return class_masks(self.bits, len(self.probabilities))

    @property
    def areas(self) -> NDArray[np.int64]:
        """Pixels per class (M,)."""
        return class_areas(self.bits, len(self.probabilities))


class Unreadable(NamedTuple):
    """An image that was skipped."""

    path: Path
    reason: str


class Answer(NamedTuple):
    """Output of a network for one batch, at the network's size H × W."""

    bits: NDArray[np.unsignedinteger]  # (B, H, W) pixels above their thresholds
    probabilities: NDArray[np.float32]  # (B, M) of the labels
    masks: NDArray[np.float32] | None = None  # (B, M, H, W) probabilities of the pixels


class _Item(NamedTuple):
    """One image on its way to the network."""

    position: int
    path: Path
    image: NDArray[np.uint8]  # as read
    pixels: NDArray[np.uint8]  # (H, W) or (H, W, 3), input of the network
    content: tuple[int, int]  # height and width of the image in the input; the rest is padding

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image as read."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def is_resized(self) -> bool:
        """Whether the network sees another size."""
        return self.content != self.size


class _Started(NamedTuple):
    """A batch that the device is processing."""

    items: list[_Item]
    answer: Callable[[], Answer]


class Stream(ABC):
    """Sends images through a network in batches.

    Args:
        classes: names of the classes 1…M.
        rules: how probabilities become masks and labels.
        size: (height, width) to which images are resized (bilinear, as in a pack). The pixels'
            probabilities are resized back, then thresholded. ``None`` keeps each image's size.
        batch_size: images per batch, all of the same size.
        threads: number of decoder threads.
        overlap: smallest overlap of two tiles, as a fraction of a tile, in [0, 1). An image that
            is larger than ``size`` is then cut into tiles of this size, at its own scale, and not
            resized. ``None``: no tiles.
        fit: ``stretch`` images of other proportions to ``size``, or scale and ``pad`` them.

    Raises:
        ConfigError: tiles of an unknown size.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        rules: Rules,
        size: tuple[int, int] | None,
        batch_size: int,
        threads: int,
        overlap: float | None = None,
        fit: str = "stretch",
    ) -> None:
        if overlap is not None and size is None:
            raise ConfigError(
                "--tile: the training size is unknown; keep the run's meta.json next to the "
                "checkpoint, or pass the run folder"
            )
        self.classes = classes
        self.rules = rules
        self.size = size
        self.batch_size = batch_size
        self.threads = threads
        self.overlap = overlap
        self.fit = fit

    @abstractmethod
    def _start(self, images: NDArray[np.uint8], is_soft: bool) -> Callable[[], Answer]:
        """Start a batch (B, 1 or 3, H, W); the returned function waits for the result.

        Args:
            images: the batch.
            is_soft: whether the answer must contain the pixels' probabilities.
        """

    def under(self, rules: Rules) -> Self:
        """Return the same network with other rules."""
        other = copy.copy(self)
        other.rules = rules
        return other

    def predict(self, paths: Iterable[Path]) -> Iterator[Prediction | Unreadable]:
        """Yield one result per image in input order; memory use is bounded.

        Args:
            paths: image files of any size, grey or colour.
        """
        done: dict[int, Prediction | Unreadable] = {}
        turn = 0
        for position, outcome in self._outcomes(paths):
            done[position] = outcome
            while turn in done:
                yield done.pop(turn)
                turn += 1

    def _outcomes(self, paths: Iterable[Path]) -> Iterator[tuple[int, Prediction | Unreadable]]:
        """Yield results with their positions as they become available."""
        running: _Started | None = None
        for batch in self._batches(self._decode_ahead(paths)):
            if isinstance(batch, tuple):
                yield batch
                continue
            if self.tiles(batch[0].image):
                yield batch[0].position, self._predict_tiles(batch[0])
                continue
            # Start the next batch before processing the results of this one.
            images = _stack([item.pixels for item in batch])
            is_soft = any(item.is_resized for item in batch)
            started = _Started(batch, self._start(images, is_soft))
            if running:
                yield from self._finish(running)
            running = started
        if running:
            yield from self._finish(running)

    def _decode_ahead(self, paths: Iterable[Path]) -> Iterator[_Item | tuple[int, Unreadable]]:
        """Decode images in order, a bounded number ahead of the network."""
        pool = ThreadPoolExecutor(self.threads, "decode")
        ahead: deque[Future[_Item | tuple[int, Unreadable]]] = deque()
        try:
            for position, path in enumerate(paths):
                ahead.append(pool.submit(self._decode, position, path))
                # A large image fills batches by itself.
                most = self.threads + (self.batch_size if self.overlap is None else 0)
                if len(ahead) > most:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _decode(self, position: int, path: Path) -> _Item | tuple[int, Unreadable]:
        try:
            image = read_image(path)
        except DataError as error:
            return position, Unreadable(path, str(error))
        height, width = image.shape[:2]
        if self.size is None and min(height, width) < SMALLEST:
            reason = f"image is {height}×{width}; the network needs at least {SMALLEST}×{SMALLEST}"
            return position, Unreadable(path, reason)
        pixels = image
        content = height, width
        if self.size and self.size != content and not self.tiles(image):
            content = content_size(content, self.size, self.fit)
            resized = Image.fromarray(image).resize(content[::-1], Image.Resampling.BILINEAR)
            pixels = framed(np.asarray(resized), self.size)
        return _Item(position, path, image, pixels, content)

    def _batches(
        self, items: Iterable[_Item | tuple[int, Unreadable]]
    ) -> Iterator[list[_Item] | tuple[int, Unreadable]]:
        """Group images by shape; unreadable and large images are passed on immediately."""
        waiting: dict[tuple[int, ...], list[_Item]] = {}
        for item in items:
            if not isinstance(item, _Item):
                yield item
                continue
            if self.tiles(item.image):
                yield [item]
                continue
            waiting.setdefault(item.pixels.shape, []).append(item)
            for shape, group in list(waiting.items()):
                waits = item.position - group[0].position
                if len(group) == self.batch_size or waits >= WINDOW * self.batch_size:
                    yield waiting.pop(shape)
        yield from waiting.values()

    def _finish(self, started: _Started) -> Iterator[tuple[int, Prediction]]:
        answer = started.answer()
        for k, item in enumerate(started.items):
            row = answer.probabilities[k]
            height, width = item.content
            bits = self.rules.settle(answer.bits[k, :height, :width], row)
            if item.is_resized:
                assert answer.masks is not None
                masks = answer.masks[k, :, :height, :width]
                bits = enlarge(masks, bits, self.rules.thresholds, item.size)
            yield item.position, self._prediction(item, bits, row)

    def _prediction(
        self, item: _Item, bits: NDArray[np.unsignedinteger], row: NDArray[np.float32]
    ) -> Prediction:
        return Prediction(item.path, row, self.rules.present(row), bits, item.image)

    def tiles(self, image: NDArray[np.uint8]) -> bool:
        """Whether an image is cut into tiles."""
        size = image.shape[0], image.shape[1]
        return self.overlap is not None and is_tiled(size, self.size)

    def _predict_tiles(self, item: _Item) -> Prediction:
        """Predict an image tile by tile; it contains a class if any of its tiles does."""
        assert self.size
        assert self.overlap is not None
        blend = Blend(item.size, self.size, self.rules.thresholds)
        row = np.zeros(len(self.classes), np.float32)
        for tiles, answer in self._answers(cut(item.image, self.size, self.overlap)):
            assert answer.masks is not None
            row = np.maximum(row, answer.probabilities.max(0))
            for tile, masks in zip(tiles, answer.masks, strict=True):
                blend.add(tile, masks)
        return self._prediction(item, self.rules.settle(blend.finish(), row), row)

    def _answers(self, tiles: Iterator[Tile]) -> Iterator[tuple[list[Tile], Answer]]:
        """Send tiles through the network in batches, one ahead of the results."""
        running: tuple[list[Tile], Callable[[], Answer]] | None = None
        while batch := list(islice(tiles, self.batch_size)):
            started = batch, self._start(_stack([tile.pixels for tile in batch]), True)
            if running:
                yield running[0], running[1]()
            running = started
        if running:
            yield running[0], running[1]()


def squeeze(found: Prediction, stream: Stream) -> str | None:
    """Say that a network saw an image with other proportions; ``None`` if it did not."""
    height, width = found.image.shape[:2]
    if stream.size is None or stream.fit == "pad" or stream.tiles(found.image):
        return None
    factor = (width / height) / (stream.size[1] / stream.size[0])
    if max(factor, 1 / factor) < DISTORTED:
        return None
    way = "use --tile" if is_tiled((height, width), stream.size) else "crop it"
    return (
        f"{found.path}: {height}×{width} (height × width) is resized to "
        f"{stream.size[0]}×{stream.size[1]}, the training size, which changes its proportions; "
        f"unless the training images had the same ones, {way}"
    )


def _stack(images: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Stack images to (B, 1 or 3, H, W)."""
    stacked = np.stack(images)
    return stacked[:, None] if stacked.ndim == 3 else stacked.transpose(0, 3, 1, 2)


def enlarge(
    masks: NDArray[np.float32],
    bits: NDArray[np.unsignedinteger],
    thresholds: Sequence[float],
    size: tuple[int, int],
) -> NDArray[np.unsignedinteger]:
    """Resize probabilities (bilinear) and apply the thresholds: outlines without steps.

    Args:
        masks: probabilities (M, H, W) at the network's size.
        bits: bit field (H, W) at the network's size; a class without a pixel in it has none in
            the result.
        thresholds: one per class.
        size: height and width of the result.

    Returns:
        A bit field of that size.
    """
    result = np.zeros(size, bits.dtype)
    for m in np.flatnonzero(class_areas(bits, len(masks))).tolist():
        mask = Image.fromarray(masks[m]).resize(size[::-1], Image.Resampling.BILINEAR)
        above = np.asarray(mask) > np.float32(thresholds[m])
        result |= above.astype(bits.dtype) << bits.dtype.type(m)
    return result
