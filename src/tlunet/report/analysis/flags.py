"""How many images each condition misses or flags falsely: what a plant decides on."""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from tlunet.model.flags import ANY, count_flags, rows
from tlunet.report.analysis.blocks import Block


def flags(blocks: Iterable[Block]) -> pd.DataFrame:
    """Count test images with a defect that are not flagged, and defect-free ones that are.

    Returns:
        By block, for any class and for each class, one row per cell: ``block, class, encoder,
        init, frac, n_seeds``, the images ``defective`` (with the class) and ``defect_free``
        (without any defect), and for ``masks`` and ``labels`` the means over seeds
        ``missed_<by>`` and ``false_<by>``, in images: not flagged for the class though it is
        there, and flagged for it though there is no defect. What flags an image is any predicted
        pixel, or any predicted label.
    """
    table: list[dict[str, object]] = []
    for block in blocks:
        names = ANY, *(f"class {m + 1} ({name})" for m, name in enumerate(block.classes))
        for name, columns in zip(names, rows(len(block.classes)), strict=True):
            table += _rows(block, name, columns)
    return pd.DataFrame(table)


def _rows(block: Block, name: str, columns: list[int]) -> Iterator[dict[str, object]]:
    for key in block.keys:
        own = [block.counts[k] for k in block.runs(key).index]
        means = {}
        for by in ("masks", "labels"):
            flagged = [
                counts.predicted > 0 if by == "masks" else counts.prob > block.threshold
                for counts in own
            ]
            counted = [count_flags(c.label, f, columns) for c, f in zip(own, flagged, strict=True)]
            means[by] = np.mean(counted, axis=0)
        defective, defect_free, *_ = means["masks"]
        yield {
            "block": block.title, "class": name, **key._asdict(), "n_seeds": len(own),
            "defective": float(defective), "defect_free": float(defect_free),
            "missed_masks": float(means["masks"][2]), "false_masks": float(means["masks"][3]),
            "missed_labels": float(means["labels"][2]), "false_labels": float(means["labels"][3]),
        }  # fmt: skip
