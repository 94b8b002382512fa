"""Loads weights from a file into an encoder: runs no code, accounts for every tensor."""

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
from tlunet.model.optimisation.averaging import averaged

PICKLES = (".pth", ".pt", ".ckpt", ".bin")
ENVELOPES = ("state_dict", "model_state_dict", "model")

# Canonical names of layers after the encoder, which may be left over: classifiers, layers before
# them that timm's `features_only` omits, and the other parts of our own networks.
HEADS = (
    *("fc", "classifier", "head", "linear", "last.linear"),
    *("norm", "bn2", "conv.head", "pre.logits", "final.conv"),
    *("incre.modules", "downsamp.modules", "final.layer"),  # HRNet's classifier
    *("decoder", "segmentation.head", "classification.head", "mean", "std"),
)
# Buffers that are computed, not learned: optional in a file.
COMPUTED = ("num.batches.tracked", "relative.position.index", "attn.mask")


class Loaded(NamedTuple):
    """Result of loading a file.

    Attributes:
        source: description of the source.
        loaded: number of encoder tensors loaded from the file.
        kept: number of computed buffers of the encoder that are missing in the file.
        dropped: names of tensors in the file that are not part of the encoder.
    """

    source: str
    loaded: int
    kept: int
    dropped: tuple[str, ...]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the named tensors of a file, on the CPU.

    `.safetensors` contains only tensors. The other formats are pickles, which can run arbitrary
    code when loaded; they are loaded by `torch.load(weights_only=True)`, which runs none.
    Of one of our checkpoints with averaged weights, those are returned.
    The usual wrappers are unpacked: `{"state_dict": …}`, `{"model_state_dict": …}`, `{"model": …}`.

    Args:
        path: a `.safetensors`, `.pth`, `.pt`, `.ckpt` or `.bin` file.

    Raises:
        WeightsError: the file is missing, empty, truncated or not a weights file, would execute
            code, or contains anything but named tensors.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    if path.suffix not in (".safetensors", *PICKLES):
        known = " ".join((".safetensors", *PICKLES))
        raise WeightsError(f"{path}: not a weights file; expected one of {known}")
    if path.stat().st_size == 0:
        raise WeightsError(f"{path}: the file is empty; download it again")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = read_plain(path)
    except Exception as error:  # readers raise many different classes
        if code := wanted_code(error, path):
            raise WeightsError(
                f"{path}: refused, loading it would execute code ({code}); if you trust it, "
                "convert it once: safetensors.torch.save_file("
                "torch.load(FILE, weights_only=False)['state_dict'], 'FILE.safetensors')"
            ) from error
        reason = str(error).split(". ")[0].split("\n")[0]
        raise WeightsError(
            f"{path}: truncated or not a weights file ({type(error).__name__}: {reason}); "
            "download it again"
        ) from error
    return _unwrap(content, path)


def read_plain(path: Path) -> Any:
    """Load tensors and plain values from a pickle, on the CPU, without running code.

    Raises:
        Exception: the class depends on the kind of damage; see `wanted_code`.
    """
    with warnings.catch_warnings():  # warnings about other pickle protocols
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def wanted_code(error: Exception, path: Path) -> str | None:
    """The code a file would execute, if `torch.load` has refused it for that reason."""
    if not isinstance(error, pickle.UnpicklingError):
        return None
    if wanted := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return wanted[1]
    with path.open("rb") as file:
        is_pickle = file.read(1) == b"\x80"
    return "contains pickled objects other than tensors" if is_pickle else None


def _unwrap(content: object, path: Path) -> dict[str, Tensor]:
    """Return the state dict inside its wrappers."""
    while isinstance(content, Mapping):
        inside = (content[key] for key in ENVELOPES if isinstance(content.get(key), Mapping))
        inner = next(inside, None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path}: contains a {type(content).__name__}, not named tensors")
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            kind = type(tensor).__name__
            raise WeightsError(f"{path}: {name!r} is a {kind}, expected named tensors only")
    return averaged(content) or dict(content)


def load_encoder(encoder: nn.Module, weights: Mapping[str, Tensor], *, source: str) -> Loaded:
    """Load weights into an encoder, in place, and account for every tensor on both sides.

    Names are matched by `canonical` and `timm_names`, so weights of torchvision, timm,
    efficientnet_pytorch and segmentation_models_pytorch load, and so do checkpoints of whole
    networks, including ours. On an error the encoder is unchanged.

    Args:
        encoder: the encoder of a `segmentation_models_pytorch` network.
        weights: named tensors, as returned by `read_weights`.
        source: description of their source, for messages and records.

    Raises:
        WeightsError: a tensor of the encoder is missing or has a different shape, or a tensor is
            left over that belongs to no known head; one line per kind of problem.
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
        lines.append(f"{source}: lacks {_some(missing)} of the encoder's {len(own)} tensors")
    if foreign:
        lines.append(f"{source}: has {_some(foreign)} that the encoder does not have")
    if shapes:
        lines.append(f"{source}: shapes differ from the encoder's: {_some(shapes)}")
    if lines:
        lines[-1] += "; use weights of the same encoder"
        raise WeightsError(*lines)

    state |= {own[key]: weights[given[key]] for key in both}
    # Some encoders override load_state_dict to rename tensors; that is already done here.
    nn.Module.load_state_dict(encoder, state)
    return Loaded(source, loaded=len(both), kept=len(absent), dropped=tuple(dropped))


def _by_canonical(
    names: Iterable[str], whose: str, renamed: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Map canonical names to original names, which must stay distinct."""
    by_canonical: dict[str, str] = {}
    for name in names:
        twin = by_canonical.setdefault(canonical((renamed or {}).get(name, name)), name)
        if twin != name:
            raise WeightsError(f"{whose}: {twin} and {name} name the same tensor; keep one")
    return by_canonical


def _behind_encoder(key: str) -> bool:
    return key.endswith(COMPUTED) or any(key == h or key.startswith(f"{h}.") for h in HEADS)


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a scalar"


def _some(items: list[str]) -> str:
    """Format the length of a list and its first three items."""
    return f"{len(items)} ({', '.join(items[:3])}{', …' if len(items) > 3 else ''})"
