"""A decoded data set: two memory-mapped arrays and an index.

``images.npy`` uint8 (N, H, W) for grey, (N, H, W, 3) for colour; ``masks.npy`` (N, H, W) bit
fields, bit m-1 = class m; ``index.parquet`` one row per image; ``pack.json`` the rest. The folder
is built under another name and renamed (`tlunet.data.pack.build`), so a pack is always complete.
"""

import hashlib
import json
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tlunet.data.bits import unpack_labels
from tlunet.data.fit import content_size
from tlunet.data.pack.build import VERSION, build
from tlunet.data.sizes import Sizes
from tlunet.data.source import Source
from tlunet.machine.console import Progress
from tlunet.machine.files import locked


class Pack:
    """A packed, memory-mapped data set; opening it reads only the index.

    Attributes:
        images: uint8 (N, H, W) or (N, H, W, 3).
        masks: uint8, uint16 or uint32 (N, H, W), bit fields.
        index: one row per image: ``image_id, part, height, width, labels, mask_labels, group, …``.
        name: the data set's name.
        classes: names of the classes 1…M.
        fit: how images of other proportions were resized, ``stretch`` or ``pad``.
        fingerprint: hash of the content; the same on every machine.
        left_out: problems of the images that ``data.on_error=skip`` skipped.
    """

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / "pack.json").read_text())
        self.folder = folder
        self.images = np.load(folder / "images.npy", mmap_mode="r")
        self.masks = np.load(folder / "masks.npy", mmap_mode="r")
        self.index = pd.read_parquet(folder / "index.parquet")
        self.name: str = about["name"]
        self.classes: tuple[str, ...] = tuple(about["classes"])
        self.fit: str = about["fit"]
        self.fingerprint: str = about["fingerprint"]
        self.left_out: list[str] = about["left_out"]

    def __reduce__(self) -> tuple[type["Pack"], tuple[Path]]:
        """Pickle only the folder, which is opened again; a memory map would be copied."""
        return Pack, (self.folder,)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of every image in the pack."""
        return self.images.shape[1], self.images.shape[2]

    @property
    def native_sizes(self) -> Sizes:
        """Number of images of each (height, width) on disk."""
        return Sizes(zip(self.index["height"], self.index["width"], strict=True))

    @cached_property
    def content(self) -> NDArray[np.int64]:
        """(height, width) of each image without padding, (N, 2); it starts at the top left."""
        native = zip(self.index["height"], self.index["width"], strict=True)
        return np.array([content_size(own, self.size, self.fit) for own in native], np.int64)

    def region(self, row: int) -> tuple[slice, slice]:
        """Return the rows and columns of one image without padding, to index its arrays with."""
        height, width = self.content[row].tolist()
        return slice(height), slice(width)

    @property
    def nbytes(self) -> int:
        """Size of images and masks in bytes."""
        return int(self.images.nbytes + self.masks.nbytes)

    @property
    def labels(self) -> np.ndarray:
        """Bool (N, M): whether the class has any pixel in the native mask, before resizing."""
        return unpack_labels(self.index["labels"].to_numpy(), len(self.classes))

    @property
    def mask_labels(self) -> np.ndarray:
        """Bool (N, M): whether the class still has a pixel at the pack's size."""
        return unpack_labels(self.index["mask_labels"].to_numpy(), len(self.classes))

    def mean_std(self, rows: np.ndarray) -> tuple[list[float], list[float]]:
        """Compute mean and standard deviation over all pixels of some images, per channel.

        Padding does not count.

        Paper III-A: "the global mean and standard deviation".
        """
        table = self.index.iloc[rows]
        n = self.content[rows].prod(1).sum()
        sums = np.stack(table["sum"].to_list()).sum(0)
        squares = np.stack(table["squares"].to_list()).sum(0)
        mean = sums / n
        std = np.sqrt(np.maximum(squares / n - mean**2, 0))
        return mean.tolist(), np.maximum(std, 1.0).tolist()  # finite even for blank images


def open_pack(
    source: Source,
    cache: Path,
    *,
    size: tuple[int, int] | None = None,
    fit: str = "stretch",
    on_error: str = "stop",
    progress: Progress | None = None,
) -> Pack:
    """Open the pack of a data set; build it if it is missing or out of date.

    Args:
        source: the data set as a reader listed it.
        cache: folder for packs.
        size: (height, width) to which images are resized (bilinear; masks by nearest neighbour);
            without it, all images must have one size.
        fit: ``stretch`` images of other proportions, or ``pad`` them.
        on_error: ``stop`` raises on any problem of the data, ``skip`` skips the image.
        progress: called with the progress.

    Raises:
        DataError: all problems of the data, with file and row.
    """
    folder = cache / f"{source.name}-{_signature(source, size, fit, on_error)}"
    if not (folder / "pack.json").exists():
        with locked(cache / f"{folder.name}.lock"):
            if not (folder / "pack.json").exists():  # another process may have built it
                build(source, folder, size=size, fit=fit, on_error=on_error, progress=progress)
    return Pack(folder)


def _signature(source: Source, size: tuple[int, int] | None, fit: str, on_error: str) -> str:
    """Compute a cheap hash that changes whenever an input file may have changed.

    The time of a file's last change (ctime) cannot be set, unlike that of its content (mtime).
    Where the folder is does not matter: moving it changes no file.
    """
    digest = hashlib.sha256()
    head = [VERSION, source.name, source.classes, size, fit, on_error]
    digest.update(json.dumps(head).encode())
    for table in source.annotations:
        digest.update(table.read_bytes())
    for record in source.records:
        digest.update(f"{record.image_id}|{record.part}|{record.foreground}".encode())
        for path in (record.image, record.mask):
            with suppress(OSError):  # a missing file is reported when it is decoded
                if path is not None:
                    stat = path.stat()
                    times = f"{stat.st_mtime_ns}|{stat.st_ctime_ns}"
                    digest.update(f"|{stat.st_size}|{times}".encode())
    return digest.hexdigest()[:12]
