"""``tlunet data <verb>``: data sets, before anything is trained."""

import csv
import re
from pathlib import Path
from typing import Annotated

import typer

from tlunet.cli import convert, get
from tlunet.errors import ConfigError, DataError, UserError, visible

app = typer.Typer(no_args_is_help=True, help="Data sets, before anything is trained.")
app.add_typer(get.app, name="get")
app.add_typer(convert.app)


@app.callback()
def data() -> None:
    """Data sets, before anything is trained."""


Root = Annotated[Path, typer.Argument(help="The folder that data.root would name.")]
Kind = Annotated[
    str, typer.Option(help="severstal, folder, neu_seg, or auto: what its sub-folders say.")
]
Classes = Annotated[
    str, typer.Option(help="For folder: names of the ids 1, 2, … in the masks: scratch,dent.")
]
Size = Annotated[
    str | None,
    typer.Option(metavar="HxW", help="As data.size: bring images of any size to this one."),
]
Split = Annotated[str, typer.Option(help="random, or official: its own test part.")]
Frac = Annotated[float, typer.Option(help="Share of the training part to be used.")]
Limit = Annotated[int, typer.Option(min=1, help="Faults to show.")]
SEVERSTAL = Path("data/severstal")


@app.command()
def check(
    root: Root = SEVERSTAL,
    kind: Kind = "auto",
    classes: Classes = "",
    size: Size = None,
    split: Split = "random",
    frac: Frac = 1.0,
    limit: Limit = 20,
) -> None:
    """Look at every file of a data set, and name all that is wrong with it.

    Nothing is trained or written. A fault is a line with its file and row;
    run.py stops at the same faults, or leaves those images out with
    data.on_error=skip. What is ignored, rare or missing without being a
    fault is said, too.

    Exit code 0: no fault. 2: faults.
    """
    from tlunet.data.checks.describe import describe, read_source
    from tlunet.data.checks.examine import examine
    from tlunet.data.source import data_error
    from tlunet.machine.console import progress, say

    _require_split(split, frac)
    source = read_source(root, kind, _names(classes))
    with progress() as report:
        findings = examine(source, _size(size), report)
    faults = data_error(findings.problems, limit).lines if findings.problems else ()
    if findings.records:
        try:
            for line in describe(source, findings, frac=frac, split=split):
                say(visible(line))
        except UserError as error:  # so few images, or so small a share
            faults = (*faults, *error.lines)
    if faults:
        left = f"{len(findings.records)} of {len(source.records)} images are sound"
        say(f"{len(findings.problems)} faults; {left}")
        raise DataError(*faults)
    say("sound: no fault")


@app.command()
def show(
    root: Root = SEVERSTAL,
    kind: Kind = "auto",
    classes: Classes = "",
    size: Size = None,
    split: Split = "random",
    frac: Frac = 1.0,
    limit: Limit = 20,
    out: Annotated[
        Path | None,
        typer.Option(help="A page (.html) or a picture (.png); by default <folder>.html."),
    ] = None,
) -> None:
    """Show what is in a data set: one page, or one picture, to look at before training.

    Images with their masks, chosen by a rule that the page states; how many
    images and pixels each class has; which classes meet; how large the defects
    are; near-duplicates side by side; and how the split deals the classes.
    Images may be of different sizes. The page is one file that needs nothing
    beside it.

        tlunet data show data/severstal --out severstal.png

    Exit code 1: some images have faults (the first are named); the page shows
    the others.
    """
    from tlunet.data.checks.describe import read_source
    from tlunet.data.checks.survey import survey
    from tlunet.data.source import data_error
    from tlunet.machine.console import complain, progress, say
    from tlunet.report.dataset.facts import sum_up
    from tlunet.report.dataset.write import write

    _require_split(split, frac)
    source = read_source(root, kind, _names(classes))
    file = out or Path(f"{root.resolve().name}.html")
    if file.suffix not in (".html", ".png"):
        raise ConfigError(f"--out {file}: expected a name that ends in .html or .png")
    with progress() as report:
        found = survey(source, _size(size), report)
    write(sum_up(found, frac=frac, split=split), file)
    say(visible(f"{len(found.records)} images: {file}"))
    if found.problems:
        complain(*data_error(found.problems, limit).lines)
        raise typer.Exit(1)


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    n: Annotated[int, typer.Option(min=1, help="Number of strips.")] = 256,
    size: Annotated[str, typer.Option(metavar="HxW", help="Of each strip.")] = "64x400",
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other strips.")] = 0,
    balance: Annotated[
        str, typer.Option(help="even, or severstal: the classes' shares of the real data.")
    ] = "even",
) -> None:
    """Draw synthetic strips with defects, in the layout of the Severstal data.

    To try everything without the real data, or to have files of that layout to
    test with. The same line draws the same bytes. They are not steel, and a
    note in the folder says so: results are named synthetic even where
    data=severstal reads them.

        tlunet data synth strips --n 500 --size 256x1600 --balance severstal
    """
    from tlunet.data.synthetic.generate import CLASS_NAMES, generate, plan_classes
    from tlunet.machine.console import progress, say

    shape = _size(size)
    assert shape is not None
    with progress() as report:
        try:
            generate(
                out, n=n, size=shape, seed=seed, balance=balance, note=True,
                progress=lambda done: report("drawing strips", done, n),
            )  # fmt: skip
        except ValueError as error:
            raise ConfigError(f"tlunet data synth: {error}") from None
        except OSError as error:
            raise DataError(f"{out}: cannot be written ({error.strerror or error})") from error
    plan = plan_classes(n, seed=seed, balance=balance)
    shown = ", ".join(
        f"{name} {sum(m in classes for classes in plan)}"
        for m, name in enumerate(CLASS_NAMES["strips"], start=1)
    )
    say(visible(f"{out}: {n} synthetic strips of {size}, which are not steel"))
    say(f"images with class: {shown}; no defect {plan.count(())}")
    say(visible(f"train on it: python run.py data=severstal data.root={out}"))


def _require_split(split: str, frac: float) -> None:
    if split not in ("random", "official"):
        raise ConfigError(f"--split {split}: allowed are random, official")
    if not 0 < frac <= 1:
        raise ConfigError(f"--frac {frac}: expected a number above 0 and at most 1")


def _names(classes: str) -> list[str]:
    """Between commas; a name with a comma stands in double quotes."""
    names = next(csv.reader([classes], skipinitialspace=True), [])
    return [name.strip() for name in names if name.strip()]


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    if not (match := re.fullmatch(r"([1-9]\d{1,4})[x×]([1-9]\d{1,4})", text, re.ASCII)):
        raise ConfigError(f"--size {text}: expected height x width in pixels, as 256x1600")
    return int(match[1]), int(match[2])
