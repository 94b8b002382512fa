"""``tlunet <verb> RUN``: a trained network in use."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from tlunet.errors import ConfigError, visible

app = typer.Typer()

DEVICES = ("auto", "cuda", "mps", "cpu")
PRECISIONS = ("auto", "bf16-mixed", "32-true")


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="A finished run's folder, or a checkpoint.")],
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH…", help="Images, folders of images, or - for a list on standard input."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for predictions.csv and masks/.")],
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, bf16-mixed or 32-true.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Images of one size at a time.")] = 8,
) -> None:
    """Find the defects in images of any size with a trained network.

    predictions.csv has a row per image and class: image, class_id, class_name,
    probability (that the class is in the image), area_pixels, area_share.

    masks/<image>.png is a bit field of the image's own size: a pixel's value
    is the sum of 2^(m-1) over the classes m found there, so 1 is class 1,
    2 class 2, 4 class 3, 5 classes 1 and 3. One byte a pixel up to 8 classes,
    two up to 16. Images of another size than the run's are resized on their
    way to the network, their masks brought back by nearest neighbour.

    Exit code 1: some images could not be read; the others are predicted.
    """
    from tlunet.deploy.output import Output, list_paths
    from tlunet.deploy.predict import Predictor, Unreadable
    from tlunet.study.console import bars, complain, say
    from tlunet.study.hardware import choose

    if device not in DEVICES or precision not in PRECISIONS:
        raise ConfigError(
            f"--device {device} --precision {precision}: allowed are {', '.join(DEVICES)} "
            f"and {', '.join(PRECISIONS)}"
        )
    images, faults = list_paths(_spelt_out(paths))
    try:
        machine = choose(device, precision)
    except ConfigError as error:
        raise ConfigError(f"--device {device}: there is none here; take auto or cpu") from error
    predictor = Predictor.load(
        run,
        device=machine.device,
        precision=machine.precision,
        batch_size=batch_size,
        threads=machine.threads,
    )
    for path, reason in faults:
        complain(visible(f"{path}: {reason}"))
    predicted, failed = 0, len(faults)
    with Output(out, images, predictor.classes, machine.threads) as output, bars() as bar:
        task = bar.add_task("predicting", total=len(images), note="")
        for outcome in predictor.predict(images):
            if isinstance(outcome, Unreadable):
                complain(visible(f"{outcome.path}: {outcome.reason}"))
                failed += 1
            else:
                output.add(outcome)
                predicted += 1
            bar.advance(task)
    say(f"{predicted} predicted, {failed} could not be read: {output.table}")
    if failed:
        raise typer.Exit(1)


def _spelt_out(paths: list[Path]) -> Iterator[Path]:
    """The paths, ``-`` replaced by the lines of the standard input."""
    for path in paths:
        if path == Path("-"):
            yield from (Path(line) for line in sys.stdin.read().splitlines() if line.strip())
        else:
            yield path
