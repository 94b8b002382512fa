"""``tlunet data get <name>``: download and check published data sets."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tlunet.errors import DataError, reason_of, visible
from tlunet.machine.command_line import run_command

if TYPE_CHECKING:
    from tlunet.data.download.published import Published

app = typer.Typer(no_args_is_help=True)


@app.callback()
def get() -> None:
    """Download a published data set and check it.

    The folder appears only when it is complete. Run the same command again to
    resume an interrupted download. An existing data set is checked and never
    overwritten.

    Exit code 2: something you can fix (a token, the rules, a folder).
    1: temporary failure (no network, a server error, a damaged archive).
    """


@app.command()
def severstal(
    root: Annotated[Path, typer.Option(help="Folder to create.")] = Path("data/severstal"),
) -> None:
    """Download Severstal: Steel Defect Detection with Kaggle's client and your token.

    12,568 strips of 256x1600. You need a Kaggle account, an API token in one
    of Kaggle's usual places (~/.kaggle/kaggle.json, or KAGGLE_USERNAME and
    KAGGLE_KEY, or KAGGLE_API_TOKEN), and must accept the competition rules
    once in the browser; an error names what is missing. Sizes, counts and
    class statistics are compared with the published ones.

        tlunet data get severstal
    """
    from tlunet.data.download.get import SEVERSTAL, get_severstal

    is_new = _fetched(root, lambda: get_severstal(root))
    _say(root, is_new, SEVERSTAL, run_command(("data", "severstal"), ("data.root", root)))


@app.command(name="neu_seg")
def neu_seg(
    root: Annotated[Path, typer.Option(help="Folder to create.")] = Path("data/neu_seg"),
    url: Annotated[
        str | None, typer.Option(help="URL of another ZIP file. Default: the GitHub repository.")
    ] = None,
) -> None:
    """Download NEU-Seg: hot-rolled strip, 3,630 training and 840 test images of 200x200.

    Source: the public repository DHW-Master/NEU_Seg. Its authors state no licence.

        tlunet data get neu_seg
    """
    from tlunet.data.download.get import NEU_SEG, NEU_SEG_URL, get_neu_seg
    from tlunet.machine.console import progress

    with progress() as report:
        is_new = _fetched(root, lambda: get_neu_seg(root, url or NEU_SEG_URL, report))
    line = run_command(("data", "neu_seg"), ("data.root", root), ("data.split", "official"))
    _say(root, is_new, NEU_SEG, line)


def _fetched(root: Path, fetch: Callable[[], bool]) -> bool:
    """Return whether it was downloaded now; exit with code 1 if it is not available now."""
    from tlunet.data.download.archive import FetchError
    from tlunet.machine.console import complain

    try:
        return fetch()
    except FetchError as error:
        complain(*error.lines)
        raise typer.Exit(1) from error
    except OSError as error:
        raise DataError(f"{root}: cannot be written ({reason_of(error)})") from error


def _say(root: Path, is_new: bool, published: "Published", line: str) -> None:
    from tlunet.machine.console import say

    images = " + ".join(f"{n:,} {part}" for part, n in published.parts.items())
    height, width = published.size
    done = "downloaded" if is_new else "already exists"
    say(visible(f"{root}: {done}; matches the published data: {images} images of {height}×{width}"))
    if published.licence:
        say(published.licence)
    say(visible(f"train on it: {line}"))
