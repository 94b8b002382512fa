"""A user's own folder, from images and masks to a report: the commands of docs/data.md."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tlunet import cli
from tlunet.data.synthetic.generate import draw

RunPy = Callable[..., subprocess.CompletedProcess[str]]
CLASSES = "scratch,rolled in"


def write_folder(root: Path) -> None:
    """32 colour images; scratches and patches of the synthetic strips have ids 1 and 2."""
    kinds = ((), (3,), (4,), (3, 4))
    for k in range(32):
        picture, masks = draw(k, size=(32, 64), seed=0, classes=kinds[k % 4])
        ids = np.where(masks[2], 1, np.where(masks[3], 2, 0)).astype(np.uint8)
        folder = "line2" if k % 2 else "."
        for kind in ("images", "masks"):
            (root / kind / folder).mkdir(parents=True, exist_ok=True)
        colours = np.stack([picture, picture // 2, picture // 3], axis=-1)
        Image.fromarray(colours).save(root / "images" / folder / f"{k:04}.bmp")
        Image.fromarray(ids).save(root / "masks" / folder / f"{k:04}.png")


@pytest.fixture
def tlunet(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run a command in this process and return what it printed."""

    def run(*args: str) -> str:
        monkeypatch.setattr(sys, "argv", ["tlunet", *args])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code in (0, None)
        return capfd.readouterr().out

    return run


SMALL = ["encoder.name=mobilenet_v2", "epochs=1", "logger=csv", "trainer.threads=1"]


def test_from_images_and_masks_to_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tlunet: Callable[..., str], run_here: RunPy
) -> None:
    monkeypatch.setattr("tlunet.report.sections.figures", lambda *_: [])  # test_report draws them
    monkeypatch.chdir(tmp_path)
    write_folder(Path("my_steel"))
    assert "no problems found" in tlunet("data", "check", "my_steel", "--classes", CLASSES)
    line = ["data=folder", "data.root=my_steel", 'data.classes=[scratch,"rolled in"]']
    done = run_here(*line, "study=my_steel", *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    run = next(Path("runs/my_steel").glob("mobilenet_v2-*"))
    tlunet("predict", str(run), "my_steel/images/line2", "--out", "found")
    assert len(pd.read_csv("found/predictions.csv")) == 16 * 2
    tlunet("report", "runs/my_steel")
    assert "rolled in" in Path("runs/my_steel/report.html").read_text()
    results = pd.read_csv("runs/my_steel/results.csv")
    assert results[["dataset", "state"]].to_numpy().tolist() == [["folder", "finished"]]


def test_coils_of_images_of_many_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tlunet: Callable[..., str], run_here: RunPy
) -> None:
    """The lines that each refusal prints lead to predictions at every image's own size."""
    monkeypatch.chdir(tmp_path)
    sizes = {}
    for k in range(32):
        size = (32 + k, 64 + 3 * k)
        picture, masks = draw(k, size=size, seed=0, classes=((3,), ())[k % 2])
        name = f"coil{k // 2:02}_{k}.png"
        sizes[name] = size[::-1]
        for kind, pixels in {"images": picture, "masks": masks[2] * np.uint8(255)}.items():
            Path("steel", kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(Path("steel", kind, name))
    line = ["data=folder", "data.root=steel", "data.classes=[scratch]", *SMALL]
    for key, says in {
        "epochs=1": "if 255 is a single class, set data.foreground=255",
        "data.foreground=255": "data.size=[64,160] resizes all",
        "data.size=[64,160]": "",
    }.items():
        done = run_here(*line, key, "data.fit=pad", "data.groups='^(coil[0-9]+)_'", cwd=tmp_path)
        assert (done.returncode, "Traceback" in done.stderr) == (2 if says else 0, False)
        line.append(key)
        assert says in done.stderr
    assert "data.groups: 16 groups stay on one side; the largest has 2" in done.stdout
    [run] = Path("runs/folder").glob("mobilenet_v2-*")
    split = pd.read_csv(run / "split.csv")
    sides = split.groupby(split["image_id"].str[:6])["subset"].nunique()
    assert sides.tolist() == [1] * 16
    assert split["group"].nunique() == 16
    tlunet("predict", str(run), "steel/images", "--out", "found")
    found = {}
    for path in Path("found/masks").iterdir():
        with Image.open(path) as mask:
            found[path.name] = mask.size
    assert found == sizes
