"""``tlunet <verb>``: everything beside training. A verb imports heavy libraries itself."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from tlunet import data_cli
from tlunet.errors import ConfigError, UserError, visible

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="TLU-Net: how much does transfer learning help steel-defect segmentation and "
    "classification? Training is run.py's; see python run.py --help.",
)

app.add_typer(data_cli.app, name="data")

DEVICES = ("auto", "cuda", "mps", "cpu")
PRECISIONS = ("auto", "bf16-mixed", "32-true")

Study = Annotated[Path, typer.Argument(help="Folder of a study, as runs/synthetic.")]


@app.command()
def report(
    study: Study,
    claims: Annotated[
        Path | None,
        typer.Option(help="A claims.yaml to judge; without it the study's own, if it has one."),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Copy tables and figures to this folder, as experiments/my_study."),
    ] = None,
) -> None:
    """Write a study's report.html, report.md, figures and tables from its finished runs."""
    from tlunet.report.render import record as copy
    from tlunet.report.report import write_report

    print(f"report: {write_report(study, claims)}")
    if record:
        print(f"recorded: {len(copy(study, record))} files in {record}")


@app.command()
def status(
    study: Study,
    as_json: Annotated[bool, typer.Option("--json", help="The rows as JSON, for scripts.")] = False,
) -> None:
    """Show which of a study's cells are finished, running, failed or broken off.

    "left" is the time that training may still take at most: early stopping
    ends it sooner, the test comes after it. Running cells are not disturbed.
    """
    from tlunet.study.status import as_dicts, read_study, show, summary

    rows = read_study(study)
    if as_json:
        print(json.dumps(as_dicts(rows), indent=2, allow_nan=False))
        return
    from rich.console import Console

    # A terminal cuts the last column; a log file or a pipe has it whole.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 1000)
    console.print(show(rows))
    print(summary(rows))


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


@app.command()
def bench(
    encoder: Annotated[
        list[str] | None, typer.Option(help="May be given again. [default: the paper's two]")
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(metavar="HxW", help="May be given again. [default: 64x400, 256x1600]"),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=2, help="[default: 16; of 256x1600 on a CPU 4]", show_default=False),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns a side.")] = 5,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Counted in a turn. [default: 200 on a GPU, 2 on a CPU]"),
    ] = None,
    strips: Annotated[
        int | None,
        typer.Option(min=16, help="Drawn. [default: 128 batches on a GPU, 16 on a CPU]"),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            help="Also: layout, decoder, memory or compile, the default path but for that. May be "
            "given again."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, bf16-mixed or 32-true.")] = "auto",
    cache: Annotated[Path, typer.Option(help="Where strips and packs are kept.")] = Path("data"),
    out: Annotated[
        Path | None, typer.Option(help="Folder for a JSON file each, as benchmarks/results.")
    ] = None,
) -> None:
    """Measure training, evaluation, inference, packing and start-up on this machine.

    Each encoder and size trains in turn with the plain recipe
    (benchmarks/plain_recipe.py), A B A B …, on synthetic strips.
    """
    from tlunet.bench.bench import Plan, file_name, measure, show
    from tlunet.study.console import console, say
    from tlunet.study.files import write_json
    from tlunet.study.hardware import choose

    machine = choose(device, precision)
    plans = [
        Plan.of(
            name, text, machine, batch_size=batch_size, rounds=rounds, steps=steps, strips=strips,
            variants=tuple(variant or ()),
        )
        for name in encoder or ("resnet18", "densenet121")
        for text in size or ("64x400", "256x1600")
    ]  # fmt: skip
    found = []
    for plan in plans:
        found.append(measure(plan, machine, cache, say))
        if out:
            file = out / file_name(found[-1])
            out.mkdir(parents=True, exist_ok=True)
            write_json(file, found[-1])
            say(f"record: {file}")
    console.print(show(found))


def _spelt_out(paths: list[Path]) -> Iterator[Path]:
    """The paths, ``-`` replaced by the lines of the standard input."""
    for path in paths:
        if path == Path("-"):
            yield from (Path(line) for line in sys.stdin.read().splitlines() if line.strip())
        else:
            yield path


def main() -> None:
    """The command line; a user's mistake is one line and exit code 2."""
    try:
        app()
    except UserError as error:
        print(*error.lines, sep="\n", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
