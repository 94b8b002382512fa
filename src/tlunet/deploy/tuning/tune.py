"""Thresholds, smallest areas, a gate and flips that suit a run: fitted on its validation part only.

What is fitted is then measured once on the test part, beside the numbers of the run's own
threshold, which stay the ones that are compared with the paper.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tlunet.deploy.predict import Predictor
from tlunet.deploy.rules import Rules
from tlunet.deploy.tuning.counts import Counts, count
from tlunet.deploy.tuning.search import (
    AREAS,
    GATES,
    GOALS,
    STEPS,
    fit,
    fit_labels,
    image_scores,
    score_of,
    thresholds_for,
)
from tlunet.errors import ConfigError, DataError
from tlunet.model.scores import mla, summarise

SAME = 1e-4  # how far a score may be from the run's own: a pixel or two lie on the threshold
ELSEWHERE = 5e-3  # … on another device or precision than the run's
RESAMPLES = 2000


class Gain(NamedTuple):
    """A mean difference on the test part, paired by image, and its 95 % interval.

    From a percentile bootstrap over the test images, near-duplicates drawn together. It says what
    other images would do, not what another training run would.
    """

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float | None]:
        """Null for what cannot be said."""
        return {name: None if np.isnan(v) else v for name, v in self._asdict().items()}


class Step(NamedTuple):
    """What one more part of the rules brings."""

    name: str  # of tlunet.deploy.tuning.search.STEPS; "" for the run's own threshold
    rules: Rules
    validation: float  # the goal's score
    test: float
    gain: Gain | None = None  # on the test part, over the step before


class Tuned(NamedTuple):
    """What tuning found.

    Attributes:
        goal: the score that was raised.
        rules: the best ones on validation.
        steps: from the run's own threshold on, a step for each part of the rules.
        validation: every score at the run's threshold, and as ``tuned_…`` by the rules.
        test: the same of the test part.
        gains: on the test part in all, of the goal and of ``mla``.
    """

    goal: str
    rules: Rules
    steps: list[Step]
    validation: dict[str, Any]
    test: dict[str, Any]
    gains: dict[str, Gain]

    def as_dict(self) -> dict[str, Any]:
        """The content of ``tuned.json``."""
        steps = [
            step._asdict()
            | {"rules": step.rules.as_dict(), "gain": step.gain and step.gain.as_dict()}
            for step in self.steps
        ]
        grid = {"thresholds": self.thresholds, "area_shares": list(AREAS), "gates": list(GATES)}
        return {
            "goal": self.goal,
            "rules": self.rules.as_dict(),
            "validation": self.validation,
            "test": self.test,
            "gains": {name: gain.as_dict() for name, gain in self.gains.items()},
            "steps": steps,
            "grid": grid,
        }

    @property
    def thresholds(self) -> list[float]:
        """The grid that was searched."""
        return list(thresholds_for(self.steps[0].rules.thresholds[0]))


def check_goal(goal: str) -> None:
    """Raise ConfigError unless a goal is one of :data:`tlunet.deploy.tuning.search.GOALS`."""
    if goal not in GOALS:
        raise ConfigError(f"--goal {goal}: allowed are {', '.join(GOALS)}")


def tune(
    predictor: Predictor,
    batches: Callable[[str], Any],
    size: tuple[int, int],
    groups: NDArray[np.int64],
    goal: str = "dice_kaggle",
    progress: Callable[[str, int], None] | None = None,
) -> Tuned:
    """Fit rules on the validation part, measure them on the test part.

    Args:
        predictor: the run's network, by its own threshold.
        batches: of ``val`` and of ``test``, each image once.
        size: (height, width) of the images.
        groups: (N,) of near-duplicates among the test images, in the pack's order.
        goal: a key of :data:`tlunet.deploy.tuning.search.GOALS`.
        progress: told a part and the number of images after each batch.

    Raises:
        DataError: there is no defect in the validation part to fit to.
    """
    thresholds = thresholds_for(predictor.threshold)
    validation, test = (
        count(predictor, batches(part), thresholds, partial(progress, part) if progress else None)
        for part in ("val", "test")
    )
    pixels = size[0] * size[1]
    return fit_and_measure(validation, test, groups, predictor.rules, pixels, goal)


def fit_and_measure(
    validation: Counts,
    test: Counts,
    groups: NDArray[np.int64],
    plain: Rules,
    pixels: int,
    goal: str,
) -> Tuned:
    """The same, from counts. Nothing that is fitted sees those of the test part.

    Raises:
        DataError: there is no defect in the validation part to fit to.
    """
    if not validation.truth.any():
        raise DataError("no image of the validation part has a defect: nothing to tune with")
    fitted = [("", plain)]
    for k, name in enumerate(STEPS):
        fitted.append((name, fit(validation, fitted[-1][1], STEPS[: k + 1], goal, pixels)))
    labels = fit_labels(validation.under(fitted[-1][1]), plain.labels)
    rules = Rules(**vars(fitted[-1][1]) | {"labels": labels})
    by_image = [image_scores(test, found, goal) for _, found in fitted]
    steps = [
        Step(
            name,
            found,
            score_of(validation, found, goal),
            score_of(test, found, goal),
            gain(by_image[k - 1], by_image[k], groups) if k else None,
        )
        for k, (name, found) in enumerate(fitted)
    ]
    own, tuned = (
        mla(test.tested.label, test.under(one).prob > np.asarray(one.labels, np.float32))
        for one in (plain, rules)
    )
    gains = {goal: gain(by_image[0], by_image[-1], groups), "mla": gain(own, tuned, groups)}
    of_validation, of_test = (_scores(part, plain, rules) for part in (validation, test))
    return Tuned(goal, rules, steps, of_validation, of_test, gains)


def gain(
    before: NDArray[np.float64], after: NDArray[np.float64], groups: NDArray[np.int64]
) -> Gain:
    """The mean of ``after - before`` over images, with its interval.

    Args:
        before: (N,) scores of images; NaN where an image has none.
        after: the same.
        groups: (N,) of near-duplicates; one group is drawn whole.

    Returns:
        NaN all three if no image has both scores; no interval (NaN) of a single group.
    """
    difference = after - before
    scored = np.isfinite(difference)
    _, place = np.unique(groups[scored], return_inverse=True)
    sums, sizes = np.bincount(place, difference[scored]), np.bincount(place).astype(float)
    if len(sums) == 0:
        return Gain(np.nan, np.nan, np.nan)
    value = float(sums.sum() / sizes.sum())
    if len(sums) == 1:
        return Gain(value, np.nan, np.nan)
    interval = stats.bootstrap(
        (sums, sizes),
        lambda s, n, axis: s.sum(axis) / n.sum(axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=RESAMPLES,
        batch=max(1, 10_000_000 // len(sums)),
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Gain(value, float(interval.low), float(interval.high))


def _scores(counts: Counts, plain: Rules, rules: Rules) -> dict[str, Any]:
    own = summarise(counts.tested, plain.labels[0])
    tuned = summarise(counts.under(rules), rules.labels)
    for scores in (own, tuned):
        del scores["empty_predictor"]
    del tuned["n_images"]
    return own | {f"tuned_{name}": score for name, score in tuned.items()}


def check_same(found: Mapping[str, Any], known: Mapping[str, Any], is_same_machine: bool) -> float:
    """Compare the scores at the run's own threshold with those of its ``metrics.json``.

    Args:
        found: the test part's scores, measured now.
        known: what the run wrote.
        is_same_machine: whether device and precision are those of the run.

    Returns:
        The largest difference.

    Raises:
        DataError: they are not the same: not the run's images, split or weights.
    """
    now, then = _leaves(found), _leaves(known)
    shared = [key for key in then if key in now]
    apart = {key: abs(now[key] - then[key]) for key in shared}
    worst = max(apart, key=lambda key: apart[key])
    allowed = SAME if is_same_machine else ELSEWHERE
    if not apart[worst] <= allowed:
        raise DataError(
            f"metrics.json: {worst} is {then[worst]:.6g}, measured now {now[worst]:.6g}; not the "
            "run's images, split or weights, or a machine that computes otherwise: tune where it "
            "was trained"
        )
    return apart[worst]


def _leaves(scores: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Every number in nested scores, by its path; nulls are left out."""
    leaves: dict[str, float] = {}
    for key, value in scores.items():
        if isinstance(value, Mapping):
            leaves |= _leaves(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            leaves[f"{prefix}{key}"] = float(np.float64(value))
    return leaves
