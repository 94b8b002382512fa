"""What a data set's reader returns: a listing of images and annotations, nothing decoded yet."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from tlunet.data import rle
from tlunet.errors import DataError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"}
MAX_CLASSES = 32  # masks are bit fields of at most 32 bits
PROBLEMS_SHOWN = 20


class Problem(NamedTuple):
    """One fault of the data: where it stands, which image it spoils, what is wrong."""

    where: str
    image_id: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


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
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    records: tuple[Record, ...]
    annotations: tuple[Path, ...] = ()
    problems: tuple[Problem, ...] = ()
    left_out: tuple[Problem, ...] = ()

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


def data_error(problems: Sequence[Problem]) -> DataError:
    """All problems as one error, a line each, up to a limit."""
    lines = [str(p) for p in problems[:PROBLEMS_SHOWN]]
    if len(problems) > PROBLEMS_SHOWN:
        lines.append(f"… and {len(problems) - PROBLEMS_SHOWN} more faults like these")
    return DataError(*lines)


def read_image(path: Path) -> np.ndarray:
    """Decode one image.

    Returns:
        uint8 (H, W) where all channels agree, else (H, W, 3).

    Raises:
        DataError: missing, truncated, or not an image of 8 bits a channel.
    """
    try:
        with Image.open(path) as file:
            if file.mode not in {"L", "RGB", "P", "1", "RGBA", "LA", "CMYK", "YCbCr"}:
                raise DataError(
                    f"mode {file.mode}; expected an image of 8 bits a channel (grey or RGB)"
                )
            pixels = np.asarray(file if file.mode in {"L", "RGB"} else file.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot be read as an image ({_reason(error)})") from error
    if pixels.ndim == 3 and is_grey(pixels):
        return pixels[..., 0]
    return pixels


def is_grey(pixels: np.ndarray) -> bool:
    """Whether the channels of a (H, W, 3) image are the same everywhere."""
    first = pixels[..., 0]
    return bool((pixels[..., 1] == first).all() and (pixels[..., 2] == first).all())


def read_mask(record: Record, shape: tuple[int, int], classes: int) -> np.ndarray:
    """Decode one image's annotation into a bit field: bit m-1 of a pixel = class m is there.

    Args:
        record: the image.
        shape: (H, W) of the image.
        classes: M.

    Returns:
        uint32 (H, W).

    Raises:
        DataError: runs or mask do not fit the image or the classes.
    """
    bits = np.zeros(shape, np.uint32)
    for class_id, runs, where in record.runs:
        try:
            bits[rle.decode(runs, shape)] |= np.uint32(1 << (class_id - 1))
        except ValueError as error:
            raise DataError(f"{where}: {error}") from error
    if record.mask is not None:
        ids = _read_class_ids(record.mask)
        if ids.shape != shape:
            raise DataError(
                f"{record.mask}: mask of {ids.shape[0]}×{ids.shape[1]} (height × width) for an "
                f"image of {shape[0]}×{shape[1]}; they must be of one size"
            )
        if (top := int(ids.max(initial=0))) > classes:
            raise DataError(
                f"{record.mask}: class id {top}; allowed are 0 (background) to {classes} "
                "(one a name in data.classes)"
            )
        shift = np.maximum(ids - 1, 0).astype(np.uint32)
        bits |= np.where(ids > 0, np.uint32(1) << shift, np.uint32(0))
    return bits


def _read_class_ids(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as file:
            if file.mode not in {"L", "P", "1", "I", "I;16"}:
                raise DataError(
                    f"{path}: mask of mode {file.mode}; expected one channel of class ids "
                    "(0 = background)"
                )
            ids = np.asarray(file)
    except FileNotFoundError:
        raise DataError(f"{path}: no such mask") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a mask ({_reason(error)})") from error
    return ids.astype(np.int64)


def _reason(error: BaseException) -> str:
    text = str(error).replace("\n", " ")
    return text.split(" '")[0] if text.startswith("cannot identify") else text[:120]


def list_images(folder: Path) -> dict[str, Path]:
    """All images under a folder (sub-folders too): id (POSIX path below the folder) → file.

    Links that lead out of the folder are not followed.
    """
    root = folder.resolve()
    found = {}
    for path in folder.rglob("*"):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                continue
            found[path.relative_to(folder).as_posix()] = path
    return dict(sorted(found.items()))


def is_plain_name(name: str) -> bool:
    """Whether an image name from a CSV stays inside the data set's folder.

    >>> is_plain_name("a.jpg"), is_plain_name("../a.jpg"), is_plain_name("/etc/a.jpg")
    (True, False, False)
    """
    path = PurePosixPath(name.replace("\\", "/"))
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def require_folder(folder: Path, hint: str) -> None:
    """Raise DataError unless the folder is there."""
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {what}; {hint}")
