"""``tlunet data <command>``: get, check, view and convert data sets."""

import csv
import re
from pathlib import Path
from typing import Annotated

import typer

from tlunet.cli import convert, get
from tlunet.errors import ConfigError, DataError, reason_of, visible
from tlunet.machine.command_line import run_command

app = typer.Typer(no_args_is_help=True, help="Get, check, view and convert data sets.")
app.add_typer(get.app, name="get")
app.add_typer(convert.app)


@app.callback()
def data() -> None:
    """Get, check, view and convert data sets."""


Root = Annotated[Path, typer.Argument(help="Data folder, as in data.root.")]
Kind = Annotated[
    str, typer.Option(help="severstal, folder, neu_seg or auto (detected from the sub-folders).")
]
Classes = Annotated[
    str, typer.Option(help="For folder: class names for the mask ids 1, 2, …: scratch,dent.")
]
Foreground = Annotated[
    int | None,
    typer.Option(min=1, help="For folder with one class: its value in the masks, such as 255."),
]
Size = Annotated[
    str | None,
    typer.Option(metavar="HxW", help="Resize images to this size, as data.size does."),
]
Fit = Annotated[
    str, typer.Option(help="With --size: stretch images of other proportions, or pad, as data.fit.")
]
Duplicates = Annotated[
    str, typer.Option(help="Near-duplicates: group (one side of the split), or ignore.")
]
Groups = Annotated[
    str | None,
    typer.Option(help="Images that stay on one side of the split, as data.groups."),
]
Split = Annotated[str, typer.Option(help="random, or official: the published test set.")]
Frac = Annotated[float, typer.Option(help="Fraction of the training set to use.")]
Limit = Annotated[int, typer.Option(min=1, help="Maximum number of problems to show.")]
SEVERSTAL = Path("data/severstal")


@app.command()
def check(
    root: Root = SEVERSTAL,
    kind: Kind = "auto",
    classes: Classes = "",
    foreground: Foreground = None,
    size: Size = None,
    fit: Fit = "stretch",
    split: Split = "random",
    frac: Frac = 1.0,
    duplicates: Duplicates = "group",
    groups: Groups = None,
    limit: Limit = 20,
) -> None:
    """Check every file of a data set and report all problems.

    Nothing is trained or written. Each problem is one line with file and row.
    run.py stops at the same problems, or skips those images with
    data.on_error=skip. Ignored files and rare or missing classes are also
    reported; they are not problems. data show draws the same numbers.

    Exit code 0: no problems. 2: problems.
    """
    from tlunet.data.checks.examine import examine
    from tlunet.data.checks.summary import summarise
    from tlunet.data.dataset import read_source
    from tlunet.data.fit import check_fit
    from tlunet.data.grouping.groups import check_grouping
    from tlunet.data.source import data_error
    from tlunet.machine.console import progress, say
    from tlunet.machine.counted import counted

    _require_split(split, frac)
    check_fit(fit, "--fit")
    check_grouping(duplicates, groups, "--")
    source = read_source(root, kind, _names(classes), foreground)
    with progress() as report:
        findings = examine(source, _size(size), report, fit)
    problems = data_error(findings.problems, limit).lines if findings.problems else ()
    told = len(problems)
    if findings.records:
        summary = summarise(findings, frac=frac, split=split, duplicates=duplicates, groups=groups)
        for line in summary.lines():
            say(visible(line))
        problems = (*problems, *summary.why_unsplit)
    if problems:
        left = f"{len(findings.records)} of {len(source.records)} images are valid"
        number = len(findings.problems) + len(problems) - told
        say(f"{counted(number, 'problem')}; {left}")
        raise DataError(*problems)
    say("no problems found")


@app.command()
def show(
    root: Root = SEVERSTAL,
    kind: Kind = "auto",
    classes: Classes = "",
    foreground: Foreground = None,
    size: Size = None,
    fit: Fit = "stretch",
    split: Split = "random",
    frac: Frac = 1.0,
    duplicates: Duplicates = "group",
    groups: Groups = None,
    limit: Limit = 20,
    out: Annotated[
        Path | None,
        typer.Option(help="Page (.html) or image (.png). Default: <folder>.html."),
    ] = None,
) -> None:
    """View a data set as one page or one image before you train.

    Shows example images with masks (the page states how they are chosen),
    images and pixels per class, co-occurring classes, defect sizes,
    near-duplicates side by side, and the class distribution over the split.
    Images may differ in size. The page is one self-contained file.

        tlunet data show data/severstal --out severstal.png

    Exit code 1: some images have problems (the first are listed); the page
    shows the others.
    """
    from tlunet.data.checks.survey import survey
    from tlunet.data.dataset import read_source
    from tlunet.data.fit import check_fit
    from tlunet.data.grouping.groups import check_grouping
    from tlunet.data.source import data_error
    from tlunet.machine.console import complain, progress, say
    from tlunet.machine.counted import counted
    from tlunet.report.dataset.facts import sum_up
    from tlunet.report.dataset.write import write

    _require_split(split, frac)
    check_fit(fit, "--fit")
    check_grouping(duplicates, groups, "--")
    source = read_source(root, kind, _names(classes), foreground)
    file = out or Path(f"{root.resolve().name}.html")
    if file.suffix not in (".html", ".png"):
        raise ConfigError(f"--out {file}: expected a name that ends in .html or .png")
    with progress() as report:
        surveyed = survey(source, _size(size), report, fit)
    facts = sum_up(surveyed, frac=frac, split=split, duplicates=duplicates, groups=groups)
    write(facts, file)
    say(visible(f"{counted(len(surveyed.records), 'image')}: {file}"))
    if surveyed.problems:
        complain(*data_error(surveyed.problems, limit).lines)
        raise typer.Exit(1)


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="Folder to create.")],
    n: Annotated[int, typer.Option(min=1, help="Number of strips.")] = 256,
    size: Annotated[str, typer.Option(metavar="HxW", help="Size of each strip.")] = "64x400",
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    balance: Annotated[
        str, typer.Option(help="even, or severstal: class frequencies of the real data.")
    ] = "even",
) -> None:
    """Generate synthetic strips with defects, in the layout of the Severstal data.

    Use them to try TLU-Net without the real data, or as test files in that
    layout. The same command writes the same bytes. They are not steel, and a
    note in the folder says so: results are labelled synthetic even when
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
                out, n=n, size=shape, seed=seed, balance=balance,
                progress=lambda done: report("drawing strips", done, n),
            )  # fmt: skip
        except ValueError as error:
            raise ConfigError(f"tlunet data synth: {error}") from None
        except OSError as error:
            raise DataError(f"{out}: cannot be written ({reason_of(error)})") from error
    plan = plan_classes(n, seed=seed, balance=balance)
    shown = ", ".join(
        f"{name} {sum(m in classes for classes in plan)}"
        for m, name in enumerate(CLASS_NAMES["strips"], start=1)
    )
    say(visible(f"{out}: {n} synthetic strips of {size} (not steel)"))
    say(f"images per class: {shown}; defect-free {plan.count(())}")
    line = run_command(("data", "severstal"), ("data.root", out))
    say(visible(f"train on it: {line}"))


def _require_split(split: str, frac: float) -> None:
    if split not in ("random", "official"):
        raise ConfigError(f"--split {split}: expected random, official")
    if not 0 < frac <= 1:
        raise ConfigError(f"--frac {frac}: expected a number above 0 and at most 1")


def _names(classes: str) -> list[str]:
    """Split at commas; a name that contains a comma is in double quotes."""
    row = next(csv.reader([classes], skipinitialspace=True), [])
    names = [name.strip() for name in row if name.strip()]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ConfigError(f"--classes {classes}: expected distinct names; twice: {twice[0]}")
    return names


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    if not (match := re.fullmatch(r"([1-9]\d{1,4})[x×]([1-9]\d{1,4})", text, re.ASCII)):
        raise ConfigError(f"--size {text}: expected height x width in pixels, such as 256x1600")
    return int(match[1]), int(match[2])
