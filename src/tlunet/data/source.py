"""What a reader returns: a list of images and annotations, nothing decoded yet."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import NamedTuple

from tlunet.errors import DataError, reason_of, visible

MAX_CLASSES = 32  # masks are bit fields of at most 32 bits
PROBLEMS_SHOWN = 20


class Problem(NamedTuple):
    """One problem of the data: where it is, the affected image ("" for none), what is wrong.

    >>> print(Problem("train.csv row 3", "a.jpg", "class '5'; expected 1 to 4"))
    train.csv row 3: class '5'; expected 1 to 4
    """

    where: str
    image_id: str
    what: str

    def __str__(self) -> str:
        return visible(f"{self.where}: {self.what}")


class Record(NamedTuple):
    """One image, its annotation, and the published subset that it belongs to."""

    image_id: str
    image: Path
    runs: tuple[tuple[int, str, str], ...] = ()  # (class id, run lengths, file and row)
    mask: Path | None = None  # PNG of class ids, 0 = background
    part: str = "train"  # "train" or "test", as published
    foreground: int | None = None  # value of class 1 in the mask, if it is not the id 1


@dataclass(frozen=True)
class Source:
    """A data set as it is stored on disk.

    Attributes:
        name: name of the data set, as in the ``dataset`` of every result.
        root: its folder.
        classes: the names of the classes 1…M.
        records: one per image, sorted by id.
        annotations: files that matter in addition to the images and masks (a CSV).
        problems: problems found while listing; none of them stopped the reader.
        left_out: problems of the images that were skipped (``data.on_error=skip``).
        ignored: files among the images and masks that are neither.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    records: tuple[Record, ...]
    annotations: tuple[Path, ...] = ()
    problems: tuple[Problem, ...] = ()
    left_out: tuple[Problem, ...] = ()
    ignored: tuple[Path, ...] = ()

    def without(self, problems: Iterable[Problem]) -> "Source":
        """Return this source without the images that have a problem.

        Raises:
            DataError: no image is left.
        """
        problems = list(problems)
        bad = {p.image_id for p in problems}
        kept = tuple(r for r in self.records if r.image_id not in bad)
        if not kept:
            raise data_error(problems)
        left_out = (*self.left_out, *problems)
        return replace(self, records=kept, problems=(), left_out=left_out)


def data_error(problems: Sequence[Problem], shown: int = PROBLEMS_SHOWN) -> DataError:
    """Combine all problems in one error, one line per problem, or per kind if there are too many.

    Args:
        problems: at least one.
        shown: number of lines. Problems that differ in their numbers only are of one kind.

    >>> many = [Problem(f"{name}.png", name, "class id 9") for name in "abcdef"]
    >>> print(data_error(many, shown=3))
    a.png (and 5 more: b.png, c.png, …): class id 9
    """
    kinds = [[p] for p in problems] if len(problems) <= shown else _kinds(problems)
    lines = [_line(same) for same in kinds[:shown]]
    if left := sum(map(len, kinds[shown:])):
        lines.append(f"… and {left} more problems")
    return DataError(*lines)


def _kinds(problems: Iterable[Problem]) -> list[list[Problem]]:
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        kinds.setdefault(re.sub(r"\d+", "0", problem.what), []).append(problem)
    return list(kinds.values())


def _line(same: Sequence[Problem]) -> str:
    """Format problems of one kind: the first, the names of two more, and how many there are."""
    first, *more = same
    if not more:
        return str(first)
    names = ", ".join(PurePath(problem.where).name for problem in more[:2])
    names += ", …" if len(more) > 2 else ""
    return str(first._replace(where=f"{first.where} (and {len(more)} more: {names})"))


def require_folder(folder: Path, hint: str) -> None:
    """Raise DataError unless the folder exists."""
    try:
        if folder.is_dir():
            return
        what = "is not a folder" if folder.exists() else "no such folder"
    except OSError as error:  # no permission for a parent, a name that is too long
        what = f"cannot be accessed ({reason_of(error)})"
    raise DataError(f"{folder}: {what}; {hint}")
