"""A data set decoded once: two memory-mapped arrays and an index.

``images.npy`` uint8 (N, H, W) for grey, (N, H, W, 3) for colour; ``masks.npy`` (N, H, W) bit
fields, bit m-1 = class m; ``index.parquet`` a row an image; ``pack.json`` the rest. The folder is
built under another name and renamed (`tlunet.data.pack.build`), so a pack is there whole or not at
all.
"""

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pandas as pd

from tlunet.data.pack.build import VERSION, Progress, build
from tlunet.data.pack.place import unpack_labels
from tlunet.data.source import Source

__all__ = ["Pack", "Progress", "open_pack"]


class Pack:
    """A packed data set, memory-mapped: opening it costs the index alone.

    Attributes:
        images: uint8 (N, H, W) or (N, H, W, 3).
        masks: uint8, uint16 or uint32 (N, H, W), bit fields.
        index: one row per image: ``image_id, part, height, width, labels, mask_labels, group, …``.
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

    def __reduce__(self) -> tuple[type["Pack"], tuple[Path]]:
        """Sent to another process it is opened there: a memory map would be sent whole."""
        return Pack, (self.folder,)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of every image in the pack."""
        return self.images.shape[1], self.images.shape[2]

    @property
    def nbytes(self) -> int:
        """What images and masks take."""
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
        """Mean and standard deviation over all pixels of some images, one value a channel.

        Paper III-A: "the global mean and standard deviation".
        """
        table = self.index.iloc[rows]
        n = len(rows) * self.size[0] * self.size[1]
        sums = np.stack(table["sum"].to_list()).sum(0)
        squares = np.stack(table["squares"].to_list()).sum(0)
        mean = sums / n
        std = np.sqrt(np.maximum(squares / n - mean**2, 0))
        return mean.tolist(), np.maximum(std, 1.0).tolist()  # a blank data set stays finite


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
    """
    folder = cache / f"{source.name}-{_signature(source, size, on_error)}"
    if not (folder / "pack.json").exists():
        with _locked(cache / f"{folder.name}.lock"):
            if not (folder / "pack.json").exists():  # another process may have built it meanwhile
                build(source, folder, size=size, on_error=on_error, progress=progress)
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
            with suppress(OSError):  # a missing file is named when it is decoded
                if path is not None:
                    stat = path.stat()
                    digest.update(f"|{stat.st_size}|{stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:12]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # dies with its holder
        yield
