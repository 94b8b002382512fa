"""Rows of a CSV file from elsewhere, without guessing."""

import codecs
import csv
import io
from collections.abc import Iterator
from pathlib import Path

from tlunet.errors import DataError, reason_of


def numbered_rows(table: Path, expected: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, with their numbers as in an editor.

    Args:
        table: the file.
        expected: what is expected, in words, for the message about a missing file.

    Raises:
        DataError: it cannot be read, or is not a table of UTF-8 text.
    """
    csv.field_size_limit(1 << 30)  # a mask with many runs is a long field
    # strict: an unclosed quote is an error, instead of a value that swallows all following rows.
    reader = csv.reader(io.StringIO(_text(table, expected), newline=""), strict=True)
    while True:
        row = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            what = "unclosed quote" if "end of data" in str(error) else str(error)
            raise DataError(f"{table} row {row}: not a valid CSV row ({what})") from None
        if reader.line_num > row:
            raise DataError(
                f"{table} row {row}: a quoted value continues in row {reader.line_num}; expected "
                "one line per row: close or remove its quotes"
            )
        if "".join(values).strip():
            yield row, values


def _text(table: Path, expected: str) -> str:
    """Read the text of the file, without a byte-order mark."""
    try:
        content = table.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{table}: no such file; {expected}") from None
    except OSError as error:
        raise DataError(f"{table}: cannot be read ({reason_of(error)})") from None
    try:
        text = content.removeprefix(codecs.BOM_UTF8).decode()
        at = text.find("\0")
    except UnicodeDecodeError as error:
        text, at = content.decode("latin-1"), error.start
    if at >= 0:
        row = text.count("\n", 0, at) + 1
        raise DataError(f"{table} row {row}: not UTF-8 text; save the table as UTF-8")
    return text
