"""Export a trained network to ONNX or torch.export.

The file is written only after its outputs match the original's.
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

from tlunet.data.fit import framed
from tlunet.deploy.card import Card
from tlunet.deploy.graph import Graph
from tlunet.deploy.predict import read_card
from tlunet.deploy.runtime import INPUT, OUTPUTS, open_session
from tlunet.errors import ConfigError, DataError, first_line, reason_of
from tlunet.model.encoder import fix_padding
from tlunet.model.network import TLUNet
from tlunet.model.task import load_network
from tlunet.runs.folder import check_finished

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
UNSUPPORTED = (".pt", ".pth", ".ckpt", ".pb", ".tflite", ".engine", ".safetensors", ".h5")
CARD = "tlunet.json"  # in a .pt2 file; same content as the metadata of an ONNX file
TOLERANCE = 1e-4  # difference in probability, both in float32
STRIDE = 32  # of the deepest feature map: sides that are multiples of it can be halved five times
LARGEST = 2**14  # pixels per side
DEFAULT = (2 * STRIDE, 3 * STRIDE)  # height and width if the training size is unknown
TRACED = (3 * STRIDE, 5 * STRIDE)  # arbitrary, except one-pixel feature maps and equal sides
EVEN, ODD = (2 * STRIDE, 4 * STRIDE), (70, 101)  # sizes to test in addition to the training size

Images = NDArray[np.float32]  # (B, 1 or 3, H, W)
Run = Callable[[Images], tuple[NDArray[np.float32], NDArray[np.float32]]]


class Difference(NamedTuple):
    """Largest differences between an exported network and the original.

    Attributes:
        masks: in pixel probabilities.
        labels: in label probabilities.
        images: number of images compared.
        real: number of images from the run's test set; the others are noise.
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
    """Export a run's network and compare it with the original.

    Args:
        run: folder of a finished run, or a checkpoint.
        kind: ``onnx`` or ``torch``.
        out: output file, its suffix may be left out, or a folder; by default ``model.onnx`` or
            ``model.pt2`` in the run folder.
        strips: real images to compare on, (H, W) or (H, W, 3), at most of the training size, to
            which they are padded; noise is always used.
        is_fixed: whether to accept the training size only.

    Returns:
        The file and its largest differences.

    Raises:
        ConfigError: the suffix is of another kind, the encoder cannot be exported, or the outputs
            differ by more than :data:`TOLERANCE`.
        DataError: no such run, or the file cannot be written.
    """
    path = output(run, kind, out)
    if run.is_dir():
        check_finished(run)
    original, card = load_network(run), read_card(run)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    form = ONNX if kind == "onnx" else TORCH
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()  # report an unwritable folder before the slow part
        program = form.convert(trace(load_network(run), card, kind, is_fixed))
        form.write(program, card.as_metadata(), temporary)
        difference = compare(original, form.open(temporary), card, strips, is_fixed)
        checked = {key: json.dumps(value) for key, value in _checked(difference).items()}
        form.write(program, card.as_metadata() | checked, temporary)
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({reason_of(error)})") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path, difference


def output(run: Path, kind: str, out: Path | None) -> Path:
    """Return the output file.

    Raises:
        ConfigError: ``out`` has the suffix of another kind of file.
    """
    suffix = SUFFIXES[kind]
    if out is None or out.is_dir():
        folder = out or (run if run.is_dir() else run.parent)
        return folder / f"model{suffix}"
    if out.suffix.lower() == suffix:
        return out
    others = {known: name for name, known in SUFFIXES.items()}
    if out.suffix.lower() in UNSUPPORTED:
        raise ConfigError(f"--out {out}: --format {kind} writes {suffix}, not {out.suffix}")
    if out.suffix in others:
        raise ConfigError(
            f"--out {out}: --format {kind} writes {suffix}; use --format {others[out.suffix]} for "
            f"{out.suffix}"
        )
    return out.with_name(f"{out.name}{suffix}")


def _checked(difference: Difference) -> dict[str, Any]:
    return {"difference": difference._asdict(), "tolerance": TOLERANCE}


def trace(network: TLUNet, card: Card, kind: str, is_fixed: bool = False) -> ExportedProgram:
    """Trace the network for any batch size, 1 or 3 channels and any image size.

    If the training size is a multiple of 32, image sizes must be multiples of 32.

    Args:
        network: modified by this call; do not use it afterwards.
        card: its description.
        kind: ``onnx`` or ``torch``.
        is_fixed: whether to accept the training size only.

    Raises:
        ConfigError: torch.export cannot trace the encoder.
    """
    size = card.size or DEFAULT
    is_even = not any(side % STRIDE for side in size)
    if is_even:
        fix_padding(network)
    shape: dict[int, Any] = {0: Dim("batch", min=1, max=2**16), 1: Dim("channels", min=1, max=3)}
    traced = list(TRACED)
    for k, (name, side) in enumerate(zip(("height", "width"), size, strict=True)):
        if is_fixed or (side <= STRIDE and kind == "torch"):
            traced[k] = side  # torch.export specialises on one-pixel feature maps
        elif is_even:
            shape[2 + k] = STRIDE * Dim(f"{name}_by_{STRIDE}", min=2, max=LARGEST // STRIDE)
        else:
            shape[2 + k] = Dim(name, min=STRIDE + 1, max=LARGEST)
    example = torch.zeros(2, 3, *traced)
    with warnings.catch_warnings():  # warnings are about library internals; the comparison decides
        warnings.simplefilter("ignore")
        try:
            return torch.export.export(Graph(network).eval(), (example,), dynamic_shapes=(shape,))
        except Exception as error:
            way = "" if is_fixed else "; try --fixed-size (training size only)"
            raise ConfigError(
                f"{card.encoder}: torch.export cannot trace it ({first_line(error)}){way}"
            ) from error


def to_onnx(program: ExportedProgram) -> Any:
    """Convert the graph to ONNX.

    Raises:
        ConfigError: ONNX lacks one of its operations.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.onnx.export(
                program, input_names=[INPUT], output_names=[*OUTPUTS], verbose=False
            )
        except Exception as error:
            raise ConfigError(f"ONNX lacks some of its operations ({first_line(error)})") from error


def write_onnx(program: Any, metadata: dict[str, str], path: Path) -> None:
    """Write a single file that includes weights and metadata."""
    program.model.metadata_props.update(metadata)
    program.save(path, external_data=False)


def open_onnx(path: Path) -> Run:
    """Open the file with ONNX Runtime."""
    session = open_session(path, "cpu")
    return lambda images: tuple(session.run(OUTPUTS, {INPUT: images}))


def write_torch(program: ExportedProgram, metadata: dict[str, str], path: Path) -> None:
    """Write a single file that includes weights and metadata."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path, extra_files={CARD: json.dumps(metadata)})


def open_torch(path: Path) -> Run:
    """Open the file with torch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.export.load(path).module()

    def run(images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with torch.inference_mode():
            masks, labels = module(torch.from_numpy(images))
        return masks.numpy(), labels.numpy()

    return run


class Form(NamedTuple):
    """Functions that convert, write and open one file format."""

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
    """Compare the outputs of both networks on the same images.

    Raises:
        ConfigError: they differ by more than :data:`TOLERANCE`.
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
        if not all(value <= TOLERANCE for value in apart):  # also false for NaN
            raise ConfigError(
                f"{card.encoder}: exported probabilities differ by {max(apart):.2g}, more than "
                f"{TOLERANCE:g}; nothing was written"
            )
        masks, labels, images = max(masks, apart[0]), max(labels, apart[1]), images + len(batch)
    return Difference(masks, labels, images, len(strips))


def _batches(card: Card, strips: Sequence[NDArray[np.uint8]], is_fixed: bool) -> Iterator[Images]:
    """Yield grey and colour noise in two sizes and three batch sizes, then real images."""
    size = card.size or DEFAULT
    is_even = not any(side % STRIDE for side in size)
    others = size if is_fixed else EVEN if is_even else ODD
    other = [o if side > STRIDE else side for side, o in zip(size, others, strict=True)]
    rng = np.random.default_rng(0)
    for B, C, (H, W) in ((1, 1, size), (2, 3, size), (3, 1, other)):
        yield rng.uniform(0, 255, (B, C, H, W)).astype(np.float32)
    strips = [framed(strip, card.size) for strip in strips] if card.size else strips
    for part in (strips[:1], strips[1:]):
        if len(part):
            images = np.stack(part).astype(np.float32)
            yield images[:, None] if images.ndim == 3 else np.moveaxis(images, 3, 1).copy()
