r"""Make the pictures of the README and the site from run folders.

    python docs/pictures.py hero runs/hero \
        experiments/neu_seg/figures/neu_seg_budget_epochs-forest.png
    python docs/pictures.py thumbnails runs/tlunet_paper_synthetic strips
    python docs/pictures.py demo runs/hero
    python docs/pictures.py terminal runs/synthetic
    PYTHONPATH=tests/fakes python docs/pictures.py wandb runs/panels
    python docs/pictures.py mean_teacher runs/rest/<cell>
    python docs/pictures.py copy_paste runs/synthetic/<cell>
    python docs/pictures.py predicted runs/tiles/<cell> data/tiles

`runs/hero` has two cells, trained on strips drawn at 128×800:

    tlunet data synth strips --n 256 --size 128x800
    python run.py -m data=severstal data.root=strips 'data.size=[64,400]' epochs=30 study=hero \
        encoder=efficientnet_lite0 init=imagenet,random

and so does `runs/panels`, logged offline:

    python run.py -m data=synthetic data.n=512 epochs=12 study=panels \
        encoder=efficientnet_lite0 init=random,imagenet logger.mode=offline

`runs/rest` has a cell that learns from images without masks:

    python run.py data=synthetic 'data.size=[64,128]' encoder=efficientnet_lite0 init=imagenet \
        frac=0.25 recipe=production epochs=4 steps=200 rest=mean_teacher rest.ramp=0.1 \
        data.n=384 tune=false study=rest

and `runs/tiles` what `tlunet train data/tiles` leaves (experiments/recipe/README.md).
"""

import io
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image
from playwright.sync_api import Error, Page, sync_playwright
from rich.console import Console
from rich.text import Text

from tlunet.data.bits import class_masks
from tlunet.data.drawing import draw, enlarged, enlarged_image
from tlunet.data.readers.pixels import read_image
from tlunet.data.sampling.copy_paste import CopyPaste
from tlunet.deploy.predict import Predictor
from tlunet.model.rest.rest import MeanTeacher
from tlunet.model.task import load_network
from tlunet.report.analysis.blocks import Key, collect
from tlunet.report.analysis.resampled import Resampled
from tlunet.report.figures.images.pictures import open_pictures
from tlunet.report.figures.style import COLOURS
from tlunet.runs.data import open_data

DOCS = Path(__file__).parent
ROOT = DOCS.parent
ROWS = ("strip", "truth", "random weights", "ImageNet weights")


def hero(study: Path, forest: Path) -> None:
    """Draw a test strip, its truth and two predictions, next to a forest plot.

    The strip is the first choice of Figure 7: the 90th percentile of the difference in Dice.

    Args:
        study: a study with EfficientNet-Lite0 from random and from ImageNet weights.
        forest: a forest plot.
    """
    [block] = [Resampled(block) for block in collect(study).blocks]
    keys = [Key("efficientnet_lite0", init, 1.0) for init in ("imagenet", "random")]
    pictures = open_pictures(study, *(block.cell(key) for key in keys))
    assert not isinstance(pictures, str), pictures
    name = next(iter(pictures.chosen))
    image = pictures.image(name)
    masks = [np.zeros((0, *image.shape[:2]), bool), _enlarged(pictures.truth(name), image.shape)]
    cells = block.data.cells.set_index("init")["folder"]
    for init in ("random", "imagenet"):
        [found] = Predictor.load(study / str(cells[init])).predict([pictures.files[name]])
        masks.append(found.masks)
    figure, axes = plt.subplots(4, 2, figsize=(14, 5.4))
    for ax, row, shown in zip(axes[:, 0], ROWS, masks, strict=True):
        ax.imshow(draw(image, shown), cmap="gray", vmin=0, vmax=255)
        ax.set_title(row, loc="left", fontsize=11)
        ax.axis("off")
    classes = enumerate(pictures.pack.classes)
    figure.legend(
        handles=[Patch(color=COLOURS[m], label=label) for m, label in classes],
        loc="lower left", bbox_to_anchor=(0.01, 0), ncols=4, frameon=False, fontsize=11,
    )  # fmt: skip
    for ax in axes[:, 1]:
        ax.remove()
    plot = figure.add_axes((0.5, 0.02, 0.5, 0.96))
    plot.imshow(plt.imread(forest), interpolation="antialiased")
    plot.axis("off")
    figure.subplots_adjust(0.01, 0.08, 0.99, 0.95, hspace=0.22, wspace=0.04)
    figure.savefig(DOCS / "hero.png", dpi=110)


def _enlarged(masks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    size = shape[1], shape[0]
    return np.stack([np.asarray(Image.fromarray(mask).resize(size)) for mask in masks])


def thumbnails(study: Path, strips: Path) -> None:
    """Photograph the report, its image browser and `data show`.

    Args:
        study: a study with EfficientNet-Lite0 from random and from ImageNet weights.
        strips: a data set for `data show`.
    """
    folder = DOCS / "thumbnails"
    folder.mkdir(exist_ok=True)
    report = (study / "report.html").resolve().as_uri()
    with _browser() as tab, tempfile.TemporaryDirectory() as scratch:
        tab.goto(report)
        tab.screenshot(path=DOCS / "report.png")
        shutil.copyfile(DOCS / "report.png", folder / "report.png")
        tab.locator("h2", has_text="Test images").first.scroll_into_view_if_needed()
        tab.evaluate("document.querySelector('.browser')?.scrollIntoView()")
        tab.wait_for_timeout(500)
        tab.screenshot(path=folder / "browser.png")
        sheet = Path(scratch) / "data.png"
        command = [sys.executable, "-m", "tlunet.cli", "data", "show", strips, "--out", sheet]
        subprocess.run(command, check=True)
        with Image.open(sheet) as picture:
            top = (0, 0, picture.width, round(picture.width * 900 / 1280))
            picture.crop(top).save(folder / "data.png")
    for file in folder.glob("*.png"):
        _shrink(file)


def demo(study: Path) -> None:
    """Photograph the demo of both networks of a study.

    Args:
        study: a study with one network from random and one from ImageNet weights.
    """
    runs = [next(study.glob(f"*-{init}-*")) for init in ("random", "imagenet")]
    command = [sys.executable, "-m", "tlunet.cli", "demo", *runs, "--no-browser", "--port", "7899"]
    file = DOCS / "thumbnails" / "demo.png"
    with subprocess.Popen(command) as process, _browser() as tab:
        for _ in range(120):
            try:
                tab.goto("http://127.0.0.1:7899")
                break
            except Error:
                time.sleep(1)
        tab.locator(".gallery-item, .gallery button, table.gallery td").first.click()
        tab.locator("#truth img").wait_for(timeout=60_000)
        tab.wait_for_timeout(3_000)
        tab.locator("#truth").scroll_into_view_if_needed()
        tab.screenshot(path=file)
        process.terminate()
    _shrink(file)


def terminal(study: Path) -> None:
    """Photograph `tlunet status` in a terminal of 80 columns.

    Args:
        study: a study.
    """
    line = f"tlunet status {study}"
    shown = subprocess.run(
        ["script", "-qec", f"stty cols 80; {Path(sys.executable).parent}/{line}", "/dev/null"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    console = Console(record=True, width=80, file=io.StringIO())
    console.print(Text(f"$ {line}"))
    console.print(Text.from_ansi(shown))
    with _browser() as tab:
        tab.set_content(console.export_svg(title="tlunet"))
        tab.wait_for_timeout(500)
        tab.locator("svg").first.screenshot(path=DOCS / "terminal.png")


def wandb(study: Path) -> None:
    """Draw what the offline runs of a study have recorded for W&B, in the dashboard's order.

    Args:
        study: a study with two cells, logged offline and never continued.
    """
    from wandb_record import read_record

    files = [next(study.glob(f"*-{init}-*/wandb/*/*.wandb")) for init in ("random", "imagenet")]
    runs = [read_record(file) for file in files]
    figure = plt.figure(figsize=(12, 9.4), layout="constrained")
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=(2.6, 2.5, 3.6))
    top.suptitle("Answer", x=0.01, ha="left", weight="bold")
    *_, plot = sorted(study.glob("wandb/*/files/media/images/figures/forest_*.png"))
    ax = top.subplots()
    ax.imshow(plt.imread(plot), interpolation="antialiased")
    ax.axis("off")
    middle.suptitle("Convergence by epoch", x=0.01, ha="left", weight="bold")
    for ax, name in zip(middle.subplots(1, 3), ("val_loss", "val_dice", "val_mla"), strict=True):
        for run in runs:
            points = [(row["epoch"], row[name]) for row in run.history if name in row]
            ax.plot(*zip(*points, strict=True), label=run.config["grid_init"])
        ax.set(title=name, xlabel="epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend(frameon=False)
    bottom.suptitle("test/examples: truth and prediction", x=0.01, ha="left", weight="bold")
    axes = bottom.subplots(3, 3)
    for column, place in zip(axes.T, (0, 2, 4), strict=True):
        for ax, (title, pixels) in zip(column, _example(files, runs, place), strict=True):
            ax.imshow(pixels)
            ax.set_title(title, fontsize=9, loc="left")
            ax.axis("off")
    figure.savefig(DOCS / "wandb.png", dpi=90)


def _example(files: list[Path], runs: list[Any], place: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield an example's truth, then each run's prediction, drawn from the recorded files."""
    for k, (file, run) in enumerate(zip(files, runs, strict=True)):
        shown = run.summary["test/examples"]
        media = file.parent / "files"
        image = np.asarray(Image.open(media / shown["filenames"][place]).convert("RGB"))
        for layer in ("truth", "prediction")[k > 0 :]:
            ids = np.asarray(Image.open(media / shown["all_masks"][place][layer]["path"]))
            masks = np.stack([ids == m + 1 for m in range(4)])
            title = f"{run.config['grid_init']}, {shown['captions'][place]}"
            yield ("truth" if layer == "truth" else title), draw(image, masks)


def mean_teacher(run: Path) -> None:
    """Draw what the network is to learn from images without masks: a part of one batch.

    Args:
        run: a run with `rest=mean_teacher`.
    """
    data = open_data(run)
    state = torch.load(run / "best.ckpt", weights_only=True)["state_dict"]
    strategy = MeanTeacher(len(data.pack.classes))
    strategy.confidence.copy_(state["rest.confidence"])
    rest = next(data.batches("train"))["rest"]
    torch.manual_seed(2)
    teacher = load_network(run)
    with torch.no_grad():
        probability = teacher(rest["image"]).masks.sigmoid()
    targets = strategy.prepare(rest, teacher)
    columns = {
        "flipped image": [(image, None, None) for image in rest["image"]],
        "teacher: probability > 1/2": zip(rest["image"], probability > 0.5, strict=False),
        "strong view: the student's image": [(image, None) for image in targets["image"]],
        "pseudo-labels; grey: left out": zip(
            targets["image"], targets["mask"], ~targets["kept"].all(1), strict=True
        ),
    }
    _sheet(columns, data.pack.classes, DOCS / "mean_teacher.png")


def copy_paste(run: Path) -> None:
    """Draw training images before and after a defect was pasted into them.

    Args:
        run: any run.
    """
    data = open_data(run)
    rows = data.rows["train"]
    augment = CopyPaste(0, 0, 1.0)
    augment.learn_from(data.pack, rows)
    before, after = [], []
    for row in rows[:7].tolist():
        image, bits = np.array(data.pack.images[row]), np.array(data.pack.masks[row])
        for part, (pixels, field) in (
            (before, (image, bits)),
            (after, augment.change(0, 0, row, image, bits)),
        ):
            masks = class_masks(field, len(data.pack.classes))
            part.append((torch.from_numpy(pixels)[None], torch.from_numpy(masks)))
    columns = {
        "training image": [(image, None) for image, _ in before],
        "its masks": before,
        "with a pasted defect": [(image, None) for image, _ in after],
        "masks that follow": after,
    }
    _sheet(columns, data.pack.classes, DOCS / "copy_paste.png")


def predicted(run: Path, root: Path) -> None:
    """Draw test images of each class and without one, and what the tuned network finds in them.

    Args:
        run: a run of `tlunet train`.
        root: its `images/` and `masks/`.
    """
    data = open_data(run)
    rows = data.rows["test"]
    labels, names = data.pack.labels[rows], data.pack.index["image_id"].to_numpy()[rows]
    kinds = {name: labels[:, m] for m, name in enumerate(data.pack.classes)}
    kinds["defect-free"] = ~labels.any(1)
    chosen = [(kind, *names[has][:2]) for kind, has in kinds.items()]
    predictor = Predictor.load(run, tuned=True)
    figure, axes = plt.subplots(len(chosen), 6, figsize=(9, 1.6 * len(chosen)))
    for line, (kind, *pair) in zip(axes, chosen, strict=True):
        for trio, name in zip((line[:3], line[3:]), pair, strict=True):
            file = root / "images" / name
            image = read_image(file)
            truth = np.asarray(Image.open((root / "masks" / name).with_suffix(".png")))
            [found] = predictor.predict([file])
            ids = np.arange(1, len(data.pack.classes) + 1)[:, None, None]
            parts = {kind: None, "truth": truth == ids, "predicted": found.masks}
            for ax, (title, masks) in zip(trio, parts.items(), strict=True):
                shown = enlarged_image(image, 3)
                if masks is not None:
                    shown = draw(shown, enlarged(masks, 3))
                ax.imshow(shown, cmap="gray", vmin=0, vmax=255)
                ax.set_title(title, fontsize=8)
                ax.axis("off")
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.97, hspace=0.2, wspace=0.04)
    _save(figure, ROOT / "experiments" / "recipe" / "figures" / "predicted.png")


def _sheet(columns: dict[str, Iterable[Any]], classes: Sequence[str], file: Path) -> None:
    """Draw a grid of grey images (1, H, W), their masks (M, H, W), and pixels (H, W) to hatch."""
    figure, axes = plt.subplots(7, len(columns), figsize=(11, 10.5))
    for column, (title, parts) in zip(axes.T, columns.items(), strict=True):
        column[0].set_title(title, fontsize=10)
        for ax, (image, masks, *unsure) in zip(column, parts, strict=False):
            pixels = enlarged_image(image[0].clamp(0, 255).numpy().astype(np.uint8), 4)
            if masks is not None:
                pixels = draw(pixels, enlarged(masks.numpy(), 4))
            ax.imshow(pixels, cmap="gray", vmin=0, vmax=255)
            if unsure and unsure[0] is not None:
                left_out = enlarged(unsure[0].numpy(), 4).astype(float)
                ax.imshow(left_out, cmap="gray", alpha=0.8 * left_out, vmin=0, vmax=2)
            ax.axis("off")
    figure.legend(
        handles=[Patch(color=COLOURS[m], label=label) for m, label in enumerate(classes)],
        loc="lower center", ncols=len(classes), frameon=False, fontsize=10,
    )  # fmt: skip
    figure.subplots_adjust(0.01, 0.05, 0.99, 0.96, hspace=0.06, wspace=0.03)
    _save(figure, file)


def _save(figure: Figure, file: Path) -> None:
    figure.savefig(file, dpi=90)
    with Image.open(file) as picture:
        picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(file, optimize=True)


def _shrink(file: Path) -> None:
    with Image.open(file) as picture:
        picture.resize((640, 450), Image.Resampling.LANCZOS).save(file, optimize=True)


@contextmanager
def _browser() -> Iterator[Page]:
    with sync_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 1280, "height": 900})
        browser.close()


if __name__ == "__main__":
    makers = {
        "wandb": wandb, "hero": hero, "thumbnails": thumbnails, "demo": demo, "terminal": terminal,
        "mean_teacher": mean_teacher, "copy_paste": copy_paste, "predicted": predicted,
    }  # fmt: skip
    makers[sys.argv[1]](*map(Path, sys.argv[2:]))
