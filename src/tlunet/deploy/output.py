"""Write predictions to files: table, masks, overlays, Kaggle submission."""

import csv
import errno
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tlunet.data.rle import encode
from tlunet.deploy import boxes
from tlunet.deploy.listing import TABLE, Images
from tlunet.deploy.overlay import STYLES, picture
from tlunet.deploy.stream import Prediction
from tlunet.errors import ConfigError, DataError, path_of, reason_of
from tlunet.machine.files import write_whole

COLUMNS = (
    "image", "class_id", "class_name", "probability", "area_pixels", "area_share", "label", "boxes",
)  # fmt: skip
#: Kaggle's format: one row per image and class; run-length encoding is 1-based, column-major.
SUBMISSION = ("ImageId_ClassId", "EncodedPixels")
RUN_FILES = ("status.json", "best.ckpt")
JPEG_SIDE = 65500
MOST_PIXELS = 2**26  # of predictions that wait to be written: bounds memory use
#: Errors after which no other file can be written either.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Written(NamedTuple):
    """What became of one image: its table rows, and the files that could not be written."""

    predictions: list[tuple[Any, ...]]
    submission: list[tuple[str, str]]
    problems: list[str]


class Output:
    """Output folder, written by threads while the network continues.

    Tables get their final names once they are complete; masks and overlays are written atomically.
    A mask or an overlay that cannot be written is passed over: its image stays in the tables.

    Args:
        folder: output folder; created if missing.
        images: names of the images.
        classes: names of the classes 1…M.
        overlay: style of the images in ``overlays/``; ``None`` for none.
        submission: whether to write ``submission.csv``.
        tell: called with one line for each mask or overlay that cannot be written.
        threads: number of writer threads.

    Attributes:
        unwritten: number of masks and overlays that could not be written.
        defective: number of images in whose masks a defect was found.

    Raises:
        ConfigError: the folder is a run folder, or holds a data set, whose masks would be
            overwritten.
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
        tell: Callable[[str], object] = lambda line: None,
        threads: int = 2,
    ) -> None:
        if (folder / "images").is_dir() and (folder / "masks").is_dir():
            raise ConfigError(
                f"--out {folder}: contains a data set (images/ and masks/), and masks/ would be "
                "overwritten; choose another folder"
            )
        if any((folder / name).is_file() for name in RUN_FILES):
            raise ConfigError(
                f"--out {folder}: is a run folder; choose another, such as {folder / 'found'}"
            )
        self.folder = folder
        self.unwritten = self.defective = 0
        self._images, self._classes, self._style, self._tell = images, classes, overlay, tell
        self._most = 4 * threads  # predictions waiting to be written: bounds memory use
        self._tables: list[_Table] = []
        try:
            (folder / "masks").mkdir(parents=True, exist_ok=True)
            self._tables.append(_Table(folder / TABLE, COLUMNS))
            if submission:
                self._tables.append(_Table(folder / "submission.csv", SUBMISSION))
        except OSError as error:
            for table in self._tables:
                table.close(is_whole=False)
            where, why = path_of(error, folder), reason_of(error)
            raise DataError(f"{where}: cannot be written ({why})") from error
        self._pool = ThreadPoolExecutor(threads, "write")
        self._waiting: deque[tuple[int, Future[Written]]] = deque()  # with their pixels
        self._pixels = 0  # of all predictions that wait

    @property
    def table(self) -> Path:
        """Path of ``predictions.csv``."""
        return self._tables[0].path

    def add(self, prediction: Prediction) -> None:
        """Queue one prediction; blocks only if writing falls far behind."""
        self.defective += bool(prediction.bits.any())
        while self._waiting and self._pixels + prediction.bits.size > MOST_PIXELS:
            self._keep_next()
        self._pixels += prediction.bits.size
        self._waiting.append((prediction.bits.size, self._pool.submit(self._write, prediction)))
        if len(self._waiting) > self._most:
            self._keep_next()

    def _keep_next(self) -> None:
        pixels, written = self._waiting.popleft()
        self._pixels -= pixels
        self._keep(written.result())

    def _keep(self, written: Written) -> None:
        for table, rows in zip(self._tables, written[:2], strict=False):
            table.add(rows)
        for line in written.problems:
            self._tell(line)
        self.unwritten += len(written.problems)

    def _write(self, one: Prediction) -> Written:
        """Write the image's files and return its table rows."""
        name, stem = self._images.name(one.path), self._images.mask(one.path)
        problems: list[str] = []

        def save_mask(path: Path) -> None:
            # Masks are nearly all zeros, and a higher level takes longer than the network.
            mask_image(one.bits).save(path, "PNG", compress_level=1)

        def save_overlay(path: Path) -> None:
            drawn = picture(
                one.image, one.masks, self._classes, one.probabilities, self._style or STYLES[0]
            )
            if max(drawn.size) > JPEG_SIDE:  # else libjpeg prints a line of its own
                raise ValueError(f"a JPEG has at most {JPEG_SIDE} pixels per side")
            drawn.save(path, "JPEG", quality=90)

        problems += self._save(f"masks/{stem}.png", save_mask)
        if self._style:
            problems += self._save(f"overlays/{stem}.jpg", save_overlay)
        rows, submission = [], []
        for m, (label, area) in enumerate(zip(self._classes, one.areas.tolist(), strict=True)):
            mask_m = one.bits >> one.bits.dtype.type(m) & 1 == 1
            share, predicted = area / one.bits.size, int(one.labels[m])
            numbers = f"{one.probabilities[m]:.6g}", area, f"{share:.6g}", predicted
            rows.append((name, m + 1, label, *numbers, boxes.as_text(mask_m)))
            if len(self._tables) > 1:
                submission.append((f"{name}_{m + 1}", encode(mask_m)))
        return Written(rows, submission, problems)

    def _save(self, name: str, save: Callable[[Path], object]) -> list[str]:
        """Write a file; return why it cannot be written.

        Raises:
            OSError: nothing more can be written here.
        """
        path = self.folder / name
        try:
            write_whole(path, save, flush=False)
        except Exception as error:  # each encoder raises its own exception types
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            return [f"{path}: cannot be written ({reason_of(error)})"]
        return []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            while error is None and self._waiting:
                self._keep_next()
            for table in self._tables:
                table.close(is_whole=error is None)
        finally:
            self._pool.shutdown(cancel_futures=True)
            for table in self._tables:
                table.close(is_whole=False)


class _Table:
    """A CSV file that gets its final name once it is complete."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        if path.is_dir():  # else the rename would fail, after everything has been predicted
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
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


def mask_image(bits: NDArray[np.unsignedinteger]) -> Image.Image:
    """Convert a bit field (H, W) to a picture for a PNG: one, two or four bytes per pixel.

    A PNG has no pixels of 32 bits but those of four channels: red holds the classes 1 to 8, green
    9 to 16, blue 17 to 24, alpha 25 to 32. ``np.asarray(picture).view("<u4")[..., 0]`` is the bit
    field.
    """
    if bits.itemsize < 4:
        return Image.fromarray(bits)
    channels = np.ascontiguousarray(bits, "<u4").view(np.uint8).reshape(*bits.shape, 4)
    return Image.fromarray(channels)
