"""Rules that score best on some counts: class by class over a grid, until nothing changes."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlunet.deploy.rules import FLIPS, Rules
from tlunet.deploy.tuning.counts import Counts
from tlunet.model.scores import PixelCounts, dice, iou, mla

THRESHOLDS = tuple(k / 20 for k in range(1, 20))
#: Smallest areas, as shares of an image: of 256×1600 pixels about 40 to 8,000.
AREAS = (0.0, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2)
GATES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
#: What is tuned, one after the other, so that each has a gain of its own.
STEPS = ("thresholds", "min_areas", "gates", "flips")
PASSES = 8  # over the classes at most; goals that are means over classes need one
EPSILON = 1e-9  # a gain below this is rounding

Pixels = NDArray[np.integer]
Score = Callable[[Pixels, Pixels, Pixels], NDArray[np.float64]]


def _pairs(score: Any) -> Score:
    """The mean over the classes of an image, both empty = 1."""
    return lambda both, truth, found: score(both, truth, found, empty=1).mean(1)


def _images(score: Any) -> Score:
    """Classes pooled within the image; NaN without a defect."""

    def pooled(both: Pixels, truth: Pixels, found: Pixels) -> NDArray[np.float64]:
        scores = score(both.sum(1), truth.sum(1), found.sum(1))
        return np.where(truth.any(1), scores, np.nan)

    return pooled


#: Name → what an image adds to the mean (N,), from pixels in both, in the truth, found (N, M).
GOALS: dict[str, Score] = {
    "dice_kaggle": _pairs(dice),
    "iou_kaggle": _pairs(iou),
    "dice_image": _images(dice),
    "iou_image": _images(iou),
}


def thresholds_for(own: float) -> tuple[float, ...]:
    """The grid of thresholds, with the run's own among them."""
    return tuple(sorted({*THRESHOLDS, own}))


def fit(counts: Counts, start: Rules, steps: Collection[str], goal: str, pixels: int) -> Rules:
    """The rules of the best score on these counts.

    Of equal scores the one nearest to the run's own threshold, the smallest area and the lowest
    gate is taken; flips only where they gain.

    Args:
        counts: of the validation part.
        start: where the search begins; its score is never lost.
        steps: what may change, of :data:`STEPS`.
        goal: a key of :data:`GOALS`.
        pixels: of an image.
    """
    best, most = start, -np.inf
    for flips in FLIPS if "flips" in steps else (start.flips,):
        rules = _climb(counts, replace(start, flips=flips), steps, goal, pixels)
        score = score_of(counts, rules, goal)
        if score > most + EPSILON:
            best, most = rules, score
    return best


def score_of(counts: Counts, rules: Rules, goal: str) -> float:
    """What rules score on some counts."""
    return float(np.nanmean(image_scores(counts, rules, goal)))


def image_scores(counts: Counts, rules: Rules, goal: str) -> NDArray[np.float64]:
    """What each image adds to that score, (N,); NaN where the goal leaves an image out."""
    found = counts.under(rules)
    return GOALS[goal](found.intersection, found.truth, found.predicted)


def _climb(counts: Counts, rules: Rules, steps: Collection[str], goal: str, pixels: int) -> Rules:
    """Class by class the best of the grid, the others as they are, until nothing changes."""
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
    """Those to be tried for a class, the present one first."""
    own = rules.thresholds[m]
    near = sorted(counts.thresholds, key=lambda threshold: abs(threshold - own))
    yield from near if "thresholds" in steps else [own]


def _grid(is_free: bool, values: list[Any], own: Any) -> NDArray[Any]:
    return np.array(sorted({*values, own}) if is_free else [own])


def _scores(
    counts: Counts, rules: Rules, m: int, areas: NDArray[Any], gates: NDArray[Any], goal: str
) -> NDArray[np.float64]:
    """(A, G) scores with each smallest area and gate for class m.

    Whatever these two are, an image's mask is kept or dropped: two scores an image say it all.
    """
    found = counts.under(rules)  # of the other classes
    f, t = list(FLIPS).index(rules.flips), counts.thresholds.index(rules.thresholds[m])
    predicted, both = (x[f, t, :, m] for x in (counts.predicted, counts.intersection))  # (N,)
    with_it, without = (
        GOALS[goal](
            _with(found.intersection, m, both * is_kept),
            found.truth,
            _with(found.predicted, m, predicted * is_kept),
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
    """Counts (N, M) with others for class m."""
    return np.column_stack([pixels[:, :m], column, pixels[:, m + 1 :]])


def _put(values: tuple[Any, ...], m: int, value: Any) -> tuple[Any, ...]:
    return (*values[:m], value, *values[m + 1 :])


def fit_labels(found: PixelCounts[NDArray[Any]], start: tuple[float, ...]) -> tuple[float, ...]:
    """A threshold a class for the labels, of the best MLA.

    Args:
        found: of the validation part.
        start: where the search begins.
    """
    best, most = start, _mla(found, start)
    for _ in range(PASSES):
        before = best
        for m in range(len(best)):
            for threshold in sorted(THRESHOLDS, key=lambda t: abs(t - start[m])):
                tried = _put(best, m, threshold)
                if (score := _mla(found, tried)) > most + EPSILON:
                    best, most = tried, score
        if best == before:
            break
    return best


def _mla(found: PixelCounts[NDArray[Any]], thresholds: tuple[float, ...]) -> float:
    return mla(found.label, found.prob > np.array(thresholds, np.float32)).mean()
