"""``tlunet data <verb>``: data sets, before anything is trained."""

import re
from pathlib import Path
from typing import Annotated

import typer

from tlunet.errors import ConfigError, DataError, UserError, visible

app = typer.Typer(no_args_is_help=True, help="Data sets, before anything is trained.")


@app.callback()
def data() -> None:
    """Data sets, before anything is trained."""


@app.command()
def check(
    root: Annotated[Path, typer.Argument(help="The folder that data.root would name.")] = Path(
        "data/severstal"
    ),
    kind: Annotated[
        str, typer.Option(help="severstal, folder, neu_seg, or auto: what its sub-folders say.")
    ] = "auto",
    classes: Annotated[
        str, typer.Option(help="For folder: names of the ids 1, 2, … in the masks: scratch,dent.")
    ] = "",
    size: Annotated[
        str | None,
        typer.Option(metavar="HxW", help="As data.size: bring images of any size to this one."),
    ] = None,
    split: Annotated[str, typer.Option(help="random, or official: its own test part.")] = "random",
    frac: Annotated[float, typer.Option(help="Share of the training part to be used.")] = 1.0,
    limit: Annotated[int, typer.Option(min=1, help="Faults to show.")] = 20,
) -> None:
    """Look at every file of a data set, and name all that is wrong with it.

    Nothing is trained or written. A fault is a line with its file and row;
    run.py stops at the same faults, or leaves those images out with
    data.on_error=skip. What is ignored, rare or missing without being a
    fault is said, too.

    Exit code 0: no fault. 2: faults.
    """
    from tlunet.data.check import describe, read_source
    from tlunet.data.examine import examine
    from tlunet.data.source import data_error
    from tlunet.study.console import progress, say

    if split not in ("random", "official"):
        raise ConfigError(f"--split {split}: allowed are random, official")
    if not 0 < frac <= 1:
        raise ConfigError(f"--frac {frac}: expected a number above 0 and at most 1")
    names = [name.strip() for name in classes.split(",") if name.strip()]
    source = read_source(root, kind, names)
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


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    if not (match := re.fullmatch(r"([1-9]\d{1,4})[x×]([1-9]\d{1,4})", text, re.ASCII)):
        raise ConfigError(f"--size {text}: expected height x width in pixels, as 256x1600")
    return int(match[1]), int(match[2])
