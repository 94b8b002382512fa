"""A trained network as one file for other programs: ONNX, or a program of torch.export.

Nothing appears under its name before it has been run, and has said what the original says.
"""

import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import Dim, ExportedProgram

from tlunet.deploy.card import Card, check_finished
from tlunet.deploy.graph import Graph
from tlunet.deploy.predict import read_card
from tlunet.deploy.runtime import INPUT, OUTPUTS, open_session
from tlunet.errors import ConfigError, DataError
from tlunet.model.network import TLUNet
from tlunet.model.task import load_network

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
CARD = "tlunet.json"  # inside a .pt2, the same as an ONNX file's metadata
TOLERANCE = 1e-4  # of a probability, float32 both sides
STRIDE = 32  # of the deepest map: an image of multiples of it is halved five times without rest
LARGEST = 2**14  # pixels a side
DEFAULT = (2 * STRIDE, 3 * STRIDE)  # height and width where the training size is not known
TRACED = (3 * STRIDE, 5 * STRIDE)  # any will do, but maps of one pixel and of equal sides
EVEN, ODD = (2 * STRIDE, 4 * STRIDE), (70, 101)  # sizes to try beside the training size

Images = NDArray[np.float32]  # (B, 1 or 3, H, W)
Run = Callable[[Images], tuple[NDArray[np.float32], NDArray[np.float32]]]


class Difference(NamedTuple):
    """What an exported network says differently, at most.

    Attributes:
        masks: of a pixel's probability.
        labels: of an image's.
        images: it was taken over.
        real: of them of the run's test part; the others are noise.
    """

    masks: float
    labels: float
    images: int
    real: int


def export(
    run: Path,
    kind: str,
    out: Path | None = None,
    strips: Sequence[NDArray[np.uint8]] = (),
    is_fixed: bool = False,
) -> tuple[Path, Difference]:
    """Write a run's network, checked against the original.

    Args:
        run: a finished run's folder, or a checkpoint.
        kind: ``onnx`` or ``torch``.
        out: the file; by default ``model.onnx`` or ``model.pt2`` in the run's folder.
        strips: real images to check with, (H, W) or (H, W, 3), of one size; noise is always tried.
        is_fixed: for images of the training size alone.

    Returns:
        The file, and what it says differently at most.

    Raises:
        ConfigError: the encoder cannot be exported, or what was exported differs by more than
            :data:`TOLERANCE`.
        DataError: no such run, or the file cannot be written.
    """
    if run.is_dir():
        check_finished(run)
    original, card = load_network(run), read_card(run)
    folder = run if run.is_dir() else run.parent
    path = out or folder / f"model{SUFFIXES[kind]}"
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    form = ONNX if kind == "onnx" else TORCH
    try:
        temporary.touch()  # a folder that cannot be written to is told before all the work
        program = form.convert(trace(load_network(run), card, kind, is_fixed))
        form.write(program, card.as_metadata(), temporary)
        difference = compare(original, form.open(temporary), card, strips, is_fixed)
        checked = {key: json.dumps(value) for key, value in _checked(difference).items()}
        form.write(program, card.as_metadata() | checked, temporary)
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path, difference


def _checked(difference: Difference) -> dict[str, Any]:
    return {"difference": difference._asdict(), "tolerance": TOLERANCE}


def trace(network: TLUNet, card: Card, kind: str, is_fixed: bool = False) -> ExportedProgram:
    """The network as a graph, for any number of images, of 1 or 3 channels, of any size.

    Where its training size is a multiple of 32, sizes are multiples of 32.

    Args:
        network: of no use of its own afterwards.
        card: what it says of itself.
        kind: ``onnx`` or ``torch``.
        is_fixed: of the training size alone.

    Raises:
        ConfigError: torch.export cannot follow what the encoder does.
    """
    size = card.size or DEFAULT
    is_even = not any(side % STRIDE for side in size)
    shape: dict[int, Any] = {0: Dim("batch", min=1, max=2**16), 1: Dim("channels", min=1, max=3)}
    traced = list(TRACED)
    for k, (name, side) in enumerate(zip(("height", "width"), size, strict=True)):
        if is_fixed or (side <= STRIDE and kind == "torch"):
            traced[k] = side  # a map of one pixel is another program to torch.export
        elif is_even:
            shape[2 + k] = STRIDE * Dim(f"{name}_by_{STRIDE}", min=2, max=LARGEST // STRIDE)
        else:
            shape[2 + k] = Dim(name, min=STRIDE + 1, max=LARGEST)
    example = torch.zeros(2, 3, *traced)
    with warnings.catch_warnings():  # the libraries' own affairs; what counts is the comparison
        warnings.simplefilter("ignore")
        try:
            return torch.export.export(Graph(network).eval(), (example,), dynamic_shapes=(shape,))
        except Exception as error:
            way = "" if is_fixed else "; --fixed-size may do, for the training size alone"
            raise ConfigError(
                f"{card.encoder}: torch.export cannot follow it ({_line(error)}){way}"
            ) from error


def to_onnx(program: ExportedProgram) -> Any:
    """The same graph in ONNX's operations.

    Raises:
        ConfigError: one has no counterpart there.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.onnx.export(
                program, input_names=[INPUT], output_names=[*OUTPUTS], verbose=False
            )
        except Exception as error:
            raise ConfigError(f"ONNX has not all of its operations ({_line(error)})") from error


def write_onnx(program: Any, metadata: dict[str, str], path: Path) -> None:
    """One file, weights and metadata inside."""
    program.model.metadata_props.update(metadata)
    program.save(path, external_data=False)


def open_onnx(path: Path) -> Run:
    """The file, run by ONNX Runtime."""
    session = open_session(path, "cpu")
    return lambda images: tuple(session.run(OUTPUTS, {INPUT: images}))


def write_torch(program: ExportedProgram, metadata: dict[str, str], path: Path) -> None:
    """One file, weights and metadata inside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path, extra_files={CARD: json.dumps(metadata)})


def open_torch(path: Path) -> Run:
    """The file, run by torch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.export.load(path).module()

    def run(images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with torch.inference_mode():
            masks, labels = module(torch.from_numpy(images))
        return masks.numpy(), labels.numpy()

    return run


class Form(NamedTuple):
    """How a graph becomes a file of some kind, and the file a function again."""

    convert: Callable[[ExportedProgram], Any]
    write: Callable[[Any, dict[str, str], Path], None]
    open: Callable[[Path], Run]


ONNX = Form(to_onnx, write_onnx, open_onnx)
TORCH = Form(lambda program: program, write_torch, open_torch)


def compare(
    original: TLUNet,
    run: Run,
    card: Card,
    strips: Sequence[NDArray[np.uint8]],
    is_fixed: bool = False,
) -> Difference:
    """Ask both the same, and see how far they are apart.

    Raises:
        ConfigError: farther than :data:`TOLERANCE`.
    """
    masks = labels = 0.0
    images = 0
    for batch in _batches(card, strips, is_fixed):
        with torch.inference_mode():
            logits = original(torch.from_numpy(batch))
        answer = run(batch)
        apart = [
            float(np.abs(theirs - ours.sigmoid().numpy()).max())
            for theirs, ours in zip(answer, logits, strict=True)
        ]
        if not all(value <= TOLERANCE for value in apart):  # NaN is not, either
            raise ConfigError(
                f"{card.encoder}: what was exported differs by {max(apart):.2g} of a probability, "
                f"more than {TOLERANCE:g}; nothing is written"
            )
        masks, labels, images = max(masks, apart[0]), max(labels, apart[1]), images + len(batch)
    return Difference(masks, labels, images, len(strips))


def _batches(card: Card, strips: Sequence[NDArray[np.uint8]], is_fixed: bool) -> Iterator[Images]:
    """Noise in grey and in colour, of two sizes and three batch sizes; then real images."""
    size = card.size or DEFAULT
    is_even = not any(side % STRIDE for side in size)
    others = size if is_fixed else EVEN if is_even else ODD
    other = [o if side > STRIDE else side for side, o in zip(size, others, strict=True)]
    rng = np.random.default_rng(0)
    for B, C, (H, W) in ((1, 1, size), (2, 3, size), (3, 1, other)):
        yield rng.uniform(0, 255, (B, C, H, W)).astype(np.float32)
    for part in (strips[:1], strips[1:]):
        if len(part):
            images = np.stack(part).astype(np.float32)
            yield images[:, None] if images.ndim == 3 else np.moveaxis(images, 3, 1).copy()


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
