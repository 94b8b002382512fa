"""How many images each condition misses or flags falsely: what a plant decides on."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from tlunet.report.analysis.blocks import Block

BY = ("masks", "labels")  # what flags an image: any predicted pixel, or any predicted label


def flags(block: Block) -> pd.DataFrame:
    """Count test images with a defect that are not flagged, and defect-free ones that are.

    Returns:
        One row per cell: ``encoder, init, frac, n_seeds``, the images ``defective`` and
        ``defect_free``, and for ``masks`` and ``labels`` the means over seeds ``missed_<by>`` and
        ``false_<by>``, in images.
    """
    return pd.DataFrame(list(_rows(block)))


def _rows(block: Block) -> Iterator[dict[str, object]]:
    for key in block.keys:
        own = [block.counts[k] for k in block.runs(key).index]
        defective = [counts.label.any(1) for counts in own]
        row: dict[str, object] = {
            **key._asdict(), "n_seeds": len(own),
            "defective": float(np.mean([one.sum() for one in defective])),
            "defect_free": float(np.mean([(~one).sum() for one in defective])),
        }  # fmt: skip
        for by in BY:
            flagged = [
                (counts.predicted > 0).any(1)
                if by == "masks"
                else (counts.prob > block.threshold).any(1)
                for counts in own
            ]
            both = list(zip(defective, flagged, strict=True))
            row[f"missed_{by}"] = float(np.mean([(has & ~flag).sum() for has, flag in both]))
            row[f"false_{by}"] = float(np.mean([(~has & flag).sum() for has, flag in both]))
        yield row
