"""Build a pack: decode every image once.

Workers decode images, do all per-image processing, and write each image to its place in the arrays.
They use plain writes, because the pages of a memory map would count as memory of the process.
Memory use is a few batches plus a few kilobytes per image: the listing, the index, and the
thumbnails for near-duplicates.
"""

import hashlib
import json
import math
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from tlunet.data.checks.examine import examine
from tlunet.data.grouping import duplicates
from tlunet.data.pack.place import THUMBNAILS, Form, HasColourError, Placed, header, place
from tlunet.data.sizes import USUAL, are_mixed, count_sizes, usual_size
from tlunet.data.source import Problem, Record, Source, data_error
from tlunet.machine.console import Progress
from tlunet.machine.files import sync
from tlunet.machine.parallel import cores, processes

VERSION = 2  # version of a pack's content; a data set is packed again when it changes
BATCH = 2**22  # pixels that a worker decodes at a time
MOST = 64  # most images that a worker decodes at a time
SKIPPED = 0.5  # data.on_error=skip leaves images of another size out if they are fewer than this
PROCESSES_FROM = 4.0  # seconds of work above which starting processes (1 to 2 s) pays off

_T = TypeVar("_T")


def build(
    source: Source,
    folder: Path,
    *,
    size: tuple[int, int] | None,
    fit: str,
    on_error: str,
    progress: Progress | None,
) -> None:
    """Build the pack ``folder``.

    It is built in ``<folder>.part`` and renamed. Only one process at a time may call this.

    Args:
        source: the data set as a reader listed it.
        folder: the pack; it must not exist.
        size: (height, width) to which images are resized; without it, all must have one size.
        fit: how they are resized, ``stretch`` or ``pad``.
        on_error: ``stop`` raises on any problem of the data, ``skip`` skips the image.
        progress: called with the progress.

    Raises:
        DataError: all problems of the data, with file and row.
        OSError: the disk is full or cannot be written.
    """
    if source.problems and on_error == "stop":  # report all problems at once, not only the CSV's
        raise data_error(examine(source, size, progress, fit).problems)
    source = source.without(source.problems) if source.problems else source
    scratch = folder.with_name(folder.name + ".part")
    kept = source
    form = Form(*(size or _likely_size(source, on_error)), 1, len(source.classes), fit)
    try:
        while True:
            try:
                placed = _write(scratch, kept, form, size is None, progress)
            except HasColourError:  # then all are stored in colour
                form = form._replace(channels=3)
                continue
            problems = [problem for one in placed if isinstance(one, list) for problem in one]
            if not problems:
                break
            if size is None and (usual := _usual_size(source, on_error)) != form.size:
                kept, form = source, form._replace(height=usual[0], width=usual[1], channels=1)
            elif on_error == "stop" or len(problems) == len(kept.records):
                raise data_error(problems)
            else:
                kept = kept.without(problems)
        _finish(scratch, kept, form, [one for one in placed if isinstance(one, Placed)])
        (scratch / "pack").replace(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


# Sizes


def _likely_size(source: Source, on_error: str) -> tuple[int, int]:
    """Guess the most common size from a sample of images."""
    some = count_sizes(source.records[:: max(1, len(source.records) // 64)])
    size = usual_size(some)
    return size if size and not are_mixed(some) else _usual_size(source, on_error)


def _usual_size(source: Source, on_error: str) -> tuple[int, int]:
    """Find the most common size of all images.

    Raises:
        DataError: no image can be read, or their sizes are mixed: too many would be left out.
    """
    sizes = count_sizes(source.records)
    size = usual_size(sizes)
    if size is None or are_mixed(sizes, SKIPPED if on_error == "skip" else USUAL):
        raise data_error(examine(source).problems)
    return size


# Parallel work


def _stream(
    pool: Executor, work: Callable[[int, Sequence[Record]], _T], source: Source, n: int
) -> Iterator[_T]:
    """Submit batches of ``n`` records; yield results in order, a few ahead."""
    ahead: deque[Future[_T]] = deque()
    for start in range(0, len(source.records), n):
        ahead.append(pool.submit(work, start, source.records[start : start + n]))
        if len(ahead) > 2 * cores():
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


def _workers(count: int, size: tuple[int, int]) -> AbstractContextManager[Executor]:
    """Return threads for little work, processes for much (threads compete for the GIL)."""
    seconds = count * (5e-4 + 1e-8 * math.prod(size))  # a rough estimate
    return processes(cores()) if seconds > PROCESSES_FROM else ThreadPoolExecutor(cores())


# Arrays, index and fingerprint


def _write(
    folder: Path, source: Source, form: Form, strict: bool, progress: Progress | None
) -> list[Placed | list[Problem]]:
    """Write the arrays from scratch.

    Returns:
        Per image what the index needs, or its problems.

    Raises:
        HasColourError: an image has colour and the form one channel.
    """
    total = len(source.records)
    _lay_out(folder, total, form)
    n = max(1, min(MOST, BATCH // math.prod(form.size)))
    work = partial(place, folder=folder, form=form, strict=strict)
    placed: list[Placed | list[Problem]] = []
    with _workers(total, form.size) as pool:
        for batch in _stream(pool, work, source, n):
            for one in batch:
                placed.append(one)
                if progress:
                    progress("packing images", len(placed), total)
    return placed


def _lay_out(folder: Path, count: int, form: Form) -> None:
    """Create the files with their final length, so that workers can write to their places."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, (before, share) in form.places.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.truncate(path, before + count * share)


def _finish(folder: Path, source: Source, form: Form, placed: Sequence[Placed]) -> None:
    """Write everything that needs all images, and flush the pack to disk."""
    pack, count = folder / "pack", len(source.records)
    for name, (kind, shape) in form.arrays.items():
        with (pack / name).open("r+b") as file:
            file.write(header(kind, (count, *shape)))
    thumbnails = np.memmap(folder / THUMBNAILS, np.uint8, "r")
    groups = duplicates.group(thumbnails.reshape(count, duplicates.CELLS, duplicates.CELLS))
    meaning = [source.classes, form.size, *([form.fit] if form.fit != "stretch" else [])]
    content = hashlib.sha256(json.dumps(meaning).encode())
    for one in placed:
        content.update(f"{one.image_id}|{one.part}".encode() + bytes.fromhex(one.digest))
    index = pd.DataFrame(placed, columns=list(Placed._fields)).drop(columns="digest")
    index.assign(group=groups).to_parquet(pack / "index.parquet")
    about = {
        "name": source.name,
        "classes": source.classes,
        "fit": form.fit,
        "fingerprint": content.hexdigest(),
        "left_out": [str(p) for p in source.left_out],
        "version": VERSION,
    }
    (pack / "pack.json").write_text(json.dumps(about, indent=2))
    for path in pack.iterdir():
        sync(path)
