"""Generate synthetic steel on disk in the Severstal layout, and list it with that reader."""

import csv
import re
import tempfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tlunet.data import rle
from tlunet.data.readers import severstal
from tlunet.data.source import Source
from tlunet.data.synthetic import sheets, strips
from tlunet.errors import DataError
from tlunet.machine.parallel import cores, processes

NOTE = "SYNTHETIC.txt"  # marks a folder that a user may pass as Severstal data
#: Names of folders that `data=synthetic` drew, the earlier ones without a note.
CACHED = re.compile(r"(strips|sheets)-\d+-\d+x\d+-\w+-s\d+-v\d+")
VERSION = 3  # version of the output of `draw`; a new one creates new folders of strips

#: Names of the classes 1 to 4 of each family.
CLASS_NAMES: dict[str, tuple[str, str, str, str]] = {
    "strips": ("pits", "fine lines", "scratches", "patches"),
    "sheets": ("bubbles", "cracks", "checker stains", "inclusions"),
}
_SURFACE = {"strips": strips.strip, "sheets": sheets.sheet}
_DEFECTS = {
    "strips": (strips.pits, strips.fine_lines, strips.scratches, strips.patches),
    "sheets": (sheets.bubbles, sheets.cracks, sheets.checker_stains, sheets.inclusions),
}

#: Fractions of the images by the set of classes in them. "even": of 24 images, 4 are defect-free, 8
#: show one class and 12 show two. Every class is in 8, so a stratified 12.5% of 192 images or more
#: contain at least 8 of every class. "severstal": the counts of the 12,568 published training
#: images.
BALANCES: dict[str, dict[tuple[int, ...], int]] = {
    "even": {
        (): 4,
        **dict.fromkeys([(1,), (2,), (3,), (4,)], 2),
        **dict.fromkeys([(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)], 2),
    },
    "severstal": {
        (): 5902,
        (3,): 4759,
        (1,): 769,
        (4,): 516,
        (3, 4): 284,
        (2,): 195,
        (1, 3): 91,
        (1, 2): 35,
        (2, 3): 14,
        (1, 2, 3): 2,
        (2, 4): 1,
    },
}
SMALLEST = (16, 64)  # (H, W) below which the defects look alike
_NAMES = 16**9  # Severstal's file names have nine hexadecimal digits
_SPAWN_FROM = 10_000_000  # pixels above which starting worker processes (1 to 2 s) pays off


def draw(
    index: int,
    *,
    size: tuple[int, int],
    seed: int,
    classes: Collection[int],
    family: str = "strips",
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one image and its masks; the result depends only on the arguments.

    The surface does not depend on the defects, and the place and shape of a defect do not depend on
    other defects. Only the tone of pits depends on the brightness below them.

    Args:
        index: index of the image, from 0.
        size: (height, width) in pixels, at least 16×64; designed for 256×1600, usable at 32×64.
        seed: seed from 0; another seed gives other images.
        classes: the class ids, 1 to 4, in the image; each gets at least one pixel.
        family: "strips" or "sheets"; `tlunet.data.synthetic.strips` describes both.

    Returns:
        The image, uint8 (H, W), and the masks of the four classes, bool (4, H, W).

    Raises:
        ValueError: an argument is out of range.

    >>> image, masks = draw(0, size=(32, 160), seed=0, classes=(1, 4))
    >>> image.shape, masks.any((1, 2)).tolist()
    ((32, 160), [True, False, False, True])
    """
    _check(size=size, seed=seed, family=family, classes=classes)
    if index < 0:
        raise ValueError(f"index={index}: expected 0 or more")
    streams = np.random.SeedSequence([seed, zlib.crc32(family.encode()), index]).spawn(6)
    surface, camera, *defects = (np.random.default_rng(s) for s in streams)

    steel, ground = _SURFACE[family](surface, size)
    columns = np.flatnonzero(ground.all(0))
    span = (int(columns[0]), int(columns[-1]))
    masks = np.zeros((4, *size), bool)
    for class_id in sorted(set(classes), reverse=True):  # patches first, pits stay visible on them
        while not masks[class_id - 1].any():  # repeat if the defect missed the steel
            before = steel.copy()
            mask = _DEFECTS[family][class_id - 1](defects[class_id - 1], steel, span)
            masks[class_id - 1] = mask & ground
            if not masks[class_id - 1].any():
                steel = before

    dark, gain = 4.0, camera.uniform(0.025, 0.05)
    steel = np.where(ground, steel, dark)
    noise = camera.standard_normal(size, dtype=np.float32)
    image = steel + noise * (1.5 + gain * steel)  # noise grows with brightness
    return np.clip(image + 0.5, 0, 255).astype(np.uint8), masks


def plan_classes(n: int, *, seed: int, balance: str = "even") -> list[tuple[int, ...]]:
    """Choose the classes of each of `n` images by quota (largest remainder), not at random.

    Args:
        n: number of images, at least 1.
        seed: seed from 0; affects the order, never the counts.
        balance: "even" or "severstal", see `BALANCES`.

    Returns:
        Ascending class ids for each image; the empty tuple is a defect-free image.

    Raises:
        ValueError: an argument is out of range.

    >>> plan = plan_classes(24, seed=0)
    >>> plan.count(()), [sum(k in classes for classes in plan) for k in (1, 2, 3, 4)]
    (4, [8, 8, 8, 8])
    """
    _check(seed=seed, balance=balance, n=n)
    sets, weights = zip(*BALANCES[balance].items(), strict=True)
    exact = n * np.array(weights) / sum(weights)
    counts = np.floor(exact).astype(int)
    left = np.argsort(counts - exact, kind="stable")[: n - counts.sum()]  # largest remainders
    counts[left] += 1
    plan = [classes for classes, count in zip(sets, counts, strict=True) for _ in range(count)]
    return [plan[k] for k in np.random.default_rng(seed).permutation(n)]


def generate(
    root: Path,
    *,
    n: int,
    size: tuple[int, int],
    seed: int,
    balance: str = "even",
    family: str = "strips",
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write `root/train_images/*.jpg` and `root/train.csv` atomically.

    The data is built in a temporary folder next to `root` and renamed. The bytes do not depend on
    the number of workers. If another process writes the same data first, its folder stays.

    Args:
        root: the folder to create; it must not exist.
        n: number of images, at least 1.
        size: (height, width) in pixels, see `draw`.
        seed: seed from 0.
        balance: "even" or "severstal", see `BALANCES`.
        family: "strips" or "sheets".
        workers: processes; None uses every core for a large job and this process for a small one.
        progress: called after every image with the number written so far.

    Raises:
        ValueError: an argument is out of range.
        DataError: `root` already exists.
        OSError: the disk is full or the folder cannot be written.
    """
    _check(n=n, size=size, seed=seed, balance=balance, family=family)
    if workers is None:
        workers = cores() if n * size[0] * size[1] >= _SPAWN_FROM else 1
    if workers < 1:
        raise ValueError(f"workers={workers}: expected 1 or more, or None")
    if root.exists():
        raise DataError(f"{root}: already exists; remove it or choose another folder")

    plan = plan_classes(n, seed=seed, balance=balance)
    jobs = sorted((_name(seed, family, index), index, plan[index]) for index in range(n))
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as scratch:
        new = Path(scratch) / "new"  # the scratch folder itself is readable only by its owner
        (new / "train_images").mkdir(parents=True)
        write = partial(_write, new / "train_images", size=size, seed=seed, family=family)
        with (new / "train.csv").open("w", newline="") as file, _mapper(workers) as mapped:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["ImageId", "ClassId", "EncodedPixels"])
            for done, defects in enumerate(mapped(write, jobs), start=1):
                rows.writerows(defects)
                if progress:
                    progress(done)
        (new / NOTE).write_text(f"{family}\n", encoding="utf-8")
        try:
            new.rename(root)
        except OSError:
            theirs = root / "train.csv"
            if not theirs.is_file() or theirs.read_bytes() != (new / "train.csv").read_bytes():
                raise


def is_drawn(root: Path) -> bool:
    """Whether a folder in Severstal's layout is marked as synthetic, by its note or name."""
    return (root / NOTE).is_file() or bool(CACHED.fullmatch(root.resolve().name))


def read(root: Path, family: str | None = None) -> Source:
    """List synthetic strips in Severstal's layout, with their own name and classes.

    Args:
        root: the folder.
        family: family of the images; ``None``: read it from the folder's note,
            or from its name.

    Raises:
        DataError: the layout is different, or the note names no family.
    """
    cached = CACHED.fullmatch(root.resolve().name)
    if family is None and cached and not (root / NOTE).exists():
        family = cached[1]
    elif family is None:
        family = (root / NOTE).read_text(encoding="utf-8", errors="replace").strip()
    if family not in CLASS_NAMES:
        raise DataError(f"{root / NOTE}: {family[:80]!r}; expected {' or '.join(CLASS_NAMES)}")
    return severstal.read(root, name="synthetic", classes=CLASS_NAMES[family])


def _write(
    folder: Path,
    job: tuple[str, int, tuple[int, ...]],
    *,
    size: tuple[int, int],
    seed: int,
    family: str,
) -> list[tuple[str, int, str]]:
    """Draw and save one image; return its rows of the table."""
    name, index, classes = job
    image, masks = draw(index, size=size, seed=seed, classes=classes, family=family)
    Image.fromarray(image).save(folder / name, quality=90)
    return [(name, k, rle.encode(masks[k - 1])) for k in classes]


def _name(seed: int, family: str, index: int) -> str:
    """Return nine hexadecimal digits and ".jpg": scattered, and unique within a data set.

    >>> _name(0, "strips", 0) < _name(0, "strips", 2) < _name(0, "strips", 1)
    True
    """
    start = int(np.random.SeedSequence([seed, zlib.crc32(family.encode())]).generate_state(1)[0])
    # A Weyl sequence with the golden ratio: an odd step modulo a power of two gives unique names.
    return f"{(16 * start + index * 0x9E3779B97) % _NAMES:09x}.jpg"


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[..., Any]]:
    """Yield `map` for this process or for a pool."""
    if workers == 1:
        yield map
        return
    with processes(workers) as pool:
        yield partial(pool.map, chunksize=8)


def _check(
    *,
    n: int = 1,
    size: tuple[int, int] = SMALLEST,
    seed: int = 0,
    balance: str = "even",
    family: str = "strips",
    classes: Collection[int] = (),
) -> None:
    """Raise ValueError for the first argument that is out of range."""
    if n < 1:
        raise ValueError(f"n={n}: expected 1 or more images")
    if len(size) != 2 or size[0] < SMALLEST[0] or size[1] < SMALLEST[1]:
        raise ValueError(f"size={size}: expected (height, width) of at least {SMALLEST}")
    if seed < 0:
        raise ValueError(f"seed={seed}: expected 0 or more")
    if balance not in BALANCES:
        raise ValueError(f"balance={balance!r}: expected one of {', '.join(BALANCES)}")
    if family not in CLASS_NAMES:
        raise ValueError(f"family={family!r}: expected one of {', '.join(CLASS_NAMES)}")
    if not set(classes) <= {1, 2, 3, 4}:
        raise ValueError(f"classes={sorted(classes)}: expected class ids from 1, 2, 3, 4")
