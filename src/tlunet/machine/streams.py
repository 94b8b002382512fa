"""Standard output and error that never stop the program.

A log on a full disk, a closed pipe or terminal, or an encoding without "×": none of it may change
what a cell does or how it ends.
"""

import atexit
import codecs
import errno
import io
import os
import sys
from typing import Any, TextIO

ENCODING_ERRORS = "tlunet"
#: Replacements for characters that an encoding lacks; others become "?".
PLAIN = {
    "✓": "+", "✗": "x", "×": "x", "→": "->", "–": "-", "—": "-", "…": "...", "·": "-", "≥": ">=",
    "≤": "<=", "±": "+-", "“": '"', "”": '"', "‘": "'", "’": "'", "•": "*", "−": "-",
}  # fmt: skip


def replace_unprintable(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks, as a handler for :func:`codecs.register_error`.

    >>> codecs.register_error("plain", replace_unprintable)
    >>> "256×1600 → é".encode("ascii", "plain")
    b'256x1600 -> ?'
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN.get(character, "?") for character in lacking), error.end


codecs.register_error(ENCODING_ERRORS, replace_unprintable)


class _Patient(io.FileIO):
    """A file that drops what it cannot write, and keeps the first error.

    Args:
        descriptor: not closed with this object.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.error: OSError | None = None

    def write(self, content: Any, /) -> int:
        try:
            written: int | None = super().write(content)
        except OSError as error:
            self.error = self.error or error
            written = None
        return memoryview(content).nbytes if written is None else written


def make_patient() -> None:
    """Let this process print to its standard streams without ever failing; call it once, early.

    Streams that something else has replaced (pytest, a notebook) are left alone.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _patient(stream))


def _patient(stream: io.TextIOWrapper) -> TextIO:
    try:
        stream.flush()
        raw = _Patient(stream.fileno())
    except (OSError, ValueError):  # closed
        return stream
    if stream is sys.stdout:
        atexit.register(_say_lost, raw)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=stream.encoding, errors=ENCODING_ERRORS,
        line_buffering=stream.line_buffering, write_through=stream.write_through,
    )  # fmt: skip


def _say_lost(raw: _Patient) -> None:
    """Report lost output on standard error, unless its reader simply left."""
    sys.stdout.flush()
    if raw.error and raw.error.errno != errno.EPIPE:
        reason = os.strerror(raw.error.errno or 0)
        print(f"standard output: {reason}; some lines are missing", file=sys.stderr)


def printable(text: str, encoding: str | None) -> str:
    """Replace the characters of a text that an encoding lacks.

    >>> printable("256×1600", "ascii"), printable("256×1600", "utf-8")
    ('256x1600', '256×1600')
    """
    encoding = encoding or "ascii"
    return text.encode(encoding, ENCODING_ERRORS).decode(encoding)
