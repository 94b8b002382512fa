"""Weights from a file into an encoder: no code in it is run, every tensor is accounted for."""

import pickle
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from tlunet.errors import WeightsError
from tlunet.model.names import canonical, timm_names

PICKLES = (".pth", ".pt", ".ckpt", ".bin")
ENVELOPES = ("state_dict", "model_state_dict", "model")

# Canonical names of what stands behind an encoder and may be left over: classifiers, what timm's
# `features_only` leaves out in front of them, and the other parts of a whole network of ours.
HEADS = (
    *("fc", "classifier", "head", "linear", "last.linear"),
    *("norm", "bn2", "conv.head", "pre.logits", "final.conv"),
    *("incre.modules", "downsamp.modules", "final.layer"),  # HRNet's classifier
    *("decoder", "segmentation.head", "classification.head", "mean", "std"),
)
# Buffers that are counted or computed, never learnt: a file may have them or not.
COMPUTED = ("num.batches.tracked", "relative.position.index", "attn.mask")


class Loaded(NamedTuple):
    """What became of a file's tensors.

    Attributes:
        source: where the weights came from, in words.
        loaded: number of the encoder's tensors that were read from there.
        kept: number of the encoder's computed buffers that it does not have.
        dropped: its tensors that are no part of the encoder, by their own names.
    """

    source: str
    loaded: int
    kept: int
    dropped: tuple[str, ...]


def read_weights(path: Path) -> dict[str, Tensor]:
    """The named tensors of a file, on the CPU.

    `.safetensors` holds nothing but tensors. The other formats are pickles, which can run any
    code when they are read; they are read by `torch.load(weights_only=True)`, which does not.
    The usual envelopes are opened: `{"state_dict": …}`, `{"model_state_dict": …}`, `{"model": …}`.

    Args:
        path: a `.safetensors`, `.pth`, `.pt`, `.ckpt` or `.bin` file.

    Raises:
        WeightsError: the file is missing, empty, broken off or of another kind, asks for code
            to be run, or holds something else than named tensors.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    if path.suffix not in (".safetensors", *PICKLES):
        known = " ".join((".safetensors", *PICKLES))
        raise WeightsError(f"{path}: not a weights file; expected one of {known}")
    if path.stat().st_size == 0:
        raise WeightsError(f"{path}: the file is empty; fetch it again")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = read_plain(path)
    except Exception as error:  # each reader and each kind of damage has a class of its own
        if code := wanted_code(error, path):
            raise WeightsError(
                f"{path}: refused, it wants to run code when it is read ({code}); where you "
                "trust it, convert it once: safetensors.torch.save_file("
                "torch.load(FILE, weights_only=False)['state_dict'], 'FILE.safetensors')"
            ) from error
        reason = str(error).split(". ")[0].split("\n")[0]
        raise WeightsError(
            f"{path}: broken off or no weights file ({type(error).__name__}: {reason}); "
            "fetch it again"
        ) from error
    return _unwrap(content, path)


def read_plain(path: Path) -> Any:
    """Tensors and plain values from a pickle, on the CPU; nothing in it is run.

    Raises:
        Exception: of a class of its own for each kind of damage; see `wanted_code`.
    """
    with warnings.catch_warnings():  # on other pickle protocols; what counts is the outcome
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def wanted_code(error: Exception, path: Path) -> str | None:
    """What a file would have had run, where `torch.load` has refused it for that."""
    if not isinstance(error, pickle.UnpicklingError):
        return None
    if wanted := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return wanted[1]
    with path.open("rb") as file:
        is_pickle = file.read(1) == b"\x80"
    return "more than tensors are pickled in it" if is_pickle else None


def _unwrap(content: object, path: Path) -> dict[str, Tensor]:
    """The state dict inside its envelopes."""
    while isinstance(content, Mapping):
        inside = (content[key] for key in ENVELOPES if isinstance(content.get(key), Mapping))
        inner = next(inside, None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path}: holds a {type(content).__name__}, not named tensors")
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            kind = type(tensor).__name__
            raise WeightsError(f"{path}: {name!r} is a {kind}, expected named tensors only")
    return dict(content)


def load_encoder(encoder: nn.Module, weights: Mapping[str, Tensor], *, source: str) -> Loaded:
    """Load weights into an encoder, in place, and account for every tensor on both sides.

    Names are matched by `canonical` and `timm_names`: torchvision's, timm's, efficientnet_pytorch's
    and segmentation_models_pytorch's spellings all load, and so do checkpoints of whole networks,
    ours included. On an error the
    encoder is left as it was.

    Args:
        encoder: the encoder of a `segmentation_models_pytorch` network.
        weights: named tensors, as `read_weights` gives them.
        source: where they came from, for messages and records.

    Raises:
        WeightsError: a tensor of the encoder is not there or has another shape, or a tensor is
            left over that belongs to no known head; one line for each kind.
    """
    state = encoder.state_dict()
    own = _by_canonical(state, "the encoder")
    renamed = timm_names(weights, like=own)
    given = _by_canonical(weights, source, renamed)

    both = own.keys() & given.keys()
    absent = [own[key] for key in own if key not in both]
    missing = [name for name in absent if not canonical(name).endswith(COMPUTED)]
    dropped = [given[key] for key in given if key not in both]
    foreign = [given[key] for key in given if key not in both and not _behind_encoder(key)]
    shapes = [
        f"{given[key]} is {_shape(weights[given[key]])}, not {_shape(state[own[key]])}"
        for key in own
        if key in both and weights[given[key]].shape != state[own[key]].shape
    ]

    lines = []
    if missing:
        lines.append(f"{source}: without {_some(missing)} of the encoder's {len(own)} tensors")
    if foreign:
        lines.append(f"{source}: holds {_some(foreign)} that the encoder does not have")
    if shapes:
        lines.append(f"{source}: other shapes than the encoder's: {_some(shapes)}")
    if lines:
        lines[-1] += "; give the weights of this very encoder"
        raise WeightsError(*lines)

    state |= {own[key]: weights[given[key]] for key in both}
    # Some encoders override load_state_dict to do their own renaming; here it is already done.
    nn.Module.load_state_dict(encoder, state)
    return Loaded(source, loaded=len(both), kept=len(absent), dropped=tuple(dropped))


def _by_canonical(
    names: Iterable[str], whose: str, renamed: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Canonical name → original name; two names must not become one."""
    by_canonical: dict[str, str] = {}
    for name in names:
        twin = by_canonical.setdefault(canonical((renamed or {}).get(name, name)), name)
        if twin != name:
            raise WeightsError(f"{whose}: {twin} and {name} are the same tensor's name; keep one")
    return by_canonical


def _behind_encoder(key: str) -> bool:
    return key.endswith(COMPUTED) or any(key == h or key.startswith(f"{h}.") for h in HEADS)


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a scalar"


def _some(items: list[str]) -> str:
    """The first three of a list, and how many they are."""
    return f"{len(items)} ({', '.join(items[:3])}{', …' if len(items) > 3 else ''})"
