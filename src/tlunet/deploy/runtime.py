"""Predict with an exported network: needs ONNX Runtime, NumPy and Pillow, but not torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from tlunet.data.bits import bit_field
from tlunet.deploy.card import Card
from tlunet.deploy.rules import FLIPS, Rules
from tlunet.deploy.stream import Answer, Stream
from tlunet.errors import ConfigError, DataError, first_line
from tlunet.machine.parallel import threads

INPUT, OUTPUTS = "image", ("masks", "labels")
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxPredictor(Stream):
    """Sends images through an exported network in batches.

    Args:
        session: a network with the input ``image`` float32 (B, 1 or 3, H, W) in 0…255 and the
            outputs ``masks`` (B, M, H, W) and ``labels`` (B, M), both probabilities.
        card: description of the network.
        rules: how probabilities become masks and labels; by default the card's threshold.
        batch_size: images per batch, all of the same size.
        threads: number of decoder threads.
        overlap: cut images that are larger than the training size into tiles that overlap by this
            fraction or more; ``None`` resizes them.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        card: Card,
        *,
        rules: Rules | None = None,
        batch_size: int = 8,
        threads: int = 2,
        overlap: float | None = None,
    ) -> None:
        rules = rules or Rules.plain(len(card.classes), card.threshold)
        super().__init__(card.classes, rules, card.size, batch_size, threads, overlap, fit=card.fit)
        self.session = session

    @classmethod
    def load(cls, path: Path, *, tuned: bool = False, device: str = "auto", **options: Any) -> Self:
        """Load a file written by ``tlunet export``.

        Args:
            path: ``model.onnx``.
            tuned: whether to use the tuned rules in its metadata.
            device: ``auto`` (CUDA if ONNX Runtime supports it, else CPU), ``cuda``, ``cpu``.
            **options: ``batch_size``, ``threads``, ``overlap``.

        Raises:
            ConfigError: the installed ONNX Runtime does not support the device.
            DataError: no such file, not an ONNX file, or not one from this project.
        """
        session = open_session(path, device)
        card = Card.from_metadata(session.get_modelmeta().custom_metadata_map, str(path))
        return cls(session, card, rules=card.rules(tuned, path), **options)

    def probabilities(
        self, images: NDArray[np.uint8], flips: str = "none"
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute probabilities of masks (B, M, H, W) and labels (B, M).

        Args:
            images: uint8 (B, 1 or 3, H, W).
            flips: a key of :data:`FLIPS`; the result is the mean over these views.
        """
        views = [self._view(images, axes) for axes in FLIPS[flips]]
        masks, labels = views[0]
        for more, others in views[1:]:
            masks, labels = masks + more, labels + others
        return masks / np.float32(len(views)), labels / np.float32(len(views))

    def _view(
        self, images: NDArray[np.uint8], axes: tuple[int, ...]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        pixels = np.ascontiguousarray(np.flip(images, axes), np.float32)
        masks, labels = self.session.run(OUTPUTS, {INPUT: pixels})
        return np.flip(masks, axes), labels

    def _start(self, images: NDArray[np.uint8], is_soft: bool) -> Callable[[], Answer]:
        masks, labels = self.probabilities(images, self.rules.flips)
        thresholds = np.array(self.rules.thresholds, np.float32)[:, None, None]
        answer = Answer(bit_field(masks > thresholds), labels, masks if is_soft else None)
        return lambda: answer


def open_session(path: Path, device: str = "auto") -> onnxruntime.InferenceSession:
    """Open an ONNX file.

    Raises:
        ConfigError: the installed ONNX Runtime does not support the device.
        DataError: no such file, not an ONNX file, or one with other inputs and outputs.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; tlunet export RUN writes RUN/model.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # log fatal errors only; other errors are raised
    options.intra_op_num_threads = threads()
    try:
        session = onnxruntime.InferenceSession(path, options, providers=_providers(device))
    except ConfigError:
        raise
    except Exception as error:  # each kind of damage has its own class
        raise DataError(f"{path}: cannot be read as an ONNX file ({first_line(error)})") from None
    inputs = [one.name for one in session.get_inputs()]
    outputs = [one.name for one in session.get_outputs()]
    if inputs != [INPUT] or outputs != [*OUTPUTS]:
        raise DataError(
            f"{path}: input {', '.join(inputs)}, output {', '.join(outputs)}; expected input "
            "image, output masks, labels (a file from tlunet export)"
        )
    return session


def _providers(device: str) -> list[str]:
    there = onnxruntime.get_available_providers()
    wanted = PROVIDERS["cpu"] if device == "auto" else PROVIDERS.get(device, device)
    if wanted not in there:
        raise ConfigError(
            f"--device {device}: ONNX Runtime {onnxruntime.__version__} has "
            f"{', '.join(there)} here; use auto or cpu, or install onnxruntime-gpu"
        )
    is_faster = device == "auto" and PROVIDERS["cuda"] in there
    return [PROVIDERS["cuda"], PROVIDERS["cpu"]] if is_faster else [wanted]
