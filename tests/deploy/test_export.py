"""Exported networks match the original and work without torch."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from deploy.networks import CLASSES, SIZE, THRESHOLD, write_checkpoint
from onnx import TensorProto, helper
from packaging.version import Version

from tlunet.deploy.card import Card
from tlunet.deploy.export import TOLERANCE, compare, export, output
from tlunet.deploy.predict import Predictor
from tlunet.deploy.rules import Rules
from tlunet.deploy.runtime import OnnxPredictor
from tlunet.deploy.stream import Prediction
from tlunet.errors import ConfigError, DataError
from tlunet.model.network import TLUNet
from tlunet.model.task import load_network

Line = Callable[..., int]
RULES = Rules((0.4, 0.5, 0.6, 0.5), (0, 60, 0, 0), (0.0, 0.0, 0.0, 0.5), (0.3,) * 4, "both")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small run that was tuned and exported, with model.onnx."""
    folder = write_checkpoint(tmp_path_factory.mktemp("runs") / "small", "resnet18")
    (folder / "tuned.json").write_text(json.dumps({"rules": RULES.as_dict()}))
    strips = list(np.random.default_rng(1).integers(0, 256, (3, *SIZE), dtype=np.uint8))
    path, difference = export(folder, "onnx", strips=strips)
    assert path == folder / "model.onnx"
    assert max(difference[:2]) <= TOLERANCE
    assert difference[2:] == (9, 3)
    return folder


def test_one_input_two_outputs_and_what_it_says_of_itself(exported: Path) -> None:
    session = onnxruntime.InferenceSession(exported / "model.onnx")
    [image], outputs = session.get_inputs(), session.get_outputs()
    assert (image.name, image.type, len(image.shape)) == ("image", "tensor(float)", 4)
    assert all(isinstance(side, str) for side in image.shape)  # no dimension is fixed
    assert [one.name for one in outputs] == ["masks", "labels"]
    said = session.get_modelmeta().custom_metadata_map
    known = {key: json.loads(text) for key, text in said.items()}
    assert known["classes"] == list(CLASSES)
    assert known["threshold"] == THRESHOLD
    assert known["size"] == list(SIZE)
    assert (known["encoder"], known["arch"]) == ("resnet18", "unet")
    assert known["digest"] == "0123456789abcdef"
    assert known["tuned"] == RULES.as_dict()
    assert known["tolerance"] == TOLERANCE
    assert 0 <= known["difference"]["masks"] <= TOLERANCE


@pytest.mark.slow
def test_an_encoder_whose_padding_depends_on_the_size(tmp_path: Path) -> None:
    """Its symbolic sizes once grew with every layer, and the export did not end."""
    folder = write_checkpoint(tmp_path / "lite", "timm-tf_efficientnet_lite0")
    path, difference = export(folder, "onnx")
    assert max(difference[:2]) <= TOLERANCE
    session = onnxruntime.InferenceSession(path)
    masks, _ = session.run(None, {"image": np.zeros((1, 1, 96, 160), np.float32)})
    assert masks.shape == (1, len(CLASSES), 96, 160)  # another size than in training


@pytest.mark.parametrize(
    ("kind", "out", "written"),
    [
        ("onnx", None, "run/model.onnx"),
        ("torch", None, "run/model.pt2"),
        ("onnx", "line3", "line3.onnx"),
        ("torch", "steel.v1", "steel.v1.pt2"),
        ("onnx", "new/steel.onnx", "new/steel.onnx"),
        ("onnx", "STEEL.ONNX", "STEEL.ONNX"),
        ("onnx", "run", "run/model.onnx"),
    ],
)
def test_where_it_is_written(kind: str, out: str | None, written: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    there = None if out is None else tmp_path / out
    assert output(tmp_path / "run", kind, there) == tmp_path / written


@pytest.mark.parametrize("shape", [(1, 1, 32, 64), (5, 3, 64, 32), (2, 1, 96, 160)])
def test_any_number_of_images_of_any_size_in_grey_or_colour(
    exported: Path, shape: tuple[int, ...]
) -> None:
    session = onnxruntime.InferenceSession(exported / "model.onnx")
    image = np.random.default_rng(2).uniform(0, 255, shape).astype(np.float32)
    masks, labels = session.run(None, {"image": image})
    with torch.no_grad():
        expected = load_network(exported)(torch.from_numpy(image))
    np.testing.assert_allclose(masks, expected.masks.sigmoid(), atol=TOLERANCE)
    np.testing.assert_allclose(labels, expected.labels.sigmoid(), atol=TOLERANCE)
    assert 0.02 < (masks > 0.5).mean() < 0.98


@pytest.mark.parametrize("tuned", [False, True])
def test_both_predict_the_same(exported: Path, images: Path, tuned: bool) -> None:
    paths = sorted(images.rglob("*.*"))
    theirs = OnnxPredictor.load(exported / "model.onnx", tuned=tuned, batch_size=2)
    ours = Predictor.load(exported, tuned=tuned, batch_size=3)
    assert (theirs.rules == RULES) == tuned
    for a, b in zip(theirs.predict(paths), ours.predict(paths), strict=True):
        assert (type(a), a.path) == (type(b), b.path)
        if isinstance(a, Prediction) and isinstance(b, Prediction):
            np.testing.assert_allclose(a.probabilities, b.probabilities, atol=TOLERANCE)
            assert (a.bits == b.bits).mean() > 0.995  # a probability may be at a threshold
            assert a.labels.tolist() == b.labels.tolist()


WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "pandas", "pytorch_lightning", "torchmetrics",
                "hydra", "omegaconf", "matplotlib", "timm", "wandb", "yaml", "jinja2", "pyarrow"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
sys.argv = ["tlunet", *sys.argv[1:]]
from tlunet.cli import main
main()
"""


def without_torch(*line: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, *map(str, line)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    "line", [("tune", "RUN"), ("predict", "RUN", __file__, "--out", "o"), ("data", "check", ".")]
)
def test_what_needs_more_says_so(line: tuple[str, ...], exported: Path) -> None:
    done = without_torch(*(exported if word == "RUN" else word for word in line))
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (2, 1, "")
    assert (
        " is not installed; this command needs the full package (pip install . in a checkout)"
        in done.stderr
    )


def test_predict_works_without_torch(exported: Path, images: Path, tmp_path: Path) -> None:
    line = "predict", exported / "model.onnx", images, "--out", tmp_path, "--tuned"
    more = "--overlay", "outline", "--submission"
    done = without_torch(*line, *more)
    assert done.stdout.startswith("7 images, 7 with defects, 1 unreadable → "), done.stderr
    assert done.returncode == 1
    assert len(list((tmp_path / "masks").rglob("*.png"))) == 7
    assert len(list((tmp_path / "overlays").rglob("*.jpg"))) == 7
    assert (tmp_path / "submission.csv").read_text().count("\n") == 1 + 7 * len(CLASSES)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["fpn", "unetplusplus"])
def test_the_other_decoders(arch: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / arch, arch=arch)
    path, difference = export(folder, "onnx")
    assert max(difference[:2]) <= TOLERANCE
    image = np.random.default_rng(2).uniform(0, 255, (3, 1, 96, 160)).astype(np.float32)
    session = onnxruntime.InferenceSession(path)
    masks, _ = session.run(None, {"image": image})
    with torch.no_grad():
        expected = load_network(folder)(torch.from_numpy(image)).masks.sigmoid()
    np.testing.assert_allclose(masks, expected, atol=TOLERANCE)
    assert json.loads(session.get_modelmeta().custom_metadata_map["arch"]) == arch


@pytest.mark.slow
@pytest.mark.skipif(
    Version(torch.__version__) < Version("2.12"), reason="torch 2.11 needs --fixed-size for them"
)
def test_a_program_of_torch_export_of_odd_sizes(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "odd", "resnet18", (50, 70))
    (tmp_path / "out").mkdir()
    path, difference = export(folder, "torch", tmp_path / "out" / "here.pt2")
    assert max(difference[:2]) <= TOLERANCE
    assert difference.real == 0
    files = {"tlunet.json": ""}
    module = torch.export.load(path, extra_files=files).module()
    assert json.loads(json.loads(files["tlunet.json"])["classes"]) == list(CLASSES)
    image = torch.rand(1, 1, 41, 99) * 255
    with torch.no_grad():
        masks, _ = module(image)
        expected = load_network(folder)(image).masks.sigmoid()
    torch.testing.assert_close(masks, expected, atol=TOLERANCE, rtol=0)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["here.pt2"]


@pytest.mark.slow
def test_a_size_that_is_fixed(exported: Path, tmp_path: Path) -> None:
    path, difference = export(exported, "torch", tmp_path / "fixed.pt2", is_fixed=True)
    assert max(difference[:2]) <= TOLERANCE
    module = torch.export.load(path).module()
    assert module(torch.zeros(3, 1, *SIZE))[0].shape == (3, len(CLASSES), *SIZE)
    with pytest.raises(AssertionError, match="Guard failed"):
        module(torch.zeros(1, 1, 64, 64))


@pytest.mark.parametrize("apart", [1e-3, float("nan")])
def test_what_differs_is_refused(network: TLUNet, apart: float) -> None:
    def other(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            masks, labels = network(torch.from_numpy(images))
        return masks.sigmoid().numpy(), labels.sigmoid().numpy() + np.float32(apart)

    with pytest.raises(ConfigError, match=r"probabilities differ by .* nothing was written"):
        compare(network, other, Card(CLASSES, 0.5, SIZE, "resnet18"), [])


def write_onnx(path: Path, name: str = "image", metadata: bool = False) -> Path:
    """Write a foreign network that returns its input."""
    value = helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("masks", TensorProto.FLOAT, [1])
    labels = helper.make_tensor_value_info("labels", TensorProto.FLOAT, [1])
    nodes = [helper.make_node("Identity", [name], [to]) for to in ("masks", "labels")]
    graph = helper.make_graph(nodes, "g", [value], [out, labels])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.onnx", r"nowhere\.onnx: no such file; tlunet export RUN writes"),
        ("text.onnx", r"text\.onnx: cannot be read as an ONNX file"),
        ("cut.onnx", r"cut\.onnx: cannot be read as an ONNX file"),
        ("other.onnx", r"other\.onnx: input x, output masks, labels; expected input image, output"),
        ("bare.onnx", r"bare\.onnx: metadata of tlunet export is missing"),
    ],
)
def test_a_strangers_file_is_a_line(
    name: str, message: str, exported: Path, images: Path, tmp_path: Path, tlunet: Line,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "text.onnx").write_text("no network")
    (tmp_path / "cut.onnx").write_bytes((exported / "model.onnx").read_bytes()[:5000])
    write_onnx(tmp_path / "other.onnx", "x")
    write_onnx(tmp_path / "bare.onnx")
    assert tlunet("predict", tmp_path / name, images, "--out", tmp_path / "out") == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    with pytest.raises(DataError, match=message):
        OnnxPredictor.load(tmp_path / name)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere"], "nowhere: no such folder; expected a finished run"),
        (["RUNNING"], "its state is 'running', not finished"),
        (["RUN", "--format", "tensorrt"], "--format tensorrt: expected onnx or torch"),
        (["RUN", "--out", "/proc/no/m.onnx"], "/proc/no/m.onnx: cannot be written"),
        (["RUN", "--out", "m.pt"], "--out m.pt: --format onnx writes .onnx, not .pt"),
        (["RUN", "--out", "m.pt2"], "--out m.pt2: --format onnx writes .onnx; use --format torch"),
    ],
)
def test_a_mistake_is_a_line_and_exit_code_2(
    args: list[str], message: str, run: Path, tmp_path: Path, tlunet: Line,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    running = tmp_path / "running"
    running.mkdir()
    (running / "best.ckpt").write_bytes((run / "best.ckpt").read_bytes())
    (running / "status.json").write_text('{"state": "running"}')
    here = [{"RUN": run, "RUNNING": running}.get(arg, arg) for arg in args]
    assert tlunet("export", *here) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (run / "model.onnx").exists()


def test_devices_and_precisions_that_an_exported_network_has_not(
    exported: Path, images: Path, tmp_path: Path, tlunet: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "predict", exported / "model.onnx", images, "--out", tmp_path / "out"
    assert tlunet(*line, "--device", "mps") == 2
    assert "--device mps: ONNX Runtime" in capsys.readouterr().err
    assert tlunet(*line, "--precision", "bf16-mixed") == 2
    assert "an exported network computes in float32" in capsys.readouterr().err
