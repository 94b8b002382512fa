"""The files that say what was found: a table, masks, pictures, a submission."""

import csv
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from PIL import Image

from tlunet.data.rle import encode
from tlunet.deploy import boxes
from tlunet.deploy.listing import Images
from tlunet.deploy.overlay import picture
from tlunet.deploy.stream import Prediction
from tlunet.errors import ConfigError, DataError

COLUMNS = (
    "image", "class_id", "class_name", "probability", "area_pixels", "area_share", "label", "boxes",
)  # fmt: skip
#: As the competition took it: a row per image and class, runs 1-based and column-major.
SUBMISSION = ("ImageId_ClassId", "EncodedPixels")


class Rows(NamedTuple):
    """What one image adds to the tables."""

    predictions: list[tuple[Any, ...]]
    submission: list[tuple[str, str]]


class Output:
    """A folder of results, written in threads while the network goes on.

    Tables appear under their names when all of them is there; each mask and picture appears whole.

    Args:
        folder: where they go; made if it is not there.
        images: what each image is called.
        classes: names of the classes 1…M.
        overlay: style of pictures in ``overlays/``; ``None`` for none.
        submission: whether to write ``submission.csv``.
        threads: that write.

    Raises:
        ConfigError: more classes than a PNG's pixel has bits.
        DataError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        images: Images,
        classes: Sequence[str],
        *,
        overlay: str | None = None,
        submission: bool = False,
        threads: int = 2,
    ) -> None:
        if len(classes) > 16:
            raise ConfigError(
                f"{len(classes)} classes: a mask is a PNG of one bit a class, at most 16 bits"
            )
        self.folder = folder
        self._images, self._classes, self._style = images, classes, overlay
        self._most = 4 * threads  # predictions that may wait to be written: bounds the memory
        self._tables: list[_Table] = []
        try:
            (folder / "masks").mkdir(parents=True, exist_ok=True)
            self._tables.append(_Table(folder / "predictions.csv", COLUMNS))
            if submission:
                self._tables.append(_Table(folder / "submission.csv", SUBMISSION))
        except OSError as error:
            raise DataError(f"{folder}: cannot be written ({error.strerror})") from error
        self._pool = ThreadPoolExecutor(threads, "write")
        self._written: deque[Future[Rows]] = deque()

    @property
    def table(self) -> Path:
        """``predictions.csv``."""
        return self._tables[0].path

    def add(self, prediction: Prediction) -> None:
        """Take one prediction; waits only if writing falls far behind."""
        self._written.append(self._pool.submit(self._write, prediction))
        if len(self._written) > self._most:
            self._keep(self._written.popleft().result())

    def _keep(self, rows: Rows) -> None:
        for table, part in zip(self._tables, rows, strict=False):
            table.add(part)

    def _write(self, one: Prediction) -> Rows:
        """Write the image's files; return its rows of the tables."""
        name, stem = self._images.name(one.path), self._images.mask(one.path)
        masks = one.masks
        mask = Image.fromarray(one.bits)
        # Level 1: masks are nearly all zeros, and a higher one takes longer than the network.
        _whole(
            self.folder / "masks" / f"{stem}.png", lambda p: mask.save(p, "PNG", compress_level=1)
        )
        if self._style:
            drawn = picture(one.image, masks, self._classes, one.probabilities, self._style)
            path = self.folder / "overlays" / f"{stem}.jpg"
            _whole(path, lambda p: drawn.save(p, "JPEG", quality=90))
        rows, submission = [], []
        for m, (label, mask_m, area) in enumerate(
            zip(self._classes, masks, one.areas.tolist(), strict=True)
        ):
            share, found = area / one.bits.size, int(one.labels[m])
            numbers = f"{one.probabilities[m]:.6g}", area, f"{share:.6g}", found
            rows.append((name, m + 1, label, *numbers, boxes.as_text(mask_m)))
            if len(self._tables) > 1:
                submission.append((f"{name}_{m + 1}", encode(mask_m)))
        return Rows(rows, submission)

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
                self._keep(self._written.popleft().result())
            for table in self._tables:
                table.close(is_whole=error is None)
        finally:
            self._pool.shutdown(cancel_futures=True)
            for table in self._tables:
                table.close(is_whole=False)


class _Table:
    """A CSV file that appears under its name when it is whole."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}")
        self._file = self._temporary.open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(columns)

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        self._rows.writerows(rows)

    def close(self, is_whole: bool) -> None:
        """Give the file its name if all of it is there, else remove it; once is enough."""
        self._file.close()
        if is_whole:
            self._temporary.replace(self.path)
        self._temporary.unlink(missing_ok=True)


def _whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a neighbouring file and rename it; no wait for the disk, there are thousands."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
