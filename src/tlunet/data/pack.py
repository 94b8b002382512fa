"""A data set decoded once: two memory-mapped arrays and an index.

``images.npy`` uint8 (N, H, W) for grey, (N, H, W, 3) for colour; ``masks.npy`` (N, H, W) bit
fields, bit m-1 = class m; ``index.parquet`` a row an image; ``pack.json`` the rest. The folder is
built under another name and renamed, so a pack is there whole or not at all.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from tlunet.data import duplicates
from tlunet.data.source import (
    MAX_CLASSES,
    Problem,
    Record,
    Source,
    data_error,
    read_image,
    read_mask,
)
from tlunet.errors import ConfigError, DataError

VERSION = 1  # of the layout; a new one makes new packs
CHUNK = 256  # images decoded ahead: bounds the memory, whatever the size of the data set

Progress = Callable[[str, int, int], None]  # what is being done, done so far, of how many


class Pack:
    """A packed data set, memory-mapped: opening it costs the index alone.

    Attributes:
        images: uint8 (N, H, W) or (N, H, W, 3).
        masks: uint8, uint16 or uint32 (N, H, W), bit fields.
        index: one row an image: ``image_id, part, height, width, group, labels, pixels, …``.
        name: the data set's name.
        classes: names of the classes 1…M.
        fingerprint: of what is in it; the same on every machine.
        left_out: what ``data.on_error=skip`` dropped.
    """

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / "pack.json").read_text())
        self.folder = folder
        self.images = np.load(folder / "images.npy", mmap_mode="r")
        self.masks = np.load(folder / "masks.npy", mmap_mode="r")
        self.index = pd.read_parquet(folder / "index.parquet")
        self.name: str = about["name"]
        self.classes: tuple[str, ...] = tuple(about["classes"])
        self.fingerprint: str = about["fingerprint"]
        self.left_out: list[str] = about["left_out"]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of every image in the pack."""
        return self.images.shape[1], self.images.shape[2]

    @property
    def labels(self) -> np.ndarray:
        """Bool (N, M): whether any pixel of the image is of the class."""
        bits = self.index["labels"].to_numpy(np.uint32)
        return (bits[:, None] >> np.arange(len(self.classes), dtype=np.uint32)) & 1 == 1

    def mean_std(self, rows: np.ndarray) -> tuple[list[float], list[float]]:
        """Mean and standard deviation over all pixels of some images, one value a channel.

        Paper §III-A: "the global mean and standard deviation".
        """
        table = self.index.iloc[rows]
        n = len(rows) * self.size[0] * self.size[1]
        sums = np.stack(table["sum"].to_list()).sum(0)
        squares = np.stack(table["squares"].to_list()).sum(0)
        mean = sums / n
        std = np.sqrt(np.maximum(squares / n - mean**2, 0))
        return mean.tolist(), np.maximum(std, 1.0).tolist()  # a blank data set stays finite


class _Decoded(NamedTuple):
    image: np.ndarray
    bits: np.ndarray
    own_size: tuple[int, int]
    thumbnail: np.ndarray
    digest: bytes


def open_pack(
    source: Source,
    cache: Path,
    *,
    size: tuple[int, int] | None = None,
    on_error: str = "stop",
    progress: Progress | None = None,
) -> Pack:
    """The pack of a data set: opened if it is there and still right, else built.

    Args:
        source: what a reader listed.
        cache: folder for packs.
        size: (height, width) to bring every image to (bilinear; masks by nearest neighbour);
            without it all images must have one size.
        on_error: ``stop`` raises on any fault of the data, ``skip`` leaves the image out.
        progress: told how far it is.

    Raises:
        DataError: faults of the data, all of them, with file and row.
        ConfigError: more classes than a bit field holds.
    """
    if len(source.classes) > MAX_CLASSES:
        raise ConfigError(
            f"{source.root}: {len(source.classes)} classes; at most {MAX_CLASSES} are possible"
        )
    folder = cache / f"{source.name}-{_signature(source, size, on_error)}"
    if not (folder / "pack.json").exists():
        with _locked(cache / f"{folder.name}.lock"):
            if not (folder / "pack.json").exists():  # another process may have built it meanwhile
                _build(source, folder, size, on_error, progress)
    return Pack(folder)


def _signature(source: Source, size: tuple[int, int] | None, on_error: str) -> str:
    """Changes whenever a file that the pack was made from may have changed; cheap to take."""
    digest = hashlib.sha256()
    head = [VERSION, str(source.root.resolve()), source.name, source.classes, size, on_error]
    digest.update(json.dumps(head).encode())
    for table in source.annotations:
        digest.update(table.read_bytes())
    for record in source.records:
        digest.update(f"{record.image_id}|{record.part}".encode())
        for path in (record.image, record.mask):
            if path is not None and path.exists():
                stat = path.stat()
                digest.update(f"|{stat.st_size}|{stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:12]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # dies with its holder
        yield


def _build(
    source: Source,
    folder: Path,
    size: tuple[int, int] | None,
    on_error: str,
    progress: Progress | None,
) -> None:
    if source.problems and on_error == "stop":
        _check_images(source, progress)  # so that one look tells all faults, not only the CSV's
    source = source.without(source.problems) if source.problems else source
    target = size or _common_size(source)
    temporary = folder.with_name(folder.name + ".part")
    channels = 1
    while True:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        problems, colour = _write(source, temporary, target, size is None, channels, progress)
        if problems and on_error == "stop":
            shutil.rmtree(temporary)
            raise data_error(problems)
        if problems:
            source = source.without(problems)
        elif colour and channels == 1:
            channels = 3  # one image has colour, so all are kept in colour
        else:
            break
    temporary.replace(folder)


def _check_images(source: Source, progress: Progress | None) -> None:
    """Raise DataError with the listing's faults and every image's and mask's."""
    problems = list(source.problems)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, outcome in enumerate(_stream(pool, source, None)):
            if isinstance(outcome, Problem):
                problems.append(outcome)
            if progress:
                progress("checking images", done + 1, len(source.records))
    raise data_error(problems)


def _common_size(source: Source) -> tuple[int, int]:
    """The size most images have, by their headers."""
    sizes: Counter[tuple[int, int]] = Counter()
    for record in source.records:
        try:
            with Image.open(record.image) as file:
                sizes[file.height, file.width] += 1
        except OSError:
            continue  # named when it is decoded
    if not sizes:
        raise DataError(f"{source.root}: none of the {len(source.records)} images can be read")
    return sizes.most_common(1)[0][0]


def _stream(
    pool: ThreadPoolExecutor, source: Source, resize: tuple[int, int] | None
) -> Iterator[_Decoded | Problem]:
    """Every record decoded, in order, a bounded number ahead."""
    for start in range(0, len(source.records), CHUNK):
        chunk = source.records[start : start + CHUNK]
        yield from pool.map(lambda r: _decode(r, len(source.classes), resize), chunk)


def _decode(record: Record, classes: int, resize: tuple[int, int] | None) -> _Decoded | Problem:
    try:
        image = read_image(record.image)
    except DataError as error:
        return Problem(str(record.image), record.image_id, str(error))
    own_size = image.shape[0], image.shape[1]
    try:
        bits = read_mask(record, own_size, classes)
    except DataError as error:
        where, _, what = str(error).partition(": ")
        return Problem(where, record.image_id, what)
    digest = hashlib.sha256(record.image.read_bytes())
    digest.update(bits.tobytes())
    if resize and resize != own_size:
        height, width = resize
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        image = np.asarray(resized)
        rows = (np.arange(height) + 0.5) * own_size[0] // height
        columns = (np.arange(width) + 0.5) * own_size[1] // width
        bits = bits[rows.astype(int)[:, None], columns.astype(int)]  # nearest neighbour
    return _Decoded(image, bits, own_size, duplicates.thumbnail(image), digest.digest())


def _write(
    source: Source,
    folder: Path,
    size: tuple[int, int],
    strict: bool,
    channels: int,
    progress: Progress | None,
) -> tuple[list[Problem], bool]:
    """Decode into ``folder``; return the faults, and whether any image had colour."""
    count, (height, width) = len(source.records), size
    shape = (count, height, width) if channels == 1 else (count, height, width, 3)
    depth = next(b for b in (8, 16, 32) if len(source.classes) <= b)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, shape)
    masks = np.lib.format.open_memmap(
        folder / "masks.npy", "w+", np.dtype(f"uint{depth}"), (count, height, width)
    )
    problems: list[Problem] = []
    colour = False
    rows, thumbnails = [], []
    content = hashlib.sha256(json.dumps([source.classes, size]).encode())
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = _stream(pool, source, None if strict else size)
        for i, (record, outcome) in enumerate(zip(source.records, outcomes, strict=True)):
            if progress:
                progress("packing images", i + 1, count)
            if isinstance(outcome, Problem):
                problems.append(outcome)
                continue
            if outcome.image.shape[:2] != size:
                own = outcome.own_size
                what = (
                    f"image of {own[0]}×{own[1]} (height × width), most are {height}×{width}; "
                    f"data.size=[{height},{width}] brings all to one size"
                )
                problems.append(Problem(str(record.image), record.image_id, what))
                continue
            image = outcome.image
            colour = colour or image.ndim == 3
            if problems or (colour and channels == 1):
                continue  # this attempt is lost already: only look for more faults
            images[i] = image if image.ndim == 3 or channels == 1 else image[..., None]
            masks[i] = outcome.bits
            thumbnails.append(outcome.thumbnail)
            content.update(f"{record.image_id}|{record.part}".encode() + outcome.digest)
            rows.append(_row(record, outcome, channels))
    if problems or (colour and channels == 1):
        return problems, colour
    images.flush()
    masks.flush()
    index = pd.DataFrame(rows)
    index["group"] = duplicates.group(np.stack(thumbnails))
    index.to_parquet(folder / "index.parquet")
    about = {
        "name": source.name,
        "classes": source.classes,
        "fingerprint": content.hexdigest(),
        "left_out": [str(p) for p in source.left_out],
        "version": VERSION,
    }
    (folder / "pack.json").write_text(json.dumps(about, indent=2))
    return [], colour


def _row(record: Record, decoded: _Decoded, channels: int) -> dict[str, object]:
    planes = np.atleast_3d(decoded.image)
    levels = np.arange(256)
    counts = np.stack([np.bincount(plane.ravel(), minlength=256) for plane in planes.T])
    counts = np.broadcast_to(counts, (channels, 256))
    return {
        "image_id": record.image_id,
        "part": record.part,
        "height": decoded.own_size[0],
        "width": decoded.own_size[1],
        "labels": int(np.bitwise_or.reduce(decoded.bits, axis=None)),
        "sum": (counts @ levels).astype(float),
        "squares": (counts @ levels**2).astype(float),
    }
