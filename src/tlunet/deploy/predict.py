"""What a trained network finds in images of any size, as fast as the hardware allows."""

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from tlunet.data.pixels import read_image
from tlunet.errors import DataError
from tlunet.model.metrics import predicted_masks
from tlunet.model.network import Logits
from tlunet.model.task import load_network
from tlunet.model.weights import read_plain

SMALLEST = 32  # pixels a side that an encoder of five stages takes
WINDOW = 4  # batches that an image may wait for others of its size: bounds the memory


class Prediction(NamedTuple):
    """What was found in one image, at the image's own size H × W."""

    path: Path
    probabilities: NDArray[np.float32]  # (M,) that any pixel is of the class
    bits: NDArray[np.unsignedinteger]  # (H, W) bit field: bit m-1 = class m

    @property
    def masks(self) -> NDArray[np.bool_]:
        """(M, H, W)."""
        M = len(self.probabilities)
        return self.bits >> np.arange(M, dtype=self.bits.dtype)[:, None, None] & 1 == 1

    @property
    def areas(self) -> NDArray[np.int64]:
        """(M,) pixels of each class."""
        return self.masks.sum((1, 2))


class Unreadable(NamedTuple):
    """An image that was passed over."""

    path: Path
    reason: str


class _Item(NamedTuple):
    """One image on its way to the network."""

    position: int
    path: Path
    own_size: tuple[int, int]
    pixels: NDArray[np.uint8]  # (H, W) or (H, W, 3), as the network takes it


class _Started(NamedTuple):
    """A batch that the device works on."""

    items: list[_Item]
    bits: Tensor  # (B, H, W)
    probabilities: Tensor  # (B, M)
    done: Any  # a CUDA event; None elsewhere: it is there already


class Predictor:
    """Sends images through a network in batches; decoding goes on in threads meanwhile.

    Args:
        network: uint8 images (B, 1 or 3, H, W) to :class:`Logits`, in evaluation mode.
        classes: names of the classes 1…M.
        threshold: a pixel is of a class where its probability is above it.
        size: (height, width) that images are brought to (bilinear, as a pack does) and masks
            back from (nearest neighbour); ``None``: each image at its own size.
        device: of the network.
        precision: ``32-true``, or ``bf16-mixed`` for bfloat16 autocast.
        batch_size: images of one size at a time.
        threads: that decode.
    """

    def __init__(
        self,
        network: nn.Module,
        classes: Sequence[str],
        *,
        threshold: float = 0.5,
        size: tuple[int, int] | None = None,
        device: torch.device | str = "cpu",
        precision: str = "32-true",
        batch_size: int = 8,
        threads: int = 2,
    ) -> None:
        self.device = torch.device(device)
        self.network = network.eval().to(self.device).to(memory_format=torch.channels_last)
        self.classes = tuple(classes)
        self.threshold = threshold
        self.size = size
        self.precision = precision
        self.batch_size = batch_size
        self.threads = threads

    @classmethod
    def load(cls, run: Path, **options: Any) -> Self:
        """The network of a run, with its classes, its threshold and its training size.

        Args:
            run: a run folder, or a checkpoint. A checkpoint that lies alone, without the run's
                ``meta.json`` beside it, takes every image at its own size.
            **options: ``device``, ``precision``, ``batch_size``, …

        Raises:
            DataError: no such run, or a file of it cannot be read.
        """
        network = load_network(run)
        checkpoint = run / "best.ckpt" if run.is_dir() else run
        known = read_plain(checkpoint)["hyper_parameters"]
        M = network.spec["classes"]
        classes = known.get("classes") or [f"class {m + 1}" for m in range(M)]
        size = _training_size(checkpoint.with_name("meta.json"), required=run.is_dir())
        threshold = known.get("threshold", 0.5)
        if not isinstance(classes, list) or len(classes) != M or not isinstance(threshold, float):
            raise DataError(f"{checkpoint}: its classes or its threshold do not fit its network")
        found = {"threshold": threshold, "size": size}
        return cls(network, classes, **found | options)

    def logits(self, images: Tensor) -> Logits:
        """The network's answer, on the device.

        Args:
            images: uint8 (B, 1 or 3, H, W), on any device.
        """
        autocast = torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.precision == "bf16-mixed"
        )
        with torch.inference_mode(), autocast:
            logits: Logits = self.network(images.to(self.device, non_blocking=True))
        return logits

    def probabilities(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of masks (B, M, H, W) and labels (B, M), float32, on the device.

        Args:
            images: uint8 (B, 1 or 3, H, W), on any device.
        """
        masks, labels = self.logits(images)
        with torch.inference_mode():
            return masks.float().sigmoid(), labels.float().sigmoid()

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
            started = self._start(batch)  # the device has the next before this one is looked at
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
            pixels = read_image(path)
        except DataError as error:
            return position, Unreadable(path, str(error))
        height, width = own_size = pixels.shape[0], pixels.shape[1]
        if self.size is None and min(own_size) < SMALLEST:
            reason = f"image of {height}×{width}; the network takes {SMALLEST}×{SMALLEST} or more"
            return position, Unreadable(path, reason)
        if self.size and self.size != own_size:
            resized = Image.fromarray(pixels).resize(self.size[::-1], Image.Resampling.BILINEAR)
            pixels = np.asarray(resized)
        return _Item(position, path, own_size, pixels)

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

    def _start(self, items: list[_Item]) -> _Started:
        """Hand a batch to the device, and ask for the answer without waiting for it."""
        is_cuda = self.device.type == "cuda"
        images = torch.from_numpy(np.stack([item.pixels for item in items]))
        images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
        masks, labels = self.logits(images.pin_memory() if is_cuda else images)
        with torch.inference_mode():
            bits = _bit_field(predicted_masks(masks, self.threshold))
            answer = bits, labels.float().sigmoid()
            bits, probabilities = (x.to("cpu", non_blocking=is_cuda) for x in answer)
        done = torch.cuda.current_stream(self.device).record_event() if is_cuda else None
        return _Started(items, bits, probabilities, done)

    def _finish(self, started: _Started) -> Iterator[tuple[int, Prediction]]:
        if started.done:
            started.done.synchronize()
        kind = np.dtype(f"uint{bit_depth(started.probabilities.shape[1])}")
        bits = started.bits.numpy().view(f"u{started.bits.itemsize}").astype(kind)
        probabilities = started.probabilities.numpy()
        for item, field, row in zip(started.items, bits, probabilities, strict=True):
            field = _nearest(field, item.own_size)
            yield item.position, Prediction(item.path, row, field)


def bit_depth(classes: int) -> int:
    """Bits a pixel of a bit field of so many classes takes, as in a pack: 8, 16 or 32."""
    return next(bits for bits in (8, 16, 32) if classes <= bits)


def _bit_field(masks: Tensor) -> Tensor:
    """Bool (B, M, H, W) to (B, H, W), bit m-1 = class m: what travels is M times smaller."""
    kind = torch.uint8 if masks.shape[1] <= 8 else torch.int32
    bits = torch.zeros_like(masks[:, 0], dtype=kind)
    for m in range(masks.shape[1]):
        bits |= masks[:, m].to(kind) << m
    return bits


def _nearest(bits: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """A bit field brought to another (height, width) by nearest neighbour."""
    if bits.shape == size:
        return bits
    rows, columns = (
        ((np.arange(new) + 0.5) * old // new).astype(int)
        for new, old in zip(size, bits.shape, strict=True)
    )
    return bits[rows[:, None], columns]


def _training_size(meta: Path, required: bool) -> tuple[int, int] | None:
    if not required and not meta.exists():
        return None
    try:
        height, width = json.loads(meta.read_text(encoding="utf-8"))["size"]
        return int(height), int(width)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{meta}: cannot be read ({type(error).__name__}); the size that the network was "
            "trained at stands in it"
        ) from error
