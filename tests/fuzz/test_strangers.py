"""Untrusted files: no code in them is ever executed, whichever way they are loaded."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml
from fuzz.mutations import fuzz, spoilt
from hypothesis import given, settings

from tlunet import cli
from tlunet.deploy.listing import list_paths
from tlunet.deploy.predict import Predictor
from tlunet.errors import ConfigError, UserError
from tlunet.model.network import TLUNet
from tlunet.model.task import DefectTask, load_network
from tlunet.model.weights import read_weights
from tlunet.study.config.command import read_command
from tlunet.study.config.instantiate import instantiate
from tlunet.study.training.resolve import resolve

CONF = Path(__file__).parents[2] / "conf"
Run = Callable[..., subprocess.CompletedProcess[str]]


class Code:
    """An object whose pickle creates a folder when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.marker,)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A folder that exists only if untrusted code was executed."""
    return tmp_path / "executed"


def write_code(path: Path, marker: Path, kind: str) -> Path:
    content = {"state_dict": {"x": torch.zeros(1)}, "epoch": Code(marker)}
    if kind == "zip":
        torch.save(content, path)
    elif kind == "legacy":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(content))
    return path


def test_the_files_below_are_armed(tmp_path: Path, marker: Path) -> None:
    write_code(tmp_path / "a.ckpt", marker, "pickle")
    pickle.loads((tmp_path / "a.ckpt").read_bytes())
    assert marker.exists()


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_weights_and_checkpoints_that_would_run_code(
    tmp_path: Path, marker: Path, kind: str
) -> None:
    for suffix in (".ckpt", ".pth", ".safetensors"):
        file = write_code(tmp_path / f"stranger{suffix}", marker, kind)
        for read in (read_weights, load_network, Predictor.load):
            with pytest.raises(UserError) as caught:
                read(file)
            [line] = caught.value.lines
            assert line.startswith(str(file))
            assert suffix == ".safetensors" or "refused, loading it would execute code" in line
            assert len(line) < 400
    assert not marker.exists()


def test_predict_with_a_run_that_would_run_code(
    tmp_path: Path,
    marker: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_code(tmp_path / "best.ckpt", marker, "zip")
    (tmp_path / "a.jpg").write_bytes(b"")
    out = str(tmp_path / "found")
    line = ["tlunet", "predict", str(tmp_path), str(tmp_path / "a.jpg"), "--out", out]
    monkeypatch.setattr(sys, "argv", line)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"{tmp_path}/best.ckpt: refused, loading it would ex")
    assert not marker.exists()


def test_what_is_predicted_lies_in_the_folder_that_was_named(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for path in (folder / "a.jpg", tmp_path / "secret.jpg"):
        path.write_bytes(b"")
    (folder / "b.jpg").symlink_to(tmp_path / "secret.jpg")
    os.mkfifo(folder / "c.jpg")
    listing = list_paths([folder, folder / "c.jpg"])
    assert list(listing.images) == [folder / "a.jpg"]
    assert [str(path) for path, _ in listing.problems] == [
        str(folder / "b.jpg"),
        str(folder / "c.jpg"),
        str(folder / "c.jpg"),
    ]


TINY = ("encoder.name=mobilenet_v2", "data=synthetic", "data.n=16", "epochs=1", "logger=csv",
        "trainer=cpu", "trainer.threads=1")  # fmt: skip


def test_starting_weights_that_would_run_code(run_here: Run, tmp_path: Path, marker: Path) -> None:
    file = write_code(tmp_path / "stranger.ckpt", marker, "zip")
    done = run_here(*TINY, "init=checkpoint", f"init.path={file}", cwd=tmp_path)
    assert done.returncode == 2  # before anything is drawn or packed
    assert f"{file}: refused, loading it would execute code" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not marker.exists()


def test_a_run_beside_secrets_goes_on_from_a_strangers_checkpoint(
    run_here: Run, tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cells = read_command(TINY, CONF)
    assert cells
    folder = tmp_path / resolve(cells[0]).folder
    folder.mkdir(parents=True)
    (folder / "status.json").write_text('{"state": "running"}')
    write_code(folder / "last.ckpt", marker, "zip")
    secrets = {"WANDB_API_KEY": "a" * 40, "HF_TOKEN": "hf_0123456789abcdef"}
    done = run_here(*TINY, cwd=tmp_path, **secrets)
    assert not marker.exists()
    assert "last.ckpt cannot be read" in done.stdout
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "metrics.json").exists()
    texts = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(secret.encode() in text for secret in secrets.values() for text in texts)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """One of our checkpoints without most weights, so that damage hits its structure."""
    folder = tmp_path_factory.mktemp("sound")
    spec = TLUNet("mobilenet_v2", classes=2).spec
    few = {"encoder.a": torch.zeros(2, 3), "encoder.b": torch.ones(4)}
    content = {"state_dict": few, "hyper_parameters": {"network": spec, "classes": ["a", "b"]}}
    torch.save(content, folder / "zip")
    torch.save(content, folder / "legacy", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(few, folder / "safe")
    return [(folder / name).read_bytes() for name in ("zip", "legacy", "safe")]


@pytest.mark.filterwarnings("ignore::UserWarning")  # from torch, about protocols and storages
@pytest.mark.parametrize(("original", "suffix"), [(0, ".ckpt"), (1, ".pth"), (2, ".safetensors")])
def test_damaged_weights(
    sound: list[bytes], tmp_path_factory: pytest.TempPathFactory, original: int, suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"

    @settings(fuzz, max_examples=60)
    @given(spoilt([sound[original]]))
    def look(content: bytes) -> None:
        path.write_bytes(content)
        tensors = {}
        try:
            tensors = read_weights(path)
        except UserError as error:
            assert_one_line(error, path)
        assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())

    look()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_checkpoints(sound: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.ckpt"

    @settings(fuzz, max_examples=20)
    @given(spoilt(sound[:2]))
    def look(content: bytes) -> None:
        path.write_bytes(content)
        with pytest.raises(UserError) as caught:  # even undamaged, it lacks weights
            load_network(path)
        assert_one_line(caught.value, path)

    look()


@pytest.mark.parametrize(
    "hyper_parameters",
    [
        None,
        [],
        {"network": None},
        {"network": {"encoder": "mobilenet_v2", "classes": 10**9}},
        {"network": {"encoder": "mobilenet_v2", "classes": -1}},
        {"network": {"encoder": "mobilenet_v2", "classes": "2"}},
        {"network": {"encoder": "../../etc/passwd", "classes": 2}},
        {"network": {"encoder": "tu-hf-hub:stranger/model", "classes": 2}},
        {"network": {"encoder": "mobilenet_v2", "classes": 2, "mean": "abc"}},
        {"network": {"encoder": "mobilenet_v2", "classes": 2, "loss": "os.system"}},
    ],
)
def test_a_checkpoint_of_another_make(tmp_path: Path, hyper_parameters: object) -> None:
    path = tmp_path / "other.ckpt"
    torch.save({"state_dict": {}, "hyper_parameters": hyper_parameters}, path)
    with pytest.raises(UserError) as caught:
        load_network(path)
    assert_one_line(caught.value, path)


def test_names_that_do_not_fit_the_network(tmp_path: Path) -> None:
    task = DefectTask(TLUNet("mobilenet_v2", classes=2), classes=["a", "b"])
    state = {k: v for k, v in task.state_dict().items() if k.startswith("network.")}
    path = tmp_path / "a.ckpt"
    for odd in ({"classes": ["a"]}, {"classes": "ab"}, {"classes": 3}, {"threshold": "0.5"}):
        known = dict(task.hparams) | odd
        torch.save({"state_dict": state, "hyper_parameters": known}, path)
        with pytest.raises(UserError, match="classes or threshold do not match its network"):
            Predictor.load(path)


def assert_one_line(error: UserError, path: Path) -> None:
    [line] = error.lines
    assert line.startswith(str(path))
    assert line.isprintable()
    assert len(line) < 400


# --- configuration files ---------------------------------------------------------------------

TARGETS = {
    "os.system": "not allowed",
    "builtins.eval": "not allowed",
    "torchx.Code": "no such class",
    "hydra.utils.call": "not allowed",
    "torch.os.system": "no such class",  # through an import of a module
    "torch.serialization.os.system": "no such class",
    "tlunet.study.training.record.subprocess.run": "no such class",
    "tlunet.data.pack.pack.os.mkdir": "no such class",
    "torch.": "not allowed",
    "torch..nn.L1Loss": "not allowed",
    "torch.load": "not a loss, an augmentation or a transform",
    "torch.hub.load": "not a loss, an augmentation or a transform",
    "torch.utils.data.DataLoader": "not a loss, an augmentation or a transform",
    "tlunet.machine.parallel.processes": "not a loss, an augmentation or a transform",
    "pytorch_lightning.Trainer": "not a loss, an augmentation or a transform",
    "torch.distributed.elastic.multiprocessing.subprocess_handler.SubprocessHandler": "not a loss",
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("place", ["top", "argument", "list", "deep"])
def test_a_target_that_may_not_be_made(target: str, place: str, marker: Path) -> None:
    evil = {"_target_": target, "_args_": [str(marker)]} if place == "top" else {"_target_": target}
    around: dict[str, Any] = {"_target_": "torch.nn.Sequential"}
    config = {
        "top": evil,
        "argument": around | {"arg": evil},
        "list": around | {"args": [1, evil]},
        "deep": around | {"args": [{"a": {"b": [evil]}}]},
    }[place]
    with pytest.raises(ConfigError, match=TARGETS[target] if place != "top" else "not") as caught:
        instantiate(config)
    assert len(caught.value.lines) <= 2
    assert not marker.exists()


def test_what_is_made_of_wrong_arguments_is_one_line() -> None:
    for config, says in (
        ({"_target_": "torch.nn.L1Loss", "reductoin": "sum"}, "unexpected keyword argument"),
        ({"_target_": "tlunet.data.augment.Augment", "horizontal": 2}, "augment.horizontal=2: exp"),
        ({"_target_": "tlunet.data.augment.Augment", "vertical": "x"}, "cannot be created with"),
        ({"_target_": "torch.nn.L1Loss", "_partial_": True}, "_partial_: not allowed with"),
    ):
        with pytest.raises(ConfigError, match=says) as caught:
            instantiate(config)
        assert len(caught.value.lines) == 1


def test_a_run_folders_configuration_is_data(tmp_path: Path, marker: Path) -> None:
    """A report reads it to find the images."""
    cells = read_command(TINY, CONF)
    assert cells
    from omegaconf import OmegaConf

    config: Any = OmegaConf.to_container(cells[0])
    config["augment"] = {"_target_": "os.mkdir", "path": str(marker)}
    with pytest.raises(ConfigError, match=r"_target_=os\.mkdir: not allowed"):
        instantiate(config["augment"])
    assert not marker.exists()


HEAD: dict[str, Any] = {"defaults": ["config", "_self_"]}
EVIL = {"_target_": "os.mkdir", "path": "executed"}
FILES: dict[str, tuple[dict[str, Any], str]] = {
    "a target": ({"loss": EVIL}, "loss._target_=os.mkdir: not allowed"),
    "a target in a new key": ({"extra": {"x": [EVIL]}}, "extra: no such key"),
    "a callback": ({"hydra": {"callbacks": {"x": EVIL}}}, "hydra.callbacks.x._target_=os.mkdir: n"),
    "a callback by detour": (
        {"augment": {"transform": EVIL}, "hydra": {"callbacks": {"x": "${augment.transform}"}}},
        "hydra.callbacks.x._target_=os.mkdir: not allowed",
    ),
    "a sweeper": (
        {"hydra": {"sweeper": {"_target_": "os.mkdir"}}},
        "hydra.sweeper._target_=os.mkdir: not allowed",
    ),
    "a part of a sweeper": (
        {"hydra": {"sweeper": {"params": {"x": EVIL}}}},
        "hydra.sweeper.params.x._target_=os.mkdir: not allowed",
    ),
    "a launcher": (
        {"hydra": {"launcher": {"_target_": "torch.os.mkdir"}}},
        "hydra.launcher._target_=torch.os.mkdir: not allowed",
    ),
    "a log handler": (
        {"hydra": {"job_logging": {"handlers": {"x": {"()": "os.mkdir", "path": "executed"}}}}},
        "hydra.job_logging.handlers.x.()=os.mkdir: not allowed",
    ),
    "a log class": (
        {"hydra": {"hydra_logging": {"handlers": {"x": {"class": "logging.os.mkdir"}}}}},
        "hydra.hydra_logging.handlers.x.class=logging.os.mkdir: not allowed",
    ),
    "a decoded target": (
        {"augment": {"transform": "${oc.decode:'{_target_: os.mkdir, path: executed}'}"}},
        "os.mkdir: not allowed",
    ),
    "a key that nobody reads": ({"epoch": 3}, "epoch: no such key, did you mean epochs?"),
    "a key below that nobody reads": ({"data": {"sise": 3}}, "data.sise: no such key, did you me"),
    "an endless detour": ({"study": "${study}"}, "Recursive interpolation"),
    "two that name each other": ({"study": "${loss.a}", "loss": {"a": "${study}"}}, "Recursive"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_strangers_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    content, says = FILES[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(HEAD | content))
    with pytest.raises(ConfigError) as caught:
        read_command(["-cd", str(tmp_path), "-cn", "sweep"], CONF)
    assert says in str(caught.value)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "content", ["a: [", "- a\n- b\n", "a: !!python/name:os.system\n", "\0", "é"]
)
def test_an_experiment_that_is_no_yaml(tmp_path: Path, content: str) -> None:
    (tmp_path / "sweep.yaml").write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        read_command(["-cd", str(tmp_path), "-cn", "sweep"], CONF)
    assert all(len(line) < 1000 for line in caught.value.lines)
