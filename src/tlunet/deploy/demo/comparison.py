"""The demo's table: what each network found in an image, class by class."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from tlunet.data.colours import class_colour
from tlunet.deploy.boxes import boxes
from tlunet.deploy.stream import Prediction

Masks = NDArray[np.bool_]  # (M, H, W)


def dice(predicted: Masks, truth: Masks) -> float | None:
    """Compute the Dice of one image, classes pooled; ``None`` if both are empty.

    >>> dice(np.array([[[1, 1, 0]]], bool), np.array([[[0, 1, 1]]], bool))
    0.5
    """
    sums = int(predicted.sum() + truth.sum())
    return 2 * int((predicted & truth).sum()) / sums if sums else None


def table(
    predictions: Mapping[str, Prediction], classes: Sequence[str], truth: Masks | None = None
) -> str:
    """Compare networks on one image as an HTML table; all names are escaped.

    Args:
        predictions: name of a network → its prediction.
        classes: names of the classes 1…M.
        truth: masks of the image, if they are known; then the Dice is shown, too.
    """
    names = [*(["ground truth"] if truth is not None else []), *predictions]
    rows = [_row("class", [escape(name) for name in names], cell="th")]
    for m, name in enumerate(classes):
        cells = [] if truth is None else [_area(truth[m])]
        cells += [_prediction(one, m) for one in predictions.values()]
        rows.append(_row(f"{_chip(m)} {escape(name)}", cells))
    if truth is not None:
        scores = [dice(one.masks, truth) for one in predictions.values()]
        best = max((score for score in scores if score is not None), default=None)
        rows.append(_row("Dice, classes pooled", ["", *(_score(s, best) for s in scores)]))
    return f'<table class="comparison">{"".join(rows)}</table>'


def _row(first: str, cells: Sequence[str], cell: str = "td") -> str:
    return f"<tr><th>{first}</th>{''.join(f'<{cell}>{text}</{cell}>' for text in cells)}</tr>"


def _chip(m: int) -> str:
    colour = "rgb({}, {}, {})".format(*class_colour(m))
    return f'<span class="chip" style="background: {colour}"></span>'


def _prediction(one: Prediction, m: int) -> str:
    probability = f"{one.probabilities[m]:.0%}"
    area = _area(one.masks[m]) if one.masks[m].any() else "no pixels"
    said = f"<b>{probability} yes</b>" if one.labels[m] else f"{probability} no"
    return f"{said}<br>{area}"


def _area(mask: NDArray[np.bool_]) -> str:
    if not mask.any():
        return "–"
    number = len(boxes(mask))
    return f"{mask.mean():.2%} of the image, {number} region{'s' if number > 1 else ''}"


def _score(score: float | None, best: float | None) -> str:
    if score is None:
        return "– (both empty)"
    return f"<b>{score:.3f}</b>" if score and score == best else f"{score:.3f}"
