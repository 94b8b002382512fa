"""Images of any size and number through a network in batches, whatever runs the network.

Decoding goes on in threads meanwhile; images of one shape go together; outcomes come in the order
given. Nothing here needs torch: :mod:`tlunet.deploy.predict` and :mod:`tlunet.deploy.runtime` say
how a batch is computed.
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

from tlunet.data.readers.pixels import read_image
from tlunet.deploy.rules import Rules, class_areas, class_masks
from tlunet.errors import DataError

SMALLEST = 32  # pixels a side that an encoder of five stages takes
WINDOW = 4  # batches that an image may wait for others of its size: bounds the memory


class Prediction(NamedTuple):
    """What was found in one image, at the image's own size H × W."""

    path: Path
    probabilities: NDArray[np.float32]  # (M,) that any pixel is of the class
    labels: NDArray[np.bool_]  # (M,) the classifier's decision
    bits: NDArray[np.unsignedinteger]  # (H, W) bit field: bit m-1 = class m
    image: NDArray[np.uint8]  # (H, W) or (H, W, 3)

    @property
    def masks(self) -> NDArray[np.bool_]:
        """(M, H, W)."""
        return class_masks(self.bits, len(self.probabilities))

    @property
    def areas(self) -> NDArray[np.int64]:
        """(M,) pixels of each class."""
        return class_areas(self.bits, len(self.probabilities))


class Unreadable(NamedTuple):
    """An image that was passed over."""

    path: Path
    reason: str


class Answer(NamedTuple):
    """What a network says of a batch, at its own size H × W."""

    bits: NDArray[np.unsignedinteger]  # (B, H, W) pixels above their thresholds
    probabilities: NDArray[np.float32]  # (B, M) of labels


class _Item(NamedTuple):
    """One image on its way to the network."""

    position: int
    path: Path
    image: NDArray[np.uint8]  # as it was read
    pixels: NDArray[np.uint8]  # (H, W) or (H, W, 3), as the network takes it


class _Started(NamedTuple):
    """A batch that the device works on."""

    items: list[_Item]
    answer: Callable[[], Answer]


class Stream(ABC):
    """Sends images through a network in batches.

    Args:
        classes: names of the classes 1…M.
        rules: what is a mask and a label.
        size: (height, width) that images are brought to (bilinear, as a pack does) and masks
            back from (nearest neighbour); ``None``: each image at its own size.
        batch_size: images of one size at a time.
        threads: that decode.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        rules: Rules,
        size: tuple[int, int] | None,
        batch_size: int,
        threads: int,
    ) -> None:
        self.classes = classes
        self.rules = rules
        self.size = size
        self.batch_size = batch_size
        self.threads = threads

    @abstractmethod
    def _start(self, images: NDArray[np.uint8]) -> Callable[[], Answer]:
        """Hand a batch (B, 1 or 3, H, W) to the device; the function returned waits for it."""

    def predict(self, paths: Iterable[Path]) -> Iterator[Prediction | Unreadable]:
        """One outcome an image, in the order given; memory does not grow with their number.

        Args:
            paths: image files, of any sizes, grey or in colour.
        """
        done: dict[int, Prediction | Unreadable] = {}
        turn = 0
        for position, outcome in self._outcomes(paths):
            done[position] = outcome
            while turn in done:
                yield done.pop(turn)
                turn += 1

    def _outcomes(self, paths: Iterable[Path]) -> Iterator[tuple[int, Prediction | Unreadable]]:
        """Outcomes with their positions, as they come."""
        running: _Started | None = None
        for batch in self._batches(self._decode_ahead(paths)):
            if isinstance(batch, tuple):
                yield batch
                continue
            # The device has the next before this one is looked at.
            started = _Started(batch, self._start(_stack(batch)))
            if running:
                yield from self._finish(running)
            running = started
        if running:
            yield from self._finish(running)

    def _decode_ahead(self, paths: Iterable[Path]) -> Iterator[_Item | tuple[int, Unreadable]]:
        """Every image decoded, in order, a bounded number ahead of the network."""
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
            reason = f"image of {height}×{width}; the network takes {SMALLEST}×{SMALLEST} or more"
            return position, Unreadable(path, reason)
        pixels = image
        if self.size and self.size != (height, width):
            resized = Image.fromarray(image).resize(self.size[::-1], Image.Resampling.BILINEAR)
            pixels = np.asarray(resized)
        return _Item(position, path, image, pixels)

    def _batches(
        self, items: Iterable[_Item | tuple[int, Unreadable]]
    ) -> Iterator[list[_Item] | tuple[int, Unreadable]]:
        """Images of one shape together; what cannot be read goes through at once."""
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
            own = _nearest(self.rules.settle(bits, row), size)
            labels = self.rules.present(row)
            yield item.position, Prediction(item.path, row, labels, own, item.image)


def _stack(items: list[_Item]) -> NDArray[np.uint8]:
    """(B, 1 or 3, H, W)."""
    images = np.stack([item.pixels for item in items])
    return images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)


def _nearest(bits: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """A bit field brought to another (height, width) by nearest neighbour."""
    if bits.shape == size:
        return bits
    rows, columns = (
        ((np.arange(new) + 0.5) * old // new).astype(int)
        for new, old in zip(size, bits.shape, strict=True)
    )
    return bits[rows[:, None], columns]
