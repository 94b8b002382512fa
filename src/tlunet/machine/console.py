"""Console output: banners, lines and progress bars."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from tlunet.machine.streams import printable

#: Called with the name of the task, the number of steps done, and the total.
Progress = Callable[[str, int, int], None]

UNLIMITED = 10_000  # width of a file or pipe


class _Console(Console):
    """A console whose reader may leave."""

    def on_broken_pipe(self) -> None:
        """Continue: by default this would end the process."""


console = _Console(highlight=False)
if not console.is_terminal:
    console = _Console(highlight=False, width=120)  # a log file has no width


def width() -> int:
    """Characters in a line of the terminal; unlimited in a file or pipe."""
    return console.width if console.is_terminal else UNLIMITED


def say(text: str) -> None:
    """Print one line, never truncated and never interpreted as markup; never fails."""
    with suppress(OSError, ValueError):
        console.print(printable(text, console.encoding), markup=False, soft_wrap=True)


def show(draw: Callable[[int], RenderableType]) -> None:
    """Print what is laid out for a width: the terminal's, or as wide as needed in a file or pipe.

    Args:
        draw: called with the number of characters that are available.
    """
    out = console if console.is_terminal else type(console)(highlight=False, width=UNLIMITED)
    out.print(draw(width()))


def complain(*lines: str) -> None:
    """Print lines to standard error; never fails."""
    if not lines or sys.stderr is None:
        return
    text = printable("\n".join(lines), sys.stderr.encoding)
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def banner(title: str, *lines: str) -> None:
    """Print a prominent frame; never fails."""
    title, text = (printable(part, console.encoding) for part in (title, "\n".join(lines)))
    frame = Panel(Text(text), title=title, title_align="left", style="bold yellow")
    with suppress(OSError, ValueError):
        console.print(frame)


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


class LiveLine:
    """A line that is redrawn in place in a terminal, and vanishes; nothing in a file or pipe."""

    def __init__(self) -> None:
        self._live: Live | None = None

    def start(self, text: str) -> None:
        """Show the line."""
        if console.is_terminal:
            self._live = Live(
                self._drawn(text), console=console, transient=True, refresh_per_second=4
            )
            self._live.start()

    def update(self, text: str) -> None:
        """Replace the text."""
        if self._live:
            self._live.update(self._drawn(text))

    def stop(self) -> None:
        """Remove the line; it may be started again."""
        if self._live:
            self._live.stop()
            self._live = None

    def _drawn(self, text: str) -> Text:
        return Text(text, no_wrap=True, overflow="crop")


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
