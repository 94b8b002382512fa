"""Write predictions to files: table, masks, overlays, Kaggle submission."""

import csv
import os
from collections import deque
from collections.abc import Iterable, Sequence
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
from tlunet.machine.files import write_whole

COLUMNS = (
    "image", "class_id", "class_name", "probability", "area_pixels", "area_share", "label", "boxes",
)  # fmt: skip
#: Kaggle's format: one row per image and class; run-length encoding is 1-based, column-major.
SUBMISSION = ("ImageId_ClassId", "EncodedPixels")


class Rows(NamedTuple):
    """Table rows of one image."""

    predictions: list[tuple[Any, ...]]
    submission: list[tuple[str, str]]


class Output:
    """Output folder, written by threads while the network continues.

    Tables get their final names once they are complete; masks and overlays are written atomically.

    Args:
        folder: output folder; created if missing.
        images: names of the images.
        classes: names of the classes 1…M.
        overlay: style of the images in ``overlays/``; ``None`` for none.
        submission: whether to write ``submission.csv``.
        threads: number of writer threads.

    Raises:
        ConfigError: more classes than bits per PNG pixel.
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
                f"{len(classes)} classes: a mask PNG has one bit per class, at most 16"
            )
        self.folder = folder
        self._images, self._classes, self._style = images, classes, overlay
        self._most = 4 * threads  # predictions waiting to be written: bounds memory use
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
        """Path of ``predictions.csv``."""
        return self._tables[0].path

    def add(self, prediction: Prediction) -> None:
        """Queue one prediction; blocks only if writing falls far behind."""
        self._written.append(self._pool.submit(self._write, prediction))
        if len(self._written) > self._most:
            self._keep(self._written.popleft().result())

    def _keep(self, rows: Rows) -> None:
        for table, part in zip(self._tables, rows, strict=False):
            table.add(part)

    def _write(self, one: Prediction) -> Rows:
        """Write the image's files and return its table rows."""
        name, stem = self._images.name(one.path), self._images.mask(one.path)
        masks = one.masks
        mask = Image.fromarray(one.bits)
        # Level 1: masks are nearly all zeros, and a higher level takes longer than the network.
        path = self.folder / "masks" / f"{stem}.png"
        write_whole(path, lambda p: mask.save(p, "PNG", compress_level=1), flush=False)
        if self._style:
            drawn = picture(one.image, masks, self._classes, one.probabilities, self._style)
            path = self.folder / "overlays" / f"{stem}.jpg"
            write_whole(path, lambda p: drawn.save(p, "JPEG", quality=90), flush=False)
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
    """A CSV file that gets its final name once it is complete."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}")
        self._file = self._temporary.open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(columns)

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        self._rows.writerows(rows)

    def close(self, is_whole: bool) -> None:
        """Rename the file if it is complete, else remove it; safe to call again."""
        self._file.close()
        if is_whole:
            self._temporary.replace(self.path)
        self._temporary.unlink(missing_ok=True)
