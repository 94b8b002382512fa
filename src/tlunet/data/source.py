"""What a data set's reader returns: a listing of images and annotations, nothing decoded yet."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from tlunet.errors import DataError, visible

MAX_CLASSES = 32  # masks are bit fields of at most 32 bits
PROBLEMS_SHOWN = 20


class Problem(NamedTuple):
    """One fault of the data: where it stands, which image it spoils ("" for none), what is wrong.

    >>> print(Problem("train.csv row 3", "a.jpg", "class '5'; allowed are 1 to 4"))
    train.csv row 3: class '5'; allowed are 1 to 4
    """

    where: str
    image_id: str
    what: str

    def __str__(self) -> str:
        return visible(f"{self.where}: {self.what}")


class Record(NamedTuple):
    """One image, where its annotation lies, and the part the data set's authors put it in."""

    image_id: str
    image: Path
    runs: tuple[tuple[int, str, str], ...] = ()  # (class id, run lengths, where they stand)
    mask: Path | None = None  # PNG of class ids, 0 = background
    part: str = "train"  # "train" or "test", the data set's own


@dataclass(frozen=True)
class Source:
    """A data set as it lies on disk.

    Attributes:
        name: which data set, as every result's ``dataset`` says it.
        root: its folder.
        classes: the names of the classes 1…M.
        records: one an image, sorted by id.
        annotations: files whose content matters besides the images and masks (a CSV).
        problems: faults found while listing; none of them has stopped the reader.
        left_out: images dropped because of a fault (``data.on_error=skip``), with the fault.
        ignored: what lies among images and masks and is neither.
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
        """This source less the images that have a problem.

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
    """All problems as one error, a line each, up to a limit."""
    lines = [str(p) for p in problems[:shown]]
    if len(problems) > shown:
        lines.append(f"… and {len(problems) - shown} more faults like these")
    return DataError(*lines)


def require_folder(folder: Path, hint: str) -> None:
    """Raise DataError unless the folder is there."""
    try:
        if folder.is_dir():
            return
        what = "is not a folder" if folder.exists() else "no such folder"
    except OSError as error:  # no permission on the way, a name too long
        what = f"cannot be looked at ({error.strerror})"
    raise DataError(f"{folder}: {what}; {hint}")
