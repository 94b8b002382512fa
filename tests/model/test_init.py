"""Starting weights: all naming schemes load, all problems are reported, no code is run."""

import importlib.util
import os
import pickle
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub
import pytest
import safetensors.torch
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import nn

from tlunet.errors import ConfigError, UserError, WeightsError
from tlunet.model import init
from tlunet.model.init import imagenet_source
from tlunet.model.names import canonical
from tlunet.model.weights import load_encoder, read_weights

RESNET18 = ("smp-hub/resnet18.imagenet", "3f2325ff978283d47aa6a1d6878ca20565622683")
IMAGE = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def _serve_hub(files):
    spec = importlib.util.spec_from_file_location("hub", Path(__file__).parents[1] / "fakes/hub.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.serve_hub(files)


def _shuffled(model: nn.Module) -> nn.Module:
    """Randomise every weight and statistic, so that no default value is correct by chance."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            if tensor.ndim < 2:
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            else:  # keep the scale of the features
                noise = torch.randn(tensor.shape, generator=generator)
                tensor.copy_(noise / tensor[0].numel() ** 0.5)
        elif name.endswith("num_batches_tracked"):
            tensor.fill_(7)
    return model.eval()


def _made(make, *args, **kwargs) -> nn.Module:
    """Make a network without the expensive initialisation, which is overwritten anyway."""
    with torch.device("meta"):
        model = make(*args, **kwargs)
    return model.to_empty(device="cpu")


def _encoder(name: str) -> nn.Module:
    encoder = _made(smp.encoders.get_encoder, name, weights=None)
    for tensor in encoder.state_dict().values():
        tensor.fill_(1)
    return encoder.eval()


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Use one thread: the networks are too small to benefit from more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def resnet18():
    return _shuffled(_made(torchvision.models.resnet18))


@pytest.fixture(scope="module")
def densenet121():
    return _shuffled(_made(torchvision.models.densenet121))


@pytest.fixture
def resnet_file(resnet18, tmp_path):
    file = tmp_path / "resnet18-f37072fd.pth"
    torch.save(resnet18.state_dict(), file)
    return file


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """Ignore the settings of the machine."""
    for name in (init.FOLDER_VARIABLE, "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub_client(monkeypatch, tmp_path):
    """Point the hub client to an endpoint; it reads its variables only on import."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def point(endpoint: str) -> None:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + template)
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)

    return point


# --- names: the features are equal


def _last_torchvision_resnet(model, x):
    return nn.Sequential(*list(model.children())[:-2])(x)


def _forward_features(model, x):
    return model.forward_features(x)


@torch.no_grad()
@pytest.mark.parametrize("encoder_name", ["resnet18", "tu-resnet18"])
@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_resnet18(encoder_name, library, resnet18, tmp_path):
    source = (
        resnet18 if library == "torchvision" else _shuffled(_made(timm.create_model, "resnet18"))
    )
    last = _last_torchvision_resnet if library == "torchvision" else _forward_features
    file = tmp_path / "resnet18.safetensors"
    safetensors.torch.save_file(source.state_dict(), file)
    encoder = _encoder(encoder_name)

    loaded = load_encoder(encoder, read_weights(file), source=str(file))

    torch.testing.assert_close(encoder(IMAGE)[-1], last(source, IMAGE), rtol=0, atol=0)
    # 20 convolutions, 20 normalisations of five tensors each, and the classifier
    assert (loaded.loaded, loaded.kept, set(loaded.dropped)) == (120, 0, {"fc.weight", "fc.bias"})
    counters = [t for name, t in encoder.state_dict().items() if name.endswith("tracked")]
    assert [int(counter) for counter in counters] == [7] * 20


@torch.no_grad()
@pytest.mark.parametrize("spelling", ["new", "old", "timm"])
def test_densenet121(spelling, densenet121, tmp_path):
    source = densenet121
    if spelling == "timm":
        source = _made(timm.create_model, "densenet121")
        source.load_state_dict(densenet121.state_dict())
        source.eval()
    weights = _tensors(source)
    if spelling == "old":  # torchvision before 0.4; its files still use these names
        weights = {
            re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): tensor
            for name, tensor in weights.items()
            if not name.endswith("num_batches_tracked")
        }
        assert "features.denseblock1.denselayer1.norm.1.weight" in weights
    file = tmp_path / "densenet121.pth"
    torch.save(weights, file)
    expected = densenet121.features(IMAGE)

    for name in ["densenet121", "tu-densenet121"]:
        encoder = _encoder(name)
        loaded = load_encoder(encoder, read_weights(file), source=spelling)
        # timm's last normalisation includes the ReLU, torchvision's forward applies it later
        torch.testing.assert_close(encoder(IMAGE)[-1].relu(), expected.relu(), rtol=1e-5, atol=1e-6)
        assert loaded.dropped == ("classifier.weight", "classifier.bias")
        # 120 convolutions, and 121 normalisations of four tensors and a counter each
        assert (loaded.loaded, loaded.kept) == ((604, 121) if spelling == "old" else (725, 0))
        if name == "densenet121":
            torch.testing.assert_close(encoder(IMAGE)[-1], expected, rtol=0, atol=0)


@torch.no_grad()
def test_convnext(tmp_path):
    source = _shuffled(_made(timm.create_model, "convnext_atto"))
    file = tmp_path / "model.safetensors"
    safetensors.torch.save_file(source.state_dict(), file)
    encoder = _encoder("tu-convnext_atto")
    assert any(name.startswith("model.stages_0.") for name in encoder.state_dict())

    loaded = load_encoder(encoder, read_weights(file), source="timm")

    expected = source.forward_features(IMAGE)
    torch.testing.assert_close(encoder(IMAGE)[-1], expected, rtol=0, atol=0)
    heads = {"head.norm.weight", "head.norm.bias", "head.fc.weight", "head.fc.bias"}
    assert set(loaded.dropped) == heads


@torch.no_grad()
@pytest.mark.parametrize("encoder_name", ["resnet18", "tu-resnet18"])
def test_checkpoint_of_our_own(encoder_name, tmp_path):
    small = {"decoder_channels": (16, 8, 8, 8, 8), "classes": 4, "aux_params": {"classes": 4}}
    network = _made(smp.Unet, encoder_name, encoder_weights=None, **small)
    network.register_buffer("mean", torch.zeros(3, 1, 1))
    network.register_buffer("std", torch.ones(3, 1, 1))
    _shuffled(network)
    (tmp_path / "run").mkdir()
    torch.save(
        {
            "state_dict": {f"network.{name}": t for name, t in network.state_dict().items()},
            "hyper_parameters": {"encoder": encoder_name},
            "epoch": 3,
        },
        tmp_path / "run" / "best.ckpt",
    )
    encoder = _encoder(encoder_name)

    source = init.checkpoint_source(str(tmp_path / "run"))
    loaded = load_encoder(encoder, read_weights(init.fetch(source)), source="a run")

    expected = network.encoder(IMAGE)[-1]
    torch.testing.assert_close(encoder(IMAGE)[-1], expected, rtol=0, atol=0)
    assert loaded.loaded == 120
    parts = {name.split(".")[1] for name in loaded.dropped}
    assert parts == {"decoder", "segmentation_head", "classification_head", "mean", "std"}
    assert source == init.checkpoint_source(str(tmp_path / "run" / "best.ckpt"))


@pytest.mark.parametrize(
    "prefix", ["", "module.", "model.", "encoder.", "backbone.", "network._orig_mod.encoder."]
)
def test_prefixes(prefix, resnet18):
    encoder = _encoder("resnet18")
    weights = {f"{prefix}{name}": tensor for name, tensor in resnet18.state_dict().items()}
    assert load_encoder(encoder, weights, source="x").loaded == 120
    torch.testing.assert_close(encoder.state_dict()["conv1.weight"], resnet18.conv1.weight.data)


def test_canonical_names_stay_apart():
    for name in ["efficientnet-b0", "mobilenet_v2"]:
        with torch.device("meta"):
            names = list(smp.encoders.get_encoder(name, weights=None).state_dict())
        assert len({canonical(name) for name in names}) == len(names)


# --- problems with tensors


def _without(weights):
    del weights["layer4.1.conv1.weight"], weights["bn1.running_mean"]


def _with(weights):
    weights["layer4.2.conv1.weight"] = torch.zeros(1)


def _narrow(weights):
    weights["conv1.weight"] = torch.zeros(64, 1, 7, 7)


def _twice(weights):
    weights["encoder.conv1.weight"] = weights["conv1.weight"]


@pytest.mark.parametrize(
    ("spoil", "lines"),
    [
        (
            _without,
            [r"x: lacks 2 \(bn1.running_mean, layer4.1.conv1.weight\) of the encoder's 120"],
        ),
        (_with, [r"x: has 1 \(layer4.2.conv1.weight\) that the encoder does not have"]),
        (_narrow, [r"x: .* 1 \(conv1.weight is 64×1×7×7, not 64×3×7×7\)"]),
        (_twice, [r"x: conv1.weight and encoder.conv1.weight name the same"]),
        (
            lambda weights: (_without(weights), _with(weights), _narrow(weights)),
            ["x: lacks 2", "x: has 1", "x: shapes differ"],
        ),
    ],
)
def test_faults_are_named(spoil, lines, resnet18):
    weights = _tensors(resnet18)
    spoil(weights)
    encoder = _encoder("resnet18")
    before = _tensors(encoder)

    with pytest.raises(WeightsError) as error:
        load_encoder(encoder, weights, source="x")

    assert len(error.value.lines) == len(lines)
    for line, pattern in zip(error.value.lines, lines, strict=True):
        assert re.match(pattern, line), line
    after = encoder.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_weights_of_another_encoder(densenet121):
    with pytest.raises(WeightsError, match=r"lacks 100 \(conv1.weight, .*, …\).*\n.*has 604"):
        load_encoder(_encoder("resnet18"), densenet121.state_dict(), source="x")


# --- problems with the file


class Malice:
    """Creates a file when unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return (Path.touch, (self.file,))


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_nothing_in_a_file_is_run(form, tmp_path):
    file, mark = tmp_path / "weights.pth", tmp_path / "mark"
    content = {"state_dict": {"conv1.weight": torch.zeros(1)}, "args": Malice(mark)}
    if form == "pickle":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=form == "zip")

    with pytest.raises(WeightsError, match=r"weights.pth: refused, loading .* code .* safetensors"):
        read_weights(file)

    assert not mark.exists()
    # the trap works: unsafe loading does run the code
    pickle.loads(file.read_bytes()) if form == "pickle" else torch.load(file, weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_broken_off(suffix, kept, tmp_path):
    file = tmp_path / f"weights.{suffix}"
    tensors = {"conv1.weight": torch.rand(100, 100)}
    if suffix == "pth":
        torch.save(tensors, file)
    else:
        safetensors.torch.save_file(tensors, file)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(WeightsError, match="download it again") as error:
        read_weights(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.pth", None, "no such weights file"),
        ("page.pth", b"<html>not found</html>" * 9, "truncated or not a weights file"),
        ("page.safetensors", b"<html>not found</html>" * 9, "truncated or not a weights file"),
        ("weights.h5", b"x", r"expected one of .safetensors .pth"),
    ],
)
def test_not_a_weights_file(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=message) as error:
        read_weights(tmp_path / name)
    assert len(error.value.lines) == 1
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [([1, 2], "contains a list"), ({}, "contains a dict"), ({"epoch": 3}, "'epoch' is a int")],
)
def test_no_named_tensors(content, message, tmp_path):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=message):
        read_weights(tmp_path / "x.pt")


@pytest.mark.parametrize(
    "envelopes", [[], ["state_dict"], ["model"], ["model_state_dict", "model"]]
)
def test_envelopes(envelopes, tmp_path):
    content = {"fc.weight": torch.arange(3)}
    for key in envelopes:
        content = {"epoch": 3, key: content}
    torch.save(content, tmp_path / "x.bin")
    assert read_weights(tmp_path / "x.bin").keys() == {"fc.weight"}


# --- sources


def _touch(file: Path, content: bytes = b"x") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    ("encoder_name", "files", "found"),
    [
        ("resnet18", ["resnet18.safetensors", "resnet34.safetensors"], 0),
        ("resnet18", ["resnet18.pth", "resnet18.a1_in1k.pth"], 0),
        ("resnet18", ["resnet18-f37072fd.pth", "resnet18-notahash.pth"], 0),
        ("resnet18", ["resnet18.pth", "resnet18.imagenet/model.safetensors"], 1),
        ("densenet121", ["densenet121-a639ec97.pth"], 0),
        ("efficientnet-b0", ["efficientnet-b0.imagenet/model.safetensors"], 0),
        ("tu-resnet18", ["resnet18.pth", "resnet18.a1_in1k/model.safetensors"], 1),
        ("tu-resnet18", ["resnet18-f37072fd.pth", "resnet18.tv_in1k.pth"], 0),
        ("tu-resnet18.tv_in1k", ["resnet18.pth", "resnet18.tv_in1k.safetensors"], 1),
    ],
)
def test_folder(encoder_name, files, found, tmp_path):
    paths = [_touch(tmp_path / name) for name in files]
    assert imagenet_source(encoder_name, str(tmp_path)).path == paths[found]


def test_folder_without_or_with_several(tmp_path):
    with pytest.raises(WeightsError, match=r"no weights for resnet18; looked for .*resnet18.pth"):
        imagenet_source("resnet18", str(tmp_path))
    _touch(tmp_path / "resnet18-f37072fd.pth")
    _touch(tmp_path / "resnet18-5c106cde.pth")
    with pytest.raises(
        WeightsError, match=r"several files for resnet18: resnet18-5c106cde.pth, resnet18-f"
    ):
        imagenet_source("resnet18", str(tmp_path))


def test_order_of_places(tmp_path, monkeypatch):
    typed = _touch(tmp_path / "mine.pth")
    found = _touch(tmp_path / "folder" / "resnet18.pth", b"y")
    monkeypatch.setenv(init.FOLDER_VARIABLE, str(found.parent))
    assert imagenet_source("resnet18", str(typed)).path == typed
    assert imagenet_source("resnet18").path == found
    with pytest.raises(WeightsError, match=r"folder: no weights for resnet34"):
        imagenet_source("resnet34")  # the hub is not tried
    monkeypatch.setenv(init.FOLDER_VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match=r"TLUNET_WEIGHTS=.*gone: does not exist"):
        imagenet_source("resnet18")
    with pytest.raises(ConfigError, match=r"init.path=.*typo.pth: does not exist"):
        imagenet_source("resnet18", str(tmp_path / "typo.pth"))
    monkeypatch.setenv(init.FOLDER_VARIABLE, "")
    assert imagenet_source("resnet18").repo == RESNET18[0]


def test_identity_is_the_content(tmp_path):
    one = imagenet_source("resnet18", str(_touch(tmp_path / "a" / "x.pth", b"one")))
    same = imagenet_source("resnet18", str(_touch(tmp_path / "b" / "y.pth", b"one")))
    other = imagenet_source("resnet18", str(_touch(tmp_path / "a" / "x.pth", b"two")))
    # printf one | sha256sum
    digest = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    assert one.identity == same.identity == f"sha256:{digest}"
    assert other.identity != one.identity


@pytest.mark.parametrize("make", [imagenet_source, lambda _, path: init.checkpoint_source(path)])
def test_missing_path(make, tmp_path):
    with pytest.raises(ConfigError, match=r"init\.path="):
        make("resnet18", str(tmp_path / "gone"))


def test_run_without_checkpoint(tmp_path):
    with pytest.raises(ConfigError, match=r"no checkpoint .*best\.ckpt"):
        init.checkpoint_source(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "repo", "revision"),
    [
        ("resnet18", *RESNET18),
        ("densenet121", "smp-hub/densenet121.imagenet", "a17c96896a265b61338f66f61d3887b24f61995a"),
        ("tu-resnet18", "timm/resnet18.a1_in1k", "main"),
        ("tu-resnet18.tv_in1k", "timm/resnet18.tv_in1k", "main"),
    ],
)
def test_hub_source(name, repo, revision):
    expected = init.WeightsSource(f"{repo}@{revision}", "model.safetensors", None, repo, revision)
    assert imagenet_source(name) == expected


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnext101_32x4d", "resnext101_32x8d"),  # it has other weights, not ImageNet's
        ("resnet81", "resnet18"),
        ("tu-resnet18.nope", "tu-resnet18.a1_in1k"),
        ("tu-sam2_hiera_tiny", "tu-hiera_tiny_224"),  # pre-trained, but not on ImageNet
    ],
)
def test_no_imagenet_weights(name, near):
    with pytest.raises(WeightsError, match=rf"{name}: no ImageNet weights .*\b{near}"):
        imagenet_source(name)


# --- the hub


def test_fetch_once_then_offline(hub_client, resnet18):
    content = safetensors.torch.save(resnet18.state_dict())
    source = imagenet_source("resnet18")
    key = "{}/resolve/{}/model.safetensors".format(*RESNET18)
    with _serve_hub({key: content}) as url:
        hub_client(url)
        assert init.why_unavailable(["resnet18"]) is None
        reason = init.why_unavailable(["resnet18", "densenet121"])
    assert reason == f"{url.partition('//')[2]}/smp-hub/densenet121.imagenet is not available"
    assert init.fetch(source).read_bytes() == content  # the hub is down now
    assert load_encoder(_encoder("resnet18"), read_weights(init.fetch(source)), source="").loaded


def test_unpinned_repository(hub_client):
    with _serve_hub({"timm/resnet18.a1_in1k/resolve/main/model.safetensors": b"abc"}) as url:
        hub_client(url)
        path = init.fetch(imagenet_source("tu-resnet18"))
    assert path.read_bytes() == b"abc"
    assert init.fetch(imagenet_source("tu-resnet18")) == path
    assert str(path) in init.why_unavailable(["tu-resnet18"])  # the file contains no weights


def _silent() -> socket.socket:
    """A server that accepts connections and never answers."""
    server = socket.create_server(("127.0.0.1", 0))
    server.listen(8)
    return server


@pytest.mark.parametrize("fault", ["404", "refused", "silent", "offline"])
def test_hub_cannot_give(fault, hub_client, monkeypatch):
    monkeypatch.setattr(init, "PATIENCE", 0.5)  # 5 s outside of tests
    began = time.monotonic()
    with _silent() as silent, _serve_hub({}) as url:
        if fault == "refused":
            url = "http://127.0.0.1:9"
        if fault == "silent":
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        hub_client(url)
        if fault == "offline":
            monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(WeightsError) as error:
            init.fetch(imagenet_source("resnet18"))
    reason = {"404": "404", "refused": "refused", "silent": "time", "offline": "offline mode"}
    message = str(error.value)
    host = url.removeprefix("http://")
    assert message.startswith(f"{host}/smp-hub/resnet18.imagenet is not available (")
    assert f"{url}/smp-hub/resnet18.imagenet/resolve/3f2325ff97" in message
    assert reason[fault] in message
    assert all(way in message for way in ["init.path=", "TLUNET_WEIGHTS", "random", "synthetic"])
    assert "\n" not in message
    assert time.monotonic() - began < 3  # the client alone retries for 23 s


def test_hub_that_never_resolves(hub_client, monkeypatch):
    monkeypatch.setattr(init, "PATIENCE", -1.5)  # half a second in total
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: time.sleep(2))
    hub_client("http://hub.invalid")
    began = time.monotonic()
    with pytest.raises(WeightsError, match="no answer"):
        init.fetch(imagenet_source("resnet18"))
    assert time.monotonic() - began < 1.5


@pytest.mark.slow
def test_main_in_its_own_process(tmp_path):
    """The variables are set by the user and read by the client on import."""
    settings = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-m", "tlunet.model.init", "resnet18", "densenet121"],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.count("\n") == 1
    assert run.stderr == (
        "No ImageNet weights: 127.0.0.1:9/smp-hub/resnet18.imagenet is not available.\n"
    )


def test_main_where_the_weights_are(resnet_file, monkeypatch, capsys):
    monkeypatch.setenv(init.FOLDER_VARIABLE, str(resnet_file.parent))
    assert init.main(["resnet18"]) == 0
    assert capsys.readouterr() == ("", "")


def test_every_error_is_the_users():
    assert issubclass(WeightsError, UserError)
