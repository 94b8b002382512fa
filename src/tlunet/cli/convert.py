"""``tlunet data convert``: convert annotations from other tools to masks."""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tlunet.errors import ConfigError, visible
from tlunet.machine.command_line import run_command, tlunet_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tlunet.data.convert.paint import Converted

app = typer.Typer()
FORMATS = ("coco", "yolo")


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(help="COCO: the JSON file. YOLO: the folder with data.yaml.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder to create.")],
    from_: Annotated[str, typer.Option("--from", help="coco or yolo.")],
    images: Annotated[
        Path | None,
        typer.Option(help="COCO only: image folder, if it is not next to the JSON file."),
    ] = None,
) -> None:
    """Make a folder of images and masks from COCO or YOLO polygons.

    Reads COCO instances (polygons and run-length encoding) or YOLO segmentation
    labels, as annotation tools export them, and writes PNG masks of class ids
    for data=folder. Boxes are rejected because they have no outline. A mask
    has one class per pixel: where objects of different classes overlap, the
    smaller one wins, and the pixels that each class loses are reported.

        tlunet data convert export/instances.json my_steel --from coco

    Nothing is written if there is any problem. Needs supervision (the extra
    convert).
    """
    from tlunet.data.convert import coco, yolo
    from tlunet.data.convert.paint import convert as paint
    from tlunet.machine.console import progress

    if from_ not in FORMATS:
        raise ConfigError(f"--from {from_}: expected {', '.join(FORMATS)}")
    if images and from_ != "coco":
        raise ConfigError("--images: only for --from coco; YOLO's folders define where images are")
    labelled = coco.read(source, images) if from_ == "coco" else yolo.read(source)
    with progress() as report:
        done = paint(labelled, out, report)
    _say(done, labelled.classes, labelled.unused, out)


def _say(done: "Converted", classes: "Sequence[str]", unused: int, out: Path) -> None:
    from tlunet.machine.console import say

    say(visible(
        f"{out}: {done.images} images ({done.free} without objects), {done.objects} objects of "
        f"{len(classes)} classes: {', '.join(f'{m} = {c}' for m, c in enumerate(classes, 1))}"
    ))  # fmt: skip
    if unused:
        say(f"{unused} images have no annotation entry and are skipped")
    if done.empty:
        say(f"{done.empty} objects cover no pixels")
    lost = [
        f"{name} {gone} of {whole} pixels"
        for name, gone, whole in zip(classes, done.lost, done.pixels, strict=True)
        if gone
    ]
    say(visible(f"lost to overlaps (the smaller object wins): {', '.join(lost) or 'none'}"))
    view = tlunet_command("data", "show", out, "--classes", _row(classes))
    train = run_command(("data", "folder"), ("data.root", out), ("data.classes", classes))
    say(visible(f"view it: {view}"))
    say(visible(f"train on it: {train}"))


def _row(classes: "Sequence[str]") -> str:
    """Format the names for ``--classes``.

    >>> print(_row(["scratch", "rolled in, flat"]))
    scratch,"rolled in, flat"
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(classes)
    return text.getvalue()
