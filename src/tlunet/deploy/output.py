"""Which images are predicted, and the files that say what was found in them."""

import csv
import os
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, NamedTuple, Self

from PIL import Image

from tlunet.data.listing import IMAGE_SUFFIXES, list_files
from tlunet.deploy.predict import Prediction, Unreadable
from tlunet.errors import ConfigError, DataError

COLUMNS = ("image", "class_id", "class_name", "probability", "area_pixels", "area_share")


class Listing(NamedTuple):
    """The images of a command.

    Attributes:
        images: file → its name in ``predictions.csv``, in the order given, each once.
        faults: what was asked for and is not there.
    """

    images: dict[Path, str]
    faults: list[Unreadable]


def list_paths(paths: Iterable[Path]) -> Listing:
    """Every image file of some files and folders (with their sub-folders).

    An image is named by its POSIX path below the folder that holds everything asked for: with one
    folder that is its path in the folder, which a data set calls its id. No two share a name.

    Raises:
        DataError: there is no image at all; a line a fault.
    """
    found: dict[Path, Path] = {}  # absolute path → as it was named
    roots: list[Path] = []
    faults: list[Unreadable] = []
    for path in paths:
        if path.is_dir():
            listing = list_files(path, IMAGE_SUFFIXES)
            images = list(listing.files.values())
            roots.append(_absolute(path))
            faults += [Unreadable(Path(p.where), p.what) for p in listing.problems]
            if not images:
                faults.append(Unreadable(path, "no image in this folder"))
        elif path.is_file():
            images = [path]
            roots.append(_absolute(path).parent)
        else:
            images = []
            faults.append(Unreadable(path, "no such file or folder"))
        for image in images:
            found.setdefault(_absolute(image), image)
    if not found:
        lines = [f"{path}: {reason}" for path, reason in faults]
        raise DataError(*lines or ["no image is named; expected files, folders or a list"])
    base = Path(os.path.commonpath(roots))
    names = {path: where.relative_to(base).as_posix() for where, path in found.items()}
    return Listing(names, faults)


def _absolute(path: Path) -> Path:
    """Links are not resolved: a file is named as it is called, not as where it leads."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def mask_names(images: Sequence[str]) -> list[str]:
    """Where each image's mask goes below ``masks/``: no two to one file.

    >>> mask_names(["a.jpg", "cam1/a.jpg"])
    ['a.png', 'cam1/a.png']
    >>> mask_names(["a.jpg", "a.tif"])  # two of one stem: all keep their suffix
    ['a.jpg.png', 'a.tif.png']
    """
    stems = [str(PurePosixPath(image).with_suffix("")) for image in images]
    stems = stems if len({*stems}) == len(stems) else list(images)
    return [f"{stem}.png" for stem in stems]


class Output:
    """``predictions.csv`` and ``masks/``, written in threads while the network goes on.

    The table appears under its name when all of it is there; each mask appears whole.

    Args:
        folder: where they go; made if it is not there.
        images: file → name, from :func:`list_paths`.
        classes: names of the classes 1…M.
        threads: that write masks.

    Raises:
        ConfigError: more classes than a PNG's pixel has bits.
        DataError: the folder cannot be written.
    """

    def __init__(
        self, folder: Path, images: dict[Path, str], classes: Sequence[str], threads: int = 2
    ) -> None:
        if len(classes) > 16:
            raise ConfigError(
                f"{len(classes)} classes: a mask is a PNG of one bit a class, at most 16 bits"
            )
        self.table = folder / "predictions.csv"
        self._temporary = folder / f".predictions.csv.{os.getpid()}"
        self._images = images
        self._masks = dict(zip(images, mask_names(list(images.values())), strict=True))
        self._folder = folder / "masks"
        self._classes = classes
        self._most = 4 * threads  # predictions that may wait to be written: bounds the memory
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = self._temporary.open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise DataError(f"{folder}: cannot be written ({error.strerror})") from error
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(COLUMNS)
        self._pool = ThreadPoolExecutor(threads, "write")
        self._written: deque[Future[list[tuple[Any, ...]]]] = deque()

    def add(self, prediction: Prediction) -> None:
        """Take one prediction; waits only if writing falls far behind."""
        self._written.append(self._pool.submit(self._write, prediction))
        if len(self._written) > self._most:
            self._rows.writerows(self._written.popleft().result())

    def _write(self, prediction: Prediction) -> list[tuple[Any, ...]]:
        """Write the mask; return the rows of the table."""
        path = self._folder / self._masks[prediction.path]
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        # Level 1: masks are nearly all zeros, and a higher one takes longer than the network.
        Image.fromarray(prediction.bits).save(temporary, "PNG", compress_level=1)
        temporary.replace(path)
        name, pixels = self._images[prediction.path], prediction.bits.size
        found = zip(self._classes, prediction.probabilities, prediction.areas, strict=True)
        return [
            (name, m, label, f"{probability:.6g}", area, f"{area / pixels:.6g}")
            for m, (label, probability, area) in enumerate(found, 1)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            while error is None and self._written:
                self._rows.writerows(self._written.popleft().result())
            self._file.close()
            if error is None:
                self._temporary.replace(self.table)
        finally:
            self._pool.shutdown(cancel_futures=True)
            self._file.close()
            self._temporary.unlink(missing_ok=True)
