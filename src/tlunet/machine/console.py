"""What a person sees: banners, lines and bars."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

if TYPE_CHECKING:  # a network in use speaks here, too: without pandas
    from tlunet.data.pack.pack import Progress as Report

console = Console(highlight=False)
if not console.is_terminal:
    console = Console(highlight=False, width=120)  # a log file has no width of its own


def say(text: str) -> None:
    """One line; never cut, never interpreted as markup."""
    console.print(text, markup=False, soft_wrap=True)


def complain(*lines: str) -> None:
    """Lines to the standard error."""
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def banner(title: str, *lines: str) -> None:
    """A frame that cannot be missed."""
    text = Text("\n".join(lines))
    console.print(Panel(text, title=title, title_align="left", style="bold yellow"))


def bars() -> Progress:
    """Bars that vanish when they are done; nothing where the output is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextmanager
def progress() -> "Iterator[Report]":
    """A function to report progress to: what is being done, done so far, of how many."""
    with bars() as shown:
        tasks: dict[str, int] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=total, note="")
                if not console.is_terminal:
                    say(f"{what} ({total})")
            shown.update(tasks[what], completed=done)  # type: ignore[arg-type]

        yield report
