"""Console output: banners, lines and progress bars."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

#: Called with the name of the task, the number of steps done, and the total.
Progress = Callable[[str, int, int], None]

UNLIMITED = 10_000  # width of a file or pipe

console = Console(highlight=False)
if not console.is_terminal:
    console = Console(highlight=False, width=120)  # a log file has no width


def say(text: str) -> None:
    """Print one line, never truncated and never interpreted as markup."""
    console.print(text, markup=False, soft_wrap=True)


def show(draw: Callable[[int], RenderableType]) -> None:
    """Print what is laid out for a width: the terminal's, or as wide as needed in a file or pipe.

    Args:
        draw: called with the number of characters that are available.
    """
    if console.is_terminal:
        console.print(draw(console.width))
    else:
        Console(highlight=False, width=UNLIMITED).print(draw(UNLIMITED))


def complain(*lines: str) -> None:
    """Print lines to standard error."""
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def banner(title: str, *lines: str) -> None:
    """Print a prominent frame."""
    text = Text("\n".join(lines))
    console.print(Panel(text, title=title, title_align="left", style="bold yellow"))


def bars() -> Bars:
    """Progress bars that vanish when done; disabled unless the output is a terminal."""
    return Bars(
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
def progress() -> Iterator[Progress]:
    """Yield a function that reports progress: name of the task, steps done, total."""
    with bars() as shown:
        tasks: dict[str, int] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=total, note="")
                if not console.is_terminal:
                    say(f"{what} ({total})")
            shown.update(tasks[what], completed=done)  # type: ignore[arg-type]

        yield report
