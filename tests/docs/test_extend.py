"""docs/extend.md: its files are put in place, its changes made, and the result runs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from PIL import Image

from studies import write_grid
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.synthetic.generate import draw
from tlunet.errors import DataError
from tlunet.report.analysis.blocks import collect
from tlunet.report.analysis.resampled import Resampled, score_table
from tlunet.report.figures.figures import Drawing

ROOT = Path(__file__).parents[2]
PAGE = "docs/extend.md"


@pytest.fixture
def checkout(fenced: Callable, tmp_path: Path) -> Path:
    """run.py and conf/, with the page's own files."""
    shutil.copy(ROOT / "run.py", tmp_path)
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    for block in fenced("extend.md"):
        if block.language == "yaml" or block.title == "my_steel.py":
            file = tmp_path / block.title
            assert not file.exists()
            file.parent.mkdir(exist_ok=True)
            file.write_text(block.code)
    return tmp_path


@pytest.fixture
def page(fenced: Callable, monkeypatch: pytest.MonkeyPatch) -> Iterator["Page"]:
    with monkeypatch.context() as patch:
        yield Page(fenced("extend.md"), patch)


class Page:
    """The page's Python, as if it stood in the files that it names; undone after the test."""

    def __init__(self, blocks: list, patch: pytest.MonkeyPatch) -> None:
        self.blocks, self.patch = blocks, patch

    def add(self, file: str) -> None:
        """The page's new module, or its new part of a module."""
        [block] = [b for b in self.blocks if b.title == file and b.language == "python"]
        if not (ROOT / file).exists():
            self._run(file, block.code)
            return
        module = sys.modules[_name(file)]
        namespace = dict(vars(module))
        exec(block.compiled(PAGE), namespace)
        for name in namespace.keys() - vars(module).keys():
            self.patch.setattr(module, name, namespace[name], raising=False)

    def change(self, file: str) -> ModuleType:
        """The page's change of a module; the change must fit."""
        [block] = [b for b in self.blocks if b.title == file and b.language == "diff"]
        text = (ROOT / file).read_text(encoding="utf-8")
        for hunk in block.code.split("@@\n"):
            lines = hunk.splitlines(keepends=True)
            before = "".join(line[1:] for line in lines if not line.startswith("+"))
            after = "".join(line[1:] for line in lines if not line.startswith("-"))
            assert text.count(before) == 1, f"{file} has this not once:\n{before}"
            text = text.replace(before, after)
        return self._run(file, text)

    def anew(self, file: str) -> ModuleType:
        """A module as it is, on top of what was changed."""
        return self._run(file, (ROOT / file).read_text(encoding="utf-8"))

    def _run(self, file: str, text: str) -> ModuleType:
        module = ModuleType(_name(file))
        self.patch.setitem(sys.modules, module.__name__, module)
        package, _, name = module.__name__.rpartition(".")
        self.patch.setattr(import_module(package), name, module, raising=False)
        exec(compile(text, file, "exec"), vars(module))
        return module


def _name(file: str) -> str:
    return file.removeprefix("src/").removesuffix(".py").replace("/", ".")


def run(checkout: Path, *line: str) -> Path:
    """Run a cell of the page and return its folder."""
    path = os.pathsep.join([str(checkout), str(ROOT / "src")])
    done = subprocess.run(
        [sys.executable, "run.py", *line],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return max(checkout.glob("runs/*/*/status.json"), key=lambda file: file.stat().st_mtime).parent


@pytest.mark.slow
@pytest.mark.parametrize("line", [["-cd", "studies", "-cn", "mine"], ["encoder=mobilenet"]])
def test_own_classes(checkout: Path, tiny: tuple[str, ...], line: list[str]) -> None:
    line = line if line[0] == "-cd" else [*line, "loss=tversky", "loss.missed=0.6"]
    folder = run(checkout, *line, "augment._target_=my_steel.Rotate180", *tiny)
    is_mine = line[0] == "-cd"
    assert folder.name.startswith("TinyEncoder-" if is_mine else "mobilenet_v2-")
    config = OmegaConf.load(folder / "config.yaml")
    assert config.loss == {"_target_": "my_steel.TverskyLoss", "missed": 0.6}
    assert config.augment["_target_"] == "my_steel.Rotate180"


def test_a_decoder(page: Page) -> None:
    network = page.change("src/tlunet/model/network.py")
    masks, labels = network.TLUNet("resnet18", classes=2, arch="linknet").eval()(
        torch.zeros(1, 1, 64, 96)
    )
    assert (masks.shape, labels.shape) == ((1, 2, 64, 96), (1, 2))


def test_a_data_set(page: Page, checkout: Path, tmp_path: Path) -> None:
    steel = tmp_path / "steel"
    steel.mkdir()
    for k in range(32):
        image, masks = draw(k, size=(32, 64), seed=0, classes=[(), (1,), (2,), (1, 2)][k % 4])
        Image.fromarray(image).save(steel / f"{k:02}.png")
        ids = np.where(masks[1], 2, masks[0]).astype(np.uint8)
        Image.fromarray(ids).save(steel / f"{k:02}_mask.png")
    page.add("src/tlunet/data/readers/beside.py")
    page.change("src/tlunet/data/readers/layouts.py")
    dataset = page.anew("src/tlunet/data/dataset.py")
    rules = page.anew("src/tlunet/study/config/values.py")
    choice = OmegaConf.load(checkout / "conf/data/beside.yaml")
    assert rules.check(OmegaConf.create({"data": choice})) == []

    data = DefectDataModule(dataset.OnDisk(choice.name, steel), tmp_path / "cache", batch_size=8)
    data.prepare_data()
    data.setup()
    batch = next(data.batches("train"))
    assert data.pack.classes == ("scratch", "dent")
    assert batch["mask"].shape == (8, 2, 32, 64)
    assert batch["label"].any(0).all()

    (steel / "07_mask.png").unlink()
    data = DefectDataModule(dataset.OnDisk(choice.name, steel), tmp_path / "cache")
    with pytest.raises(DataError, match=r"07\.png: has no mask 07_mask\.png"):
        data.prepare_data()


def test_a_figure(page: Page, tmp_path: Path) -> None:
    page.add("src/tlunet/report/figures/shares.py")
    drawings = page.change("src/tlunet/report/figures/figures.py")
    study = write_grid(tmp_path / "study", 24, encoders=("resnet",), fracs=(1.0,), seeds=(0,))
    block = Resampled(collect(study).blocks[0], replicates=20)
    drawn = {}

    def draw(name: str, title: str, caption: str, figure: Figure) -> None:
        drawn[name] = title, caption, figure  # saved, all of them would take seconds

    drawings.figures(block, score_table([block]), draw)
    title, caption, figure = drawn["shares_up_to"]
    assert (title, caption) == ("Fraction of images up to a Dice", "Further right is better.")
    assert len(figure.axes[0].lines) == 2  # random, imagenet
    Drawing(tmp_path, "", set())("shares_up_to", title, caption, figure)
    assert (tmp_path / "figures/shares_up_to.png").stat().st_size > 5000
