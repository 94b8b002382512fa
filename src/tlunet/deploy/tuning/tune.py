"""Fit thresholds, minimum areas, a gate and flips of a run on its validation set only.

The fitted rules are measured once on the test set, next to the scores at the run's own threshold.
Only the latter are compared with the paper.
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
from tlunet.model.flags import count_flags, rows
from tlunet.model.scores import flatten, mla, summarise

SAME = 1e-4  # tolerance for the run's own scores: a pixel or two may be at the threshold
ELSEWHERE = 5e-3  # … on a different device or precision
RESAMPLES = 2000


class Gain(NamedTuple):
    """Mean difference on the test set, paired by image, with its 95% interval.

    The interval is a percentile bootstrap over the test images, with near-duplicates drawn
    together. It covers the choice of test images, not retraining.
    """

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float | None]:
        """Return the values; undefined ones become null."""
        return {name: None if np.isnan(v) else v for name, v in self._asdict().items()}


class Step(NamedTuple):
    """Result of adding one more kind of rule."""

    name: str  # from tlunet.deploy.tuning.search.STEPS; "" for the run's own threshold
    rules: Rules
    validation: float  # the goal's score
    test: float
    gain: Gain | None = None  # on the test set, over the previous step


class Tuned(NamedTuple):
    """Result of tuning.

    Attributes:
        goal: the score that was optimised.
        rules: the best rules on the validation set.
        steps: the run's own threshold, then one step per kind of rule.
        validation: all scores at the run's threshold, and as ``tuned_…`` with the rules.
        test: the same on the test set.
        flags: test images missed and falsely flagged, for any class, then by class; see
            :meth:`as_dict`.
        gains: total gains on the test set, of the goal and of ``mla``.
    """

    goal: str
    rules: Rules
    steps: list[Step]
    validation: dict[str, Any]
    test: dict[str, Any]
    flags: list[dict[str, int]]
    gains: dict[str, Gain]

    def as_dict(self) -> dict[str, Any]:
        """Return the content of ``tuned.json``.

        Its ``flags`` has one row for any class and one per class: the test images ``defective``
        (with the class) and ``defect_free`` (without any), of the former those ``missed_masks``
        and ``missed_labels``, of the latter those falsely flagged, ``false_masks`` and
        ``false_labels``; at the run's threshold, and as ``tuned_…`` with the rules.
        """
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
            "flags": self.flags,
            "gains": {name: gain.as_dict() for name, gain in self.gains.items()},
            "steps": steps,
            "grid": grid,
        }

    @property
    def thresholds(self) -> list[float]:
        """Grid of the search."""
        return list(thresholds_for(self.steps[0].rules.thresholds[0]))


def check_goal(goal: str) -> None:
    """Raise ConfigError unless the goal is a key of :data:`tlunet.deploy.tuning.search.GOALS`."""
    if goal not in GOALS:
        raise ConfigError(f"--goal {goal}: expected {', '.join(GOALS)}")


def tune(
    predictor: Predictor,
    batches: Callable[[str], Any],
    size: tuple[int, int],
    groups: NDArray[np.int64],
    goal: str = "dice_kaggle",
    progress: Callable[[str, int], None] | None = None,
) -> Tuned:
    """Fit rules on the validation set and measure them on the test set.

    Args:
        predictor: the run's network, at its own threshold.
        batches: returns the batches of ``val`` or ``test``, each image once.
        size: (height, width) of the images.
        groups: (N,) groups of near-duplicates among the test images, in the pack's order.
        goal: a key of :data:`tlunet.deploy.tuning.search.GOALS`.
        progress: called with the subset and the number of images after each batch.

    Raises:
        DataError: the validation set has no defects.
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
    """Fit and measure rules from counts; the test counts are not used for fitting.

    Raises:
        DataError: the validation set has no defects.
    """
    if not validation.truth.any():
        raise DataError("the validation set has no defects; nothing to tune on")
    fitted = [("", plain)]
    for k, name in enumerate(STEPS):
        fitted.append((name, fit(validation, fitted[-1][1], STEPS[: k + 1], goal, pixels)))
    labels = fit_labels(validation.under(fitted[-1][1]), plain.labels)
    rules = Rules(**vars(fitted[-1][1]) | {"labels": labels})
    by_image = [image_scores(test, step_rules, goal) for _, step_rules in fitted]
    steps = [
        Step(
            name,
            step_rules,
            score_of(validation, step_rules, goal),
            score_of(test, step_rules, goal),
            gain(by_image[k - 1], by_image[k], groups) if k else None,
        )
        for k, (name, step_rules) in enumerate(fitted)
    ]
    own, tuned = (
        mla(test.tested.label, test.under(one).prob > np.asarray(one.labels, np.float32))
        for one in (plain, rules)
    )
    gains = {goal: gain(by_image[0], by_image[-1], groups), "mla": gain(own, tuned, groups)}
    of_validation, of_test = (_scores(part, plain, rules) for part in (validation, test))
    return Tuned(goal, rules, steps, of_validation, of_test, _flags(test, plain, rules), gains)


def gain(
    before: NDArray[np.float64], after: NDArray[np.float64], groups: NDArray[np.int64]
) -> Gain:
    """Compute the mean of ``after - before`` over images with its interval.

    Args:
        before: (N,) scores per image; NaN if an image has none.
        after: (N,) likewise.
        groups: (N,) groups of near-duplicates; a group is always drawn as a whole.

    Returns:
        The gain; all NaN if no image has both scores, no interval (NaN) for a single group.
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


def _flags(counts: Counts, plain: Rules, rules: Rules) -> list[dict[str, int]]:
    flagged = {}
    for prefix, own, applied in ("", counts.tested, plain), ("tuned_", counts.under(rules), rules):
        flagged[f"{prefix}%s_masks"] = own.predicted > 0
        flagged[f"{prefix}%s_labels"] = applied.present(own.prob)
    table = []
    for columns in rows(counts.truth.shape[1]):
        row: dict[str, int] = {}
        for name, flag in flagged.items():
            count_of = count_flags(counts.tested.label, flag, columns)
            row |= {"defective": count_of.defective, "defect_free": count_of.defect_free}
            row |= {name % "missed": count_of.missed, name % "false": count_of.false}
        table.append(row)
    return table


def check_same(
    measured: Mapping[str, Any], known: Mapping[str, Any], is_same_machine: bool
) -> float:
    """Compare the scores at the run's own threshold with those of its ``metrics.json``.

    Args:
        measured: test scores measured now.
        known: test scores of the run.
        is_same_machine: whether device and precision match the run's.

    Returns:
        The largest difference.

    Raises:
        DataError: they differ, so the images, split or weights are not the run's.
    """
    now, then = flatten(measured), flatten(known)
    shared = [k for k in then if k in now and isinstance(then[k], int | float)]
    apart = {key: abs(now[key] - then[key]) for key in shared}
    worst = max(apart, key=lambda key: apart[key])
    allowed = SAME if is_same_machine else ELSEWHERE
    if not apart[worst] <= allowed:
        raise DataError(
            f"metrics.json: {worst} is {then[worst]:.6g}, measured now {now[worst]:.6g}; images, "
            "split or weights are not the run's, or the hardware differs: tune where it was trained"
        )
    return apart[worst]
