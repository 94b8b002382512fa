"""``tlunet <command> RUN``: predict, export, tune and demo a trained network."""

import codecs
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Annotated

import typer

from tlunet.cli.opening import (
    check_options,
    choose_machine,
    example_images,
    open_network,
    sample_images,
    titles_of,
)
from tlunet.errors import ConfigError, DataError, path_of, reason_of, visible
from tlunet.machine.counted import counted
from tlunet.machine.versions import require_extra

app = typer.Typer()

Run = Annotated[Path, typer.Argument(help="Folder of a finished run.")]


@app.command()
def predict(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|MODEL.onnx",
            help="Folder of a finished run, a checkpoint, or a file from `tlunet export`.",
        ),
    ],
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH…", help="Images, image folders, or - to read a list from standard input."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Output folder.")],
    overlay: Annotated[
        str | None,
        typer.Option(help="Also write overlays/: masks drawn on each image, tint or outline."),
    ] = None,
    submission: Annotated[
        bool, typer.Option("--submission", help="Also write submission.csv, in Kaggle's format.")
    ] = False,
    tuned: Annotated[
        bool,
        typer.Option("--tuned", help="Use the thresholds fitted by `tlunet tune`, not 0.5."),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, bf16-mixed or 32-true.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch (same size).")] = 8,
    tile: Annotated[
        bool,
        typer.Option(
            "--tile", help="Cut images larger than the training size into tiles; do not resize."
        ),
    ] = False,
    overlap: Annotated[
        float,
        typer.Option(
            min=0, max=0.9, help="With --tile: fraction of a tile that its neighbours cover too."
        ),
    ] = 0.25,
) -> None:
    """Find defects in images of any size with a trained network.

    predictions.csv has one row per image and class: image, class_id,
    class_name, probability (that the image contains the class), area_pixels,
    area_share, label (1: predicted by the classifier), boxes (x0 y0 x1 y1; ...
    of the connected regions, largest first, at most 100; x1 and y1 are
    exclusive).

    masks/<image>.png is a bit field at the original image size: a pixel's
    value is the sum of 2^(m-1) over the classes m found there, so 1 is class
    1, 2 is class 2, 4 is class 3 and 5 is classes 1 and 3. One byte per pixel
    for up to 8 classes, two for up to 16, four for up to 32 (red, green, blue
    and alpha hold eight classes each).

    Images that differ from the training size are resized for the network, and
    the probabilities are resized back before the threshold. With --tile,
    larger images keep their scale: the network sees overlapping tiles of the
    training size, and their probabilities are blended. An image contains a
    class as probably as the tile with the highest probability: the more tiles,
    the more false alarms, so judge images by the masks, or set the thresholds
    on tiled images. Use --tile if the network was trained at the scale of its
    images, without data.size.

    MODEL.onnx needs neither torch nor any other training dependency.

        tlunet predict runs/severstal/resnet-... strips/ --out found --overlay tint

        find / -name '*.jpg' | tlunet predict model.onnx - --out found

    Exit code 1: some images were unreadable, or some files could not be
    written; the rest is complete.
    """
    from tlunet.deploy.listing import list_paths
    from tlunet.deploy.output import Output
    from tlunet.deploy.overlay import check_style
    from tlunet.deploy.stream import Unreadable, squeeze
    from tlunet.machine.console import bars, complain, say

    check_options(device, precision)
    check_style(overlay)
    images, problems, notes = list_paths(_spelt_out(paths), out)
    stream = open_network(run, tuned, device, precision, batch_size, overlap if tile else None)
    complain(*(visible(f"{path}: {reason}") for path, reason in problems), *map(visible, notes))
    predicted, unreadable, squeezed, tiled = 0, len(problems), None, 0
    written = Output(
        out, images, stream.classes, overlay=overlay, submission=submission,
        tell=lambda line: complain(visible(line)),
    )  # fmt: skip
    try:
        with written as output, bars() as bar:
            task = bar.add_task("predicting", total=len(images), note="")
            for outcome in stream.predict(images):
                if isinstance(outcome, Unreadable):
                    complain(visible(f"{outcome.path}: {outcome.reason}"))
                    unreadable += 1
                else:
                    if not squeezed and (squeezed := squeeze(outcome, stream)):
                        complain(visible(squeezed))
                    tiled += stream.tiles(outcome.image)
                    output.add(outcome)
                    predicted += 1
                bar.advance(task)
    except OSError as error:  # a full disk
        raise DataError(
            f"{path_of(error, out)}: {reason_of(error)}; no table was written"
        ) from error
    images_word = "image" if predicted == 1 else "images"
    kept = [f"{predicted} {images_word}", f"{written.defective} with defects"]
    kept += [f"{unreadable} unreadable"] if unreadable else []
    kept += [f"{counted(written.unwritten, 'file')} not written"] if written.unwritten else []
    say(f"{', '.join(kept)} → {out}/")
    if tiled:
        many = "1 image was" if tiled == 1 else f"{tiled} images were"
        say(f"{many} cut into tiles: the probability of each class is the maximum over the tiles")
    if unreadable or written.unwritten:
        raise typer.Exit(1)


def _spelt_out(paths: list[Path]) -> Iterator[Path]:
    """Yield the paths; ``-`` is replaced by the lines of standard input, one at a time.

    Names are bytes, in whatever encoding; ``find -print0`` ends them with a zero byte.
    """
    for path in paths:
        if path != Path("-"):
            yield path
            continue
        for number, line in enumerate(sys.stdin.buffer):
            if number == 0 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise DataError("standard input: UTF-16; expected UTF-8, one path per line")
            line = line.removeprefix(codecs.BOM_UTF8 if number == 0 else b"")
            names = line.rstrip(b"\r\n").split(b"\0")
            yield from (Path(os.fsdecode(name)) for name in names if name.strip())


@app.command()
def export(
    run: Run,
    out: Annotated[
        Path | None,
        typer.Option(help="Output file or folder. Default: model.onnx or model.pt2 in RUN."),
    ] = None,
    kind: Annotated[str, typer.Option("--format", help="onnx, or torch (torch.export).")] = "onnx",
    fixed_size: Annotated[
        bool, typer.Option("--fixed-size", help="Accept the training size only.")
    ] = False,
) -> None:
    """Export a trained network to ONNX or torch.export.

    The file has one input, image: float32 (B, 1 or 3, H, W), grey levels 0...255;
    normalisation is included. It has two outputs, both probabilities: masks
    (B, M, H, W) and labels (B, M). The batch size is free. H and W must be
    multiples of 32 if the training size is, otherwise any value above 32; with
    --fixed-size only the training size, for encoders whose computation depends
    on it. The metadata contain the class names, the threshold, the tuned rules
    (if any), the training size and the run's digest.

    The file is written only after its outputs match the original's, on noise and
    on test images of the run. The largest difference is printed and stored in
    the metadata.

        tlunet export runs/severstal/resnet-...

        tlunet predict runs/severstal/resnet-.../model.onnx strips/ --out found
    """
    if kind not in ("onnx", "torch"):
        raise ConfigError(f"--format {kind}: expected onnx or torch")
    require_extra("export", "onnx", "onnxruntime", "onnxscript", what="tlunet export")
    from tlunet.deploy.export import TOLERANCE, output
    from tlunet.deploy.export import export as write
    from tlunet.machine.console import say
    from tlunet.runs.folder import check_finished

    if not run.exists():
        raise DataError(f"{run}: no such folder; expected a finished run")
    check_finished(run)
    output(run, kind, out)  # a wrong suffix is reported before anything is loaded
    path, difference = write(run, kind, out, list(sample_images(run, 4).values()), fixed_size)
    say(
        f"{path}: matches PyTorch: max. difference {difference.masks:.1e} (pixel probabilities), "
        f"{difference.labels:.1e} (label probabilities); tolerance {TOLERANCE:g}; "
        f"compared on {difference.images} images, {difference.real} from the test set"
    )


@app.command()
def tune(
    run: Run,
    goal: Annotated[
        str, typer.Option(help="dice_kaggle, iou_kaggle, dice_image or iou_image.")
    ] = "dice_kaggle",
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto (as in the run's test), bf16-mixed or 32-true.")
    ] = "auto",
) -> None:
    """Fit thresholds, minimum areas, a gate and flips of a run on the validation set.

    Fits per class the pixel threshold, the area below which a mask is dropped,
    the label probability below which a mask is dropped (gate), and the label
    threshold; and whether to average over flipped views. The result is
    measured once on the test set and written to RUN/tuned.json as
    tuned_dice_kaggle and so on, next to the scores at the run's own threshold.
    Compare only the latter with the paper.

    The default goal is Kaggle's Dice, the metric of the competition: an image
    correctly left empty counts 1, so it rewards dropping false masks. Label
    thresholds are fitted for MLA.

        tlunet tune runs/severstal/resnet-...

        tlunet predict runs/severstal/resnet-... strips/ --out found --tuned
    """
    check_options(device, precision)
    from tlunet.deploy.tuning.gains import show
    from tlunet.deploy.tuning.run import tune_run
    from tlunet.deploy.tuning.tune import check_goal
    from tlunet.machine.console import console, say
    from tlunet.runs.folder import read_meta

    check_goal(goal)
    if precision == "auto" and run.is_dir():
        precision = read_meta(run)["precision"]
    done = tune_run(run, choose_machine(device, precision), goal)
    console.print(show(done.tuned, done.classes))
    apart = f"{done.difference:.1e}"
    say(f"At the run's threshold, scores match metrics.json (largest difference {apart}).")
    say(f"{run / 'tuned.json'}: used by tlunet predict … --tuned, included by tlunet export.")


@app.command()
def demo(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of a finished run, or a model.onnx.")
    ],
    other: Annotated[
        Path | None, typer.Argument(metavar="[RUN2]", help="Second run to compare.")
    ] = None,
    tuned: Annotated[
        bool, typer.Option("--tuned", help="Use the thresholds fitted by `tlunet tune`.")
    ] = False,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Default: first free port from 7860.")
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
) -> None:
    r"""Try a network, or compare two, in your browser.

    Drop an image to see its masks and, for each class, the probability, the
    area and the number of regions; a slider changes the threshold. Test images
    of the run are offered with their ground truth and Dice, if they are
    available. The page is only available on this machine. Nothing is sent or
    downloaded, and uploaded images are deleted when you stop the server
    (Ctrl+C).

        tlunet demo runs/severstal/resnet-random-... runs/severstal/resnet-imagenet-...

    Needs Gradio: pip install '.\[demo]'.
    """
    check_options(device, "auto")
    require_extra("demo", "gradio", what="tlunet demo")
    from tlunet.machine.console import say

    runs = [run] if other is None else [run, other]
    opened = (open_network(one, tuned, device, "auto", 1) for one in runs)
    titles, common = titles_of(runs)
    networks = dict(zip(titles, opened, strict=True))
    examples = example_images(run, 6)
    from tlunet.deploy.demo.demo import served

    try:
        with served(networks, examples, port, browser, common) as address:
            say(f"{address} (Ctrl+C to stop)")
            Event().wait()
    except KeyboardInterrupt:
        say("stopped")
    except OSError as error:
        if port is None:
            raise ConfigError(f"{reason_of(error)}; choose a free port: --port NUMBER") from error
        is_taken = error.errno == errno.EADDRINUSE
        why = "port in use" if is_taken else reason_of(error)
        raise ConfigError(f"--port {port}: {why}, choose another") from error
