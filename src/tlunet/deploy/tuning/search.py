"""Find the rules that score best: grid search, class by class, until nothing changes."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlunet.deploy.rules import FLIPS, Rules
from tlunet.deploy.tuning.counts import Counts
from tlunet.model.scores import PixelCounts, dice, iou, mla

THRESHOLDS = tuple(k / 20 for k in range(1, 20))
#: Minimum areas, as fractions of an image: about 40 to 8,000 pixels of 256×1600.
AREAS = (0.0, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2)
GATES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
#: Tuned one after the other, so that the gain of each is known.
STEPS = ("thresholds", "min_areas", "gates", "flips")
PASSES = 8  # maximum passes over the classes; goals that are class means need only one
EPSILON = 1e-9  # smaller gains are rounding

Pixels = NDArray[np.integer]
Score = Callable[[Pixels, Pixels, Pixels], NDArray[np.float64]]


def _pairs(score: Any) -> Score:
    """Average over the classes of an image; both empty = 1."""
    return lambda both, truth, predicted: score(both, truth, predicted, empty=1).mean(1)


def _images(score: Any) -> Score:
    """Pool the classes within an image; NaN without a defect."""

    def pooled(both: Pixels, truth: Pixels, predicted: Pixels) -> NDArray[np.float64]:
        scores = score(both.sum(1), truth.sum(1), predicted.sum(1))
        return np.where(truth.any(1), scores, np.nan)

    return pooled


#: Name → score per image (N,) from pixels (N, M): intersection, ground truth, prediction.
GOALS: dict[str, Score] = {
    "dice_kaggle": _pairs(dice),
    "iou_kaggle": _pairs(iou),
    "dice_image": _images(dice),
    "iou_image": _images(iou),
}


def thresholds_for(own: float) -> tuple[float, ...]:
    """Return the grid of thresholds, including the run's own."""
    return tuple(sorted({*THRESHOLDS, own}))


def fit(counts: Counts, start: Rules, steps: Collection[str], goal: str, pixels: int) -> Rules:
    """Return the rules with the best score on these counts.

    Ties are resolved in favour of the threshold nearest to the run's own, the smallest minimum
    area and the lowest gate; flips are used only if they gain.

    Args:
        counts: counts of the validation set.
        start: start of the search; the result never scores lower.
        steps: rules that may change, from :data:`STEPS`.
        goal: a key of :data:`GOALS`.
        pixels: pixels per image.
    """
    best, most = start, -np.inf
    for flips in FLIPS if "flips" in steps else (start.flips,):
        rules = _climb(counts, replace(start, flips=flips), steps, goal, pixels)
        score = score_of(counts, rules, goal)
        if score > most + EPSILON:
            best, most = rules, score
    return best


def score_of(counts: Counts, rules: Rules, goal: str) -> float:
    """Return the score of rules on some counts."""
    return float(np.nanmean(image_scores(counts, rules, goal)))


def image_scores(counts: Counts, rules: Rules, goal: str) -> NDArray[np.float64]:
    """Return the score of each image (N,); NaN if the goal excludes the image."""
    pixel_counts = counts.under(rules)
    return GOALS[goal](pixel_counts.intersection, pixel_counts.truth, pixel_counts.predicted)


def _climb(counts: Counts, rules: Rules, steps: Collection[str], goal: str, pixels: int) -> Rules:
    """Optimise one class at a time, with the others fixed, until nothing changes."""
    for _ in range(PASSES):
        before = rules
        for m in range(len(rules.thresholds)):
            rules = _best_of_class(counts, rules, m, steps, goal, pixels)
        if rules == before:
            break
    return rules


def _best_of_class(
    counts: Counts, rules: Rules, m: int, steps: Collection[str], goal: str, pixels: int
) -> Rules:
    areas = _grid("min_areas" in steps, [round(a * pixels) for a in AREAS], rules.min_areas[m])
    gates = _grid("gates" in steps, list(GATES), rules.gates[m])
    best, most = rules, score_of(counts, rules, goal)
    for threshold in _thresholds(counts, rules, m, steps):
        tried = replace(rules, thresholds=_put(rules.thresholds, m, threshold))
        scores = _scores(counts, tried, m, areas, gates, goal)  # (A, G)
        a, g = np.unravel_index(int(scores.argmax()), scores.shape)
        if scores[a, g] > most + EPSILON:
            most = float(scores[a, g])
            best = replace(
                tried,
                min_areas=_put(rules.min_areas, m, int(areas[a])),
                gates=_put(rules.gates, m, float(gates[g])),
            )
    return best


def _thresholds(counts: Counts, rules: Rules, m: int, steps: Collection[str]) -> Iterator[float]:
    """Yield the thresholds to try for a class, the current one first."""
    own = rules.thresholds[m]
    near = sorted(counts.thresholds, key=lambda threshold: abs(threshold - own))
    yield from near if "thresholds" in steps else [own]


def _grid(is_free: bool, values: list[Any], own: Any) -> NDArray[Any]:
    return np.array(sorted({*values, own}) if is_free else [own])


def _scores(
    counts: Counts, rules: Rules, m: int, areas: NDArray[Any], gates: NDArray[Any], goal: str
) -> NDArray[np.float64]:
    """Return scores (A, G) for each minimum area and gate of class m.

    Area and gate only decide whether an image's mask is kept, so two scores per image suffice.
    """
    pixel_counts = counts.under(rules)  # used for the other classes
    f, t = list(FLIPS).index(rules.flips), counts.thresholds.index(rules.thresholds[m])
    predicted, both = (x[f, t, :, m] for x in (counts.predicted, counts.intersection))  # (N,)
    with_it, without = (
        GOALS[goal](
            _with(pixel_counts.intersection, m, both * is_kept),
            pixel_counts.truth,
            _with(pixel_counts.predicted, m, predicted * is_kept),
        )
        for is_kept in (1, 0)
    )  # (N,) each
    counted = ~np.isnan(without)
    gained = np.where(counted, with_it - without, 0)
    large = predicted >= areas[:, None]  # (A, N)
    likely = counts.probabilities[f, :, m] >= gates.astype(np.float32)[:, None]  # (G, N)
    scores: NDArray[np.float64] = without[counted].sum() + (large * gained) @ likely.T
    return scores / counted.sum()


def _with(pixels: Pixels, m: int, column: Pixels) -> Pixels:
    """Replace the counts (N, M) of class m."""
    return np.column_stack([pixels[:, :m], column, pixels[:, m + 1 :]])


def _put(values: tuple[Any, ...], m: int, value: Any) -> tuple[Any, ...]:
    return (*values[:m], value, *values[m + 1 :])


def fit_labels(counts: PixelCounts[NDArray[Any]], start: tuple[float, ...]) -> tuple[float, ...]:
    """Return one label threshold per class with the best MLA.

    Args:
        counts: counts of the validation set.
        start: start of the search.
    """
    best, most = start, _mla(counts, start)
    for _ in range(PASSES):
        before = best
        for m in range(len(best)):
            for threshold in sorted(THRESHOLDS, key=lambda t: abs(t - start[m])):
                tried = _put(best, m, threshold)
                if (score := _mla(counts, tried)) > most + EPSILON:
                    best, most = tried, score
        if best == before:
            break
    return best


def _mla(counts: PixelCounts[NDArray[Any]], thresholds: tuple[float, ...]) -> float:
    return mla(counts.label, counts.prob > np.array(thresholds, np.float32)).mean()
