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


def test_from_images_and_masks_to_a_report(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    run_here: RunPy,
) -> None:
    def tlunet(*args: str) -> str:
        monkeypatch.setattr(sys, "argv", ["tlunet", *args])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code in (0, None)
        return capfd.readouterr().out

    monkeypatch.setattr("tlunet.report.report.figures", lambda *_: [])  # test_report draws them
    monkeypatch.chdir(tmp_path)
    write_folder(Path("my_steel"))
    assert "no problems found" in tlunet("data", "check", "my_steel", "--classes", CLASSES)
    line = ["data=folder", "data.root=my_steel", 'data.classes=[scratch,"rolled in"]']
    small = ["encoder.name=mobilenet_v2", "epochs=1", "logger=csv", "trainer.threads=1"]
    done = run_here(*line, "study=my_steel", *small, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    run = next(Path("runs/my_steel").glob("mobilenet_v2-*"))
    tlunet("predict", str(run), "my_steel/images/line2", "--out", "found")
    assert len(pd.read_csv("found/predictions.csv")) == 16 * 2
    tlunet("report", "runs/my_steel")
    assert "rolled in" in Path("runs/my_steel/report.html").read_text()
    results = pd.read_csv("runs/my_steel/results.csv")
    assert results[["dataset", "state"]].to_numpy().tolist() == [["folder", "finished"]]
