"""``tlunet data convert``: convert annotations from other tools to masks."""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tlunet.errors import ConfigError, DataError, visible
from tlunet.machine.command_line import run_command, tlunet_command

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from tlunet.data.convert.labelled import Labelled
    from tlunet.data.convert.paint import Converted

app = typer.Typer()
FORMATS = ("coco", "yolo")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")


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

    Nothing is written if there is any problem. Run-length encoding needs
    supervision (the extra convert).
    """
    from tlunet.data.convert import coco, yolo
    from tlunet.data.convert.paint import convert as paint
    from tlunet.machine.console import progress

    if from_ not in FORMATS:
        raise ConfigError(f"--from {from_}: expected {', '.join(FORMATS)}")
    if images and from_ != "coco":
        raise ConfigError("--images: only for --from coco; YOLO's folders define where images are")
    if source.suffix.lower() in ARCHIVES:
        raise DataError(f"{source}: an archive; unpack it and pass what is in it")
    labelled = coco.read(source, images) if from_ == "coco" else yolo.read(source)
    with progress() as report:
        done = paint(labelled, out, report)
    _say(done, labelled, out)


def _say(done: "Converted", labelled: "Labelled", out: Path) -> None:
    from tlunet.machine.console import say
    from tlunet.machine.counted import counted

    classes = labelled.classes
    named = ", ".join(f"{m} = {c}" for m, c in enumerate(classes, 1))
    say(visible(
        f"{out}: {counted(done.images, 'image')} ({done.free} without objects), "
        f"{counted(done.objects, 'object')} of {counted(len(classes), 'class', 'classes')}: {named}"
    ))  # fmt: skip
    for note in labelled.notes:
        say(visible(note))
    if done.empty:
        say(f"without a pixel inside of its image: {counted(done.empty, 'object')}")
    lost = [
        f"{name} {gone} of {whole} pixels"
        for name, gone, whole in zip(classes, done.lost, done.pixels, strict=True)
        if gone
    ]
    say(visible(f"lost to overlaps (the smaller object wins): {', '.join(lost) or 'none'}"))
    size = _size(done.sizes)
    train = run_command(("data", "folder"), ("data.root", out), ("data.classes", classes), *size)
    view = tlunet_command("data", "show", out, "--classes", _row(classes))
    say(visible(f"view it: {view}"))
    say(visible(f"train on it: {train}"))


def _size(sizes: "Counter[tuple[int, int]]") -> "list[tuple[str, Sequence[int]]]":
    """Say that the images differ in size, and return the key that resizes them."""
    from tlunet.data.sizes import common_size
    from tlunet.machine.console import say

    if len(sizes) == 1:
        return []
    (low, left), (high, right) = (tuple(map(end, *sizes)) for end in (min, max))
    height, width = common_size(sizes)
    say(
        f"the images have {len(sizes)} sizes, {low} to {high} pixels high and {left} to {right} "
        f"wide; data.size resizes them ({height}×{width} is near the median size)"
    )
    return [("data.size", (height, width))]


def _row(classes: "Sequence[str]") -> str:
    """Format the names for ``--classes``.

    >>> print(_row(["scratch", "rolled in, flat"]))
    scratch,"rolled in, flat"
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(classes)
    return text.getvalue()
