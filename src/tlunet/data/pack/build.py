"""Building a pack: every image decoded once, as a stream that can be broken off at any moment.

Workers decode, do all that can be done to an image by itself, and write it to its place in the
arrays: plain writes, because the pages of a memory map would count as memory of the process. This
process keeps the journal (`tlunet.data.pack.journal`), from which index and fingerprint are made in the
end, so they do not depend on how many attempts it took. Memory holds a few batches, whatever the
number of images, and what grows with it by the kilobyte: the listing, the index, and what
near-duplicates are found by.
"""

import hashlib
import json
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from tlunet.data import duplicates
from tlunet.data.checks.examine import Progress, examine, usual_size
from tlunet.data.pack.journal import Part, sync
from tlunet.data.pack.place import THUMBNAILS, Form, HasColourError, header, place
from tlunet.data.source import Problem, Record, Source, data_error
from tlunet.machine.parallel import cores, processes

VERSION = 2  # of a pack's content; a data set is packed again when it changes
JOURNAL = 3  # of the files of an unfinished pack; it is started over when this changes
BATCH = 2**22  # pixels that a worker decodes at a time,
MOST = 64  # in at most so many images
PROCESSES_FROM = 4.0  # seconds of work worth the second or two that worker processes take to start

_T = TypeVar("_T")


def build(
    source: Source,
    folder: Path,
    *,
    size: tuple[int, int] | None,
    on_error: str,
    progress: Progress | None,
) -> None:
    """Make the pack ``folder``, or go on where an earlier build was broken off.

    It is made in ``<folder>.part`` and renamed into place. Only one process at a time may do so.

    Args:
        source: what a reader listed.
        folder: the pack; it must not exist.
        size: (height, width) to bring every image to; without it all must have one size.
        on_error: ``stop`` raises on any fault of the data, ``skip`` leaves the image out.
        progress: told how far it is.

    Raises:
        DataError: faults of the data, all of them, with file and row.
        OSError: the disk is full or cannot be written; the next build goes on from there.
    """
    if source.problems and on_error == "stop":  # one look tells all faults, not only the CSV's
        raise data_error(examine(source, size, progress).problems)
    source = source.without(source.problems) if source.problems else source
    part = Part(folder.with_name(folder.name + ".part"))
    kept, form = _begun(part, source, size) or (source, None)
    if form is None:
        likely = Form(*(size or _likely_size(source)), channels=1, classes=len(source.classes))
        form = _begin(part, source, likely)
    while True:
        try:
            _write(part, kept, form, size is None, progress)
        except HasColourError:  # so all are kept in colour
            form = _begin(part, kept, form._replace(channels=3))
            continue
        problems = [Problem(**fault) for faults in part.entries("faults") for fault in faults]
        if not problems:
            break
        if size is None and (usual := _usual_size(source)) != form.size:
            kept, form = source, form._replace(height=usual[0], width=usual[1], channels=1)
        elif on_error == "stop" or len(problems) == len(kept.records):
            part.remove()
            raise data_error(problems)
        else:
            kept = kept.without(problems)
        _begin(part, kept, form)
    _finish(part, kept, form)
    (part.folder / "pack").replace(folder)
    part.remove()


def _begun(part: Part, source: Source, size: tuple[int, int] | None) -> tuple[Source, Form] | None:
    """What a build that was broken off had come to, if this one may go on with it."""
    note = part.note
    if note.get("journal") != JOURNAL:
        return None
    form = Form(*note["form"])
    faulty = [Problem(*problem) for problem in note["left_out"][len(source.left_out) :]]
    kept = source.without(faulty) if faulty else source
    return (kept, form) if note == _note(kept, form) and size in (None, form.size) else None


def _begin(part: Part, source: Source, form: Form) -> Form:
    part.begin(_note(source, form))
    return form


def _note(source: Source, form: Form) -> dict[str, Any]:
    """What a build must agree on with the one that it goes on with; the folder's name says more."""
    records = hashlib.sha256()
    for record in source.records:
        records.update(f"{record.image_id}|{record.part}\n".encode())
    n = len(source.records)
    return {
        "journal": JOURNAL,
        "records": records.hexdigest(),
        "form": list(form),
        "left_out": [list(problem) for problem in source.left_out],
        "files": {name: start + n * share for name, (start, share) in form.places.items()},
    }


# Sizes


def _likely_size(source: Source) -> tuple[int, int]:
    """The size that most of some images have: the usual one, unless a fault shows up."""
    some = source.records[:: max(1, len(source.records) // 64)]
    return usual_size(some) or _usual_size(source)


def _usual_size(source: Source) -> tuple[int, int]:
    """The size that most of all images have."""
    if size := usual_size(source.records):
        return size
    raise data_error(examine(source).problems)  # none can be read


# Work shared out


def _stream(
    pool: Executor, work: Callable[[int, Sequence[Record]], _T], source: Source, first: int, n: int
) -> Iterator[_T]:
    """The work on every ``n`` records from the ``first``, in order, a few batches ahead."""
    ahead: deque[Future[_T]] = deque()
    for start in range(first, len(source.records), n):
        ahead.append(pool.submit(work, start, source.records[start : start + n]))
        if len(ahead) > 2 * cores():
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


def _workers(count: int, size: tuple[int, int]) -> AbstractContextManager[Executor]:
    """Threads for little work; for much, processes, since Python's lock lets threads wait."""
    seconds = count * (5e-4 + 1e-8 * math.prod(size))  # roughly
    return processes(cores()) if seconds > PROCESSES_FROM else ThreadPoolExecutor(cores())


# Arrays, index and fingerprint


def _write(part: Part, source: Source, form: Form, strict: bool, progress: Progress | None) -> None:
    """Fill in the images that the part lacks.

    Raises:
        HasColourError: an image has colour and the form one channel.
    """
    total = len(source.records)
    n = max(1, min(MOST, BATCH // math.prod(form.size)))
    work = partial(place, part=part, form=form, strict=strict)
    with part.journal() as journal, _workers(total - journal.done, form.size) as pool:
        for entries, count in _stream(pool, work, source, journal.done, n):
            journal.add(entries, count)
            if progress:
                for done in range(journal.done - count, journal.done):
                    progress("packing images", done + 1, total)


def _finish(part: Part, source: Source, form: Form) -> None:
    """Write what is known only when all images are there."""
    pack, count = part.folder / "pack", len(source.records)
    for name, (kind, shape) in form.arrays.items():
        with (pack / name).open("r+b") as file:
            file.write(header(kind, (count, *shape)))
    thumbnails = np.memmap(part.folder / THUMBNAILS, np.uint8, "r")
    groups = duplicates.group(thumbnails.reshape(count, duplicates.CELLS, duplicates.CELLS))
    content = hashlib.sha256(json.dumps([source.classes, form.size]).encode())
    columns = ("image_id", "part", "height", "width", "labels", "mask_labels", "sum", "squares")
    index: dict[str, list[Any]] = {column: [] for column in columns}
    for row in part.entries("row"):
        content.update(f"{row['image_id']}|{row['part']}".encode() + bytes.fromhex(row["digest"]))
        for column, values in index.items():
            values.append(row[column])
    pd.DataFrame(index | {"group": groups}).to_parquet(pack / "index.parquet")
    about = {
        "name": source.name,
        "classes": source.classes,
        "fingerprint": content.hexdigest(),
        "left_out": [str(p) for p in source.left_out],
        "version": VERSION,
    }
    (pack / "pack.json").write_text(json.dumps(about, indent=2))
    for path in pack.iterdir():
        sync(path)
