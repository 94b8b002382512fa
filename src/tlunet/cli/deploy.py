"""``tlunet <verb> RUN``: a trained network in use."""

import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Annotated

import typer

from tlunet.cli.opening import (
    check_options,
    choose_machine,
    open_network,
    require,
    sample_images,
    title_of,
)
from tlunet.errors import ConfigError, DataError, visible

app = typer.Typer()

Run = Annotated[Path, typer.Argument(help="A finished run's folder.")]


@app.command()
def predict(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|MODEL.onnx",
            help="A finished run's folder, a checkpoint, or what tlunet export wrote.",
        ),
    ],
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH…", help="Images, folders of images, or - for a list on standard input."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for what is found.")],
    overlay: Annotated[
        str | None,
        typer.Option(help="Also overlays/: what was found over each image, tint or outline."),
    ] = None,
    submission: Annotated[
        bool, typer.Option("--submission", help="Also submission.csv, as Kaggle took it.")
    ] = False,
    tuned: Annotated[
        bool,
        typer.Option("--tuned", help="By the rules that tlunet tune found, instead of 0.5."),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, bf16-mixed or 32-true.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Images of one size at a time.")] = 8,
) -> None:
    """Find the defects in images of any size with a trained network.

    predictions.csv has a row per image and class: image, class_id, class_name,
    probability (that the class is in the image), area_pixels, area_share,
    label (1: the classifier says it is there), boxes (x0 y0 x1 y1; ... of the
    connected regions, largest first, 100 at most; x1, y1 one past the last).

    masks/<image>.png is a bit field of the image's own size: a pixel's value
    is the sum of 2^(m-1) over the classes m found there, so 1 is class 1,
    2 class 2, 4 class 3, 5 classes 1 and 3. One byte a pixel up to 8 classes,
    two up to 16. Images of another size than the run's are resized on their
    way to the network, their masks brought back by nearest neighbour.

    With MODEL.onnx neither torch nor anything else of training is needed.

        tlunet predict runs/severstal/resnet-... strips/ --out found --overlay tint

        find / -name '*.jpg' | tlunet predict model.onnx - --out found

    Exit code 1: some images could not be read; the others are predicted.
    """
    from tlunet.deploy.listing import list_paths
    from tlunet.deploy.output import Output
    from tlunet.deploy.overlay import check_style
    from tlunet.deploy.stream import Unreadable
    from tlunet.machine.console import bars, complain, say

    check_options(device, precision)
    check_style(overlay)
    images, faults = list_paths(_spelt_out(paths))
    stream = open_network(run, tuned, device, precision, batch_size)
    for path, reason in faults:
        complain(visible(f"{path}: {reason}"))
    predicted, failed = 0, len(faults)
    written = Output(out, images, stream.classes, overlay=overlay, submission=submission)
    try:
        with written as output, bars() as bar:
            task = bar.add_task("predicting", total=len(images), note="")
            for outcome in stream.predict(images):
                if isinstance(outcome, Unreadable):
                    complain(visible(f"{outcome.path}: {outcome.reason}"))
                    failed += 1
                else:
                    output.add(outcome)
                    predicted += 1
                bar.advance(task)
    except OSError as error:  # a disk that is full, a folder where a mask should go
        raise DataError(
            f"{error.filename2 or error.filename or out}: {error.strerror}; no table is written"
        ) from error
    say(f"{predicted} predicted, {failed} could not be read: {written.table}")
    if failed:
        raise typer.Exit(1)


def _spelt_out(paths: list[Path]) -> Iterator[Path]:
    """The paths, ``-`` replaced by the lines of the standard input, as they come."""
    for path in paths:
        if path == Path("-"):
            lines = (line.rstrip("\r\n") for line in sys.stdin)
            yield from (Path(line) for line in lines if line.strip())
        else:
            yield path


@app.command()
def export(
    run: Run,
    out: Annotated[
        Path | None, typer.Option(help="The file; by default model.onnx or model.pt2 in RUN.")
    ] = None,
    kind: Annotated[
        str, typer.Option("--format", help="onnx, or torch for torch.export.")
    ] = "onnx",
    fixed_size: Annotated[
        bool, typer.Option("--fixed-size", help="For images of the training size alone.")
    ] = False,
) -> None:
    """Write a trained network as one file that other programs run without this one.

    The file has one input, image: float32 (B, 1 or 3, H, W), grey levels 0...255,
    normalised inside. It has two outputs, probabilities: masks (B, M, H, W) and
    labels (B, M). Any number of images; H and W in multiples of 32 where the
    training size is one, else any above 32; with --fixed-size the training size
    alone, for encoders whose arithmetic depends on it. Its metadata hold the
    class names, the threshold, the tuned rules if there are any, the training
    size and the run's digest.

    It is run and compared with the original before it appears under its name, on
    noise and on images of the run's test part; the largest difference is printed
    and kept in the metadata.

        tlunet export runs/severstal/resnet-...

        tlunet predict runs/severstal/resnet-.../model.onnx strips/ --out found
    """
    if kind not in ("onnx", "torch"):
        raise ConfigError(f"--format {kind}: allowed are onnx and torch")
    require("export", "onnx", "onnxruntime", "onnxscript")
    from tlunet.deploy.card import check_finished
    from tlunet.deploy.export import TOLERANCE
    from tlunet.deploy.export import export as write
    from tlunet.machine.console import say

    if not run.exists():
        raise DataError(f"{run}: no such folder; expected a finished run's")
    check_finished(run)
    path, found = write(run, kind, out, list(sample_images(run, 4).values()), fixed_size)
    say(
        f"{path}: differs from the original by at most {found.masks:.1e} (pixels) and "
        f"{found.labels:.1e} (labels) of a probability, {TOLERANCE:g} is allowed; "
        f"compared on {found.images} images, {found.real} of them of the test part"
    )


@app.command()
def tune(
    run: Run,
    goal: Annotated[
        str, typer.Option(help="dice_kaggle, iou_kaggle, dice_image or iou_image.")
    ] = "dice_kaggle",
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto (as the run was tested), bf16-mixed or 32-true.")
    ] = "auto",
) -> None:
    """Fit thresholds, smallest areas, a gate and flips to a run, on validation only.

    Per class: the pixel threshold, the area below which a mask is dropped, the
    classifier's probability below which a mask is dropped (gate), and the
    threshold of the label; and whether the mean over flipped views is taken.
    What is fitted is measured once on the test part and written to
    RUN/tuned.json as tuned_dice_kaggle and so on, beside the numbers at the
    run's own threshold, which stay the ones to compare with the paper.

    The goal is Kaggle's Dice by default, the score that the competition was
    decided by: an image rightly left empty counts 1, so it rewards what these
    rules can do, drop false masks. Labels are fitted for MLA.

        tlunet tune runs/severstal/resnet-...

        tlunet predict runs/severstal/resnet-... strips/ --out found --tuned
    """
    check_options(device, precision)
    from tlunet.deploy.card import check_finished, read_meta
    from tlunet.deploy.predict import Predictor
    from tlunet.deploy.tuning.gains import show
    from tlunet.deploy.tuning.tune import check_goal, check_same
    from tlunet.deploy.tuning.tune import tune as fit
    from tlunet.machine.console import console, progress, say
    from tlunet.machine.files import read_json, write_json
    from tlunet.runs.data import open_data

    check_goal(goal)
    if not run.is_dir():
        raise DataError(f"{run}: no such folder; expected a finished run's")
    check_finished(run)
    meta, known = read_meta(run), read_json(run / "metrics.json")
    if not known:
        raise DataError(f"{run / 'metrics.json'}: no such file; expected a finished run's folder")
    machine = choose_machine(device, meta["precision"] if precision == "auto" else precision)
    predictor = Predictor.load(run, device=machine.device, precision=machine.precision)
    with progress() as report:
        data = open_data(run, report)
        data.eval_batch_size = machine.eval_batch_size(data.batch_size)
        done = dict.fromkeys(("val", "test"), 0)

        def tell(part: str, images: int) -> None:
            done[part] += images
            report(f"{part} part, four views", done[part], len(data.rows[part]))

        tested = data.split["subset"] == "test"
        groups = data.split.loc[tested, "group"].to_numpy()
        tuned = fit(predictor, data.batches, meta["size"], groups, goal, tell)
    is_same_machine = (machine.accelerator, machine.precision) == (
        meta.get("accelerator"), meta.get("precision"),
    )  # fmt: skip
    apart = check_same(tuned.test, known, is_same_machine)
    write_json(run / "tuned.json", tuned.as_dict() | {"digest": meta.get("digest")})
    console.print(show(tuned, predictor.classes))
    say(f"At the run's threshold as in metrics.json (apart by {apart:.1e} at most).")
    say(f"{run / 'tuned.json'}: tlunet predict … --tuned decides by it, tlunet export keeps it.")


@app.command()
def demo(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A finished run's folder, or a model.onnx.")
    ],
    other: Annotated[
        Path | None, typer.Argument(metavar="[RUN2]", help="Another, to stand beside it.")
    ] = None,
    tuned: Annotated[
        bool, typer.Option("--tuned", help="By the rules that tlunet tune found.")
    ] = False,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="By default the first free from 7860.")
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
) -> None:
    r"""Open a page: drop an image, see what a network finds in it, or two side by side.

    Masks over the image, and for each class the probability, the area and the
    number of regions. The page is served to this machine alone; nothing is sent
    out or fetched, and what was dropped is gone when the page is closed (Ctrl+C).
    Images of the run's test part stand below it to try, where they are here.

        tlunet demo runs/severstal/resnet-random-... runs/severstal/resnet-imagenet-...

    Needs Gradio: pip install '.\[demo]'.
    """
    check_options(device, "auto")
    require("demo", "gradio")
    from tlunet.machine.console import say

    runs = [run] if other is None else [run, other]
    networks = {title_of(one, runs): open_network(one, tuned, device, "auto", 1) for one in runs}
    examples = sample_images(run, 6)
    from tlunet.deploy.demo import served

    try:
        with served(networks, examples, port, browser) as address:
            say(f"{address} (Ctrl+C ends it)")
            Event().wait()
    except KeyboardInterrupt:
        say("closed")
    except OSError as error:
        taken = "another program listens there; give another, or none"
        raise ConfigError(f"--port {port}: {taken}") from error
