"""How many images each condition misses or flags falsely: what a plant decides on."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from tlunet.report.analysis.blocks import Block

BY = ("masks", "labels")  # what flags an image: any predicted pixel, or any predicted label
ANY = "any class"


def flags(blocks: Iterable[Block]) -> pd.DataFrame:
    """Count test images with a defect that are not flagged, and defect-free ones that are.

    Returns:
        By block, for any class and for each class, one row per cell: ``block, class, encoder,
        init, frac, n_seeds``, the images ``defective`` (with the class) and ``defect_free``
        (without any defect), and for ``masks`` and ``labels`` the means over seeds
        ``missed_<by>`` and ``false_<by>``, in images: not flagged for the class though it is
        there, and flagged for it though there is no defect.
    """
    rows: list[dict[str, object]] = []
    for block in blocks:
        rows += _rows(block, ANY, range(len(block.classes)))
        for m, name in enumerate(block.classes):
            rows += _rows(block, f"class {m + 1} ({name})", [m])
    return pd.DataFrame(rows)


def _rows(block: Block, name: str, classes: Sequence[int]) -> Iterator[dict[str, object]]:
    for key in block.keys:
        own = [block.counts[k] for k in block.runs(key).index]
        defective = [counts.label[:, list(classes)].any(1) for counts in own]
        free = [~counts.label.any(1) for counts in own]
        row: dict[str, object] = {
            "block": block.title, "class": name, **key._asdict(), "n_seeds": len(own),
            "defective": float(np.mean([one.sum() for one in defective])),
            "defect_free": float(np.mean([one.sum() for one in free])),
        }  # fmt: skip
        for by in BY:
            flagged = [
                (counts.predicted[:, list(classes)] > 0).any(1)
                if by == "masks"
                else (counts.prob[:, list(classes)] > block.threshold).any(1)
                for counts in own
            ]
            missed = [(has & ~flag).sum() for has, flag in zip(defective, flagged, strict=True)]
            false = [(none & flag).sum() for none, flag in zip(free, flagged, strict=True)]
            row[f"missed_{by}"], row[f"false_{by}"] = float(np.mean(missed)), float(np.mean(false))
        yield row
