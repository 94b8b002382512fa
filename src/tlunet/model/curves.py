"""Points of ROC and precision-recall curves of one network and one class, not averaged."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.bool_]


def roc_points(label: Labels, prob: Floats) -> tuple[Floats, Floats]:
    """(false positive rate, true positive rate) at every distinct score, from (0, 0) to (1, 1).

    Args:
        label: (N,) the truth, with positives and negatives.
        prob: (N,) the scores.

    >>> [rates.tolist() for rates in roc_points(np.array([True, False]), np.array([0.9, 0.1]))]
    [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]]
    """
    hits, others = _as_high(label, prob)
    zero = np.zeros(1)
    return np.append(zero, others / others[-1]), np.append(zero, hits / hits[-1])


def precision_points(label: Labels, prob: Floats) -> tuple[Floats, Floats]:
    """(recall, precision) at every distinct score, highest score first.

    Args:
        label: (N,) the truth, with at least one positive.
        prob: (N,) the scores.
    """
    hits, others = _as_high(label, prob)
    return hits / hits[-1], hits / (hits + others)


def _as_high(label: Labels, prob: Floats) -> tuple[Floats, Floats]:
    """Count positives and negatives at or above each distinct score, highest score first."""
    scores = -np.unique(-prob)
    hits, others = (np.sort(prob[label == truth]) for truth in (True, False))
    above = [len(part) - np.searchsorted(part, scores, side="left") for part in (hits, others)]
    return above[0].astype(np.float64), above[1].astype(np.float64)
