"""What a reader returns: a list of images and annotations, nothing decoded yet."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
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
    """Combine all problems in one error, one line per problem, up to a limit."""
    lines = [str(p) for p in problems[:shown]]
    if len(problems) > shown:
        lines.append(f"… and {len(problems) - shown} more problems")
    return DataError(*lines)


def require_folder(folder: Path, hint: str) -> None:
    """Raise DataError unless the folder exists."""
    try:
        if folder.is_dir():
            return
        what = "is not a folder" if folder.exists() else "no such folder"
    except OSError as error:  # no permission for a parent, a name that is too long
        what = f"cannot be accessed ({reason_of(error)})"
    raise DataError(f"{folder}: {what}; {hint}")
