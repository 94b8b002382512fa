"""Run any number of images of any size through a network in batches.

Threads decode images ahead of the network. Images of the same shape share a batch; results keep
the input order. Nothing here needs torch: :mod:`tlunet.deploy.predict` and
:mod:`tlunet.deploy.runtime` compute the batches.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tlunet.data.fit import content_size, framed
from tlunet.data.readers.pixels import read_image
from tlunet.deploy.rules import Rules, class_areas, class_masks
from tlunet.errors import DataError

SMALLEST = 32  # minimum pixels per side for an encoder with five stages
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


class _Item(NamedTuple):
    """One image on its way to the network."""

    position: int
    path: Path
    image: NDArray[np.uint8]  # as read
    pixels: NDArray[np.uint8]  # (H, W) or (H, W, 3), input of the network


class _Started(NamedTuple):
    """A batch that the device is processing."""

    items: list[_Item]
    answer: Callable[[], Answer]


class Stream(ABC):
    """Sends images through a network in batches.

    Args:
        classes: names of the classes 1…M.
        rules: how probabilities become masks and labels.
        size: (height, width) to which images are resized (bilinear, as in a pack); masks are
            resized back (nearest neighbour). ``None`` keeps each image's size.
        batch_size: images per batch, all of the same size.
        threads: number of decoder threads.
        fit: ``stretch`` images of other proportions to ``size``, or scale and ``pad`` them.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        rules: Rules,
        size: tuple[int, int] | None,
        batch_size: int,
        threads: int,
        fit: str = "stretch",
    ) -> None:
        self.classes = classes
        self.rules = rules
        self.size = size
        self.batch_size = batch_size
        self.threads = threads
        self.fit = fit

    @abstractmethod
    def _start(self, images: NDArray[np.uint8]) -> Callable[[], Answer]:
        """Start a batch (B, 1 or 3, H, W); the returned function waits for the result."""

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
            # Start the next batch before processing the results of this one.
            started = _Started(batch, self._start(_stack(batch)))
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
                if len(ahead) > self.batch_size + self.threads:
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
        if self.size and self.size != (height, width):
            content = content_size((height, width), self.size, self.fit)
            resized = Image.fromarray(image).resize(content[::-1], Image.Resampling.BILINEAR)
            pixels = framed(np.asarray(resized), self.size)
        return _Item(position, path, image, pixels)

    def _batches(
        self, items: Iterable[_Item | tuple[int, Unreadable]]
    ) -> Iterator[list[_Item] | tuple[int, Unreadable]]:
        """Group images by shape; unreadable images are passed on immediately."""
        waiting: dict[tuple[int, ...], list[_Item]] = {}
        for item in items:
            if not isinstance(item, _Item):
                yield item
                continue
            waiting.setdefault(item.pixels.shape, []).append(item)
            for shape, group in list(waiting.items()):
                waits = item.position - group[0].position
                if len(group) == self.batch_size or waits >= WINDOW * self.batch_size:
                    yield waiting.pop(shape)
        yield from waiting.values()

    def _finish(self, started: _Started) -> Iterator[tuple[int, Prediction]]:
        found, probabilities = started.answer()
        for item, bits, row in zip(started.items, found, probabilities, strict=True):
            size = item.image.shape[0], item.image.shape[1]
            height, width = content_size(size, self.size, self.fit) if self.size else size
            own = _nearest(self.rules.settle(bits[:height, :width], row), size)  # not the padding
            labels = self.rules.present(row)
            yield item.position, Prediction(item.path, row, labels, own, item.image)


def _stack(items: list[_Item]) -> NDArray[np.uint8]:
    """Stack images to (B, 1 or 3, H, W)."""
    images = np.stack([item.pixels for item in items])
    return images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)


def _nearest(bits: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Resize a bit field to (height, width) by nearest neighbour."""
    if bits.shape == size:
        return bits
    rows, columns = (
        ((np.arange(new) + 0.5) * old // new).astype(int)
        for new, old in zip(size, bits.shape, strict=True)
    )
    return bits[rows[:, None], columns]
