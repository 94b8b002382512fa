"""Measure claims: one function per kind of claim (claims.py explains the kinds)."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlunet.report.analysis.asked import (
    AbsentError,
    Claim,
    cells_of,
    image_metrics_of,
    metrics_of,
    pairs_of,
    seeds_of,
)
from tlunet.report.analysis.bootstrap import Draws, weighted_sums
from tlunet.report.analysis.comparisons import kindred
from tlunet.report.analysis.label_worth import curve_of, label_worth, others_of
from tlunet.report.analysis.resampled import Cell, Resampled, interval_over, shares
from tlunet.report.analysis.statistics import Estimate, estimate, ratio, t_interval

Floats = NDArray[np.float64]

SEEDS, ORDER = "seeds only (t)", "by order, no interval"


class Measured(NamedTuple):
    """One measurement that answers a claim.

    Attributes:
        case: the cells measured.
        value: the estimate shown next to the claimed number.
        evidence: the estimate that must be above zero for the claim to hold.
        n_seeds: number of seeds averaged.
        interval: what the interval covers.
    """

    case: str
    value: Estimate
    evidence: Estimate
    n_seeds: int
    interval: str


def _of(label: str, by_seed: Floats, others: Sequence[float] = ()) -> Measured:
    interval, n_seeds = estimate(by_seed, others), len(by_seed)
    return Measured(label, interval, interval, n_seeds, interval_over(n_seeds))


def _named(pairs: Sequence[tuple[Cell, Cell]]) -> str:
    def name(a: Cell, b: Cell) -> str:
        if a.block is b.block:
            return f"{a.key} vs. {b.key}"
        return f"{a.key} of {a.block.data.title} vs. {b.block.data.title}"

    names = [name(a, b) for a, b in pairs]
    return names[0] if len(names) == 1 else f"mean of {'; '.join(names)}"


def _difference(claim: Claim, blocks: Sequence[Resampled]) -> Iterator[Measured]:
    pairs = pairs_of(claim, blocks)
    relative = claim["kind"] == "relative"

    def of(metric: str, pair: tuple[Cell, Cell], seeds: Sequence[int]) -> Floats:
        a, b = (cell.by_seed(metric, seeds) for cell in pair)
        return ratio(a, b) if relative else a - b

    def single(metric: str, pair: tuple[Cell, Cell], label: str) -> Measured:
        others = [] if relative else kindred(metric, *pair)
        return _of(label, of(metric, pair, seeds_of(*pair)), others)

    cases = list(product(metrics_of(claim, pairs[0][0]), pairs))
    if len(cases) == 1:
        yield single(*cases[0], _named(pairs))
    elif claim.get("every"):
        for metric, pair in cases:
            yield single(metric, pair, f"{metric}: {_named([pair])}")
    else:
        seeds = seeds_of(*(cell for pair in pairs for cell in pair))
        yield _of(_named(pairs), np.mean([of(m, pair, seeds) for m, pair in cases], axis=0))


def _at_most(claim: Claim, blocks: Sequence[Resampled]) -> Iterator[Measured]:
    margin = claim["margin"]
    for case in _difference(claim, blocks):
        value, low, high, _ = case.value
        yield case._replace(evidence=Estimate(margin - value, margin - high, margin - low))


def _improved(claim: Claim, blocks: Sequence[Resampled]) -> Iterator[Measured]:
    for a, b in pairs_of(claim, blocks):
        seeds_of(a, b)
        for metric in image_metrics_of(claim, a):
            better, _, worse = shares(metric, a, b)
            case = _of(_named([(a, b)]), better)
            yield case._replace(evidence=estimate(better - worse))


def _growth(claim: Claim, blocks: Sequence[Resampled]) -> Iterator[Measured]:
    less, more = pairs_of(claim, blocks), pairs_of(claim, blocks, **claim["than"])
    seeds = seeds_of(*(cell for pair in (*less, *more) for cell in pair))
    contrast = ratio if claim["kind"] == "relative_growth" else np.subtract
    for metric in metrics_of(claim, less[0][0]):
        gains = [
            np.mean([contrast(*(c.by_seed(metric, seeds) for c in pair)) for pair in pairs], 0)
            for pairs in (less, more)
        ]
        yield _of(f"{_named(less)}, minus {_named(more)}", gains[0] - gains[1])


def _others(a: Cell) -> list[Cell]:
    """Return every other cell of the same block with the same fraction of the data.

    Raises:
        AbsentError: there is no such cell.
    """
    keys = [k for k in a.block.data.keys if k.frac == a.key.frac and k != a.key]
    if not keys:
        raise AbsentError("nothing to compare it with")
    return [a.block.cell(key) for key in keys]


def _best(claim: Claim, blocks: Sequence[Resampled]) -> Iterator[Measured]:
    for a in cells_of(claim["a"], blocks):
        for metric, b in product(metrics_of(claim, a), _others(a)):
            seeds = seeds_of(a, b)
            difference = a.by_seed(metric, seeds) - b.by_seed(metric, seeds)
            yield _of(f"{a.key} vs. {b.key}", difference, kindred(metric, a, b))


def _classes(claim: Claim, blocks: Sequence[Resampled]) -> Iterator[Measured]:
    for cell in cells_of(claim["a"], blocks):
        for high, low in product(claim["higher"], claim["lower"]):
            names = metrics_of({"metric": [f"{claim['metric']}_{c}" for c in (high, low)]}, cell)
            a, b = (cell.by_seed(name, cell.seeds) for name in names)
            yield _of(f"{cell.key}: class {high} vs. {low}", a - b)


def _rarest(claim: Claim, blocks: Sequence[Resampled]) -> Iterator[Measured]:
    for cell in cells_of(claim["a"], blocks):
        images = cell.block.data.labels.sum(0)  # (M,) test images with each class
        rarest = int(np.argmin(images)) + 1
        classes = range(1, len(images) + 1)
        names = metrics_of({"metric": [f"{claim['metric']}_{c}" for c in classes]}, cell)
        of = {c: cell.by_seed(n, cell.seeds) for c, n in zip(classes, names, strict=True)}
        others = np.mean([scores for c, scores in of.items() if c != rarest], axis=0)
        label = f"{cell.key}: mean of the other classes minus class {rarest}"
        yield _of(label, others - of[rarest])


def _complex(claim: Claim, blocks: Sequence[Resampled]) -> Iterator[Measured]:
    """Compare the third of the images with the simplest defects with the most complex third."""
    for cell in cells_of(claim["a"], blocks):
        if isinstance(cell.block.shapes, str):
            raise AbsentError(cell.block.shapes)
        for metric, (name, values) in product(
            image_metrics_of(claim, cell), cell.block.shapes.items()
        ):
            low, high = np.nanquantile(values, [1 / 3, 2 / 3])
            thirds = np.stack([values <= low, (values > low) & (values >= high)])  # (2, N)
            if not thirds.any(1).all():
                raise AbsentError(f"{name} hardly varies between the images")
            scores = cell.images(metric, cell.seeds)  # (S, N)
            simple, ragged = (_mean_over(cell.block.draws, scores, third) for third in thirds)
            yield _of(f"{cell.key}: lowest minus highest third by {name}", simple - ragged)


def _mean_over(draws: Draws, scores: Floats, chosen: NDArray[np.bool_]) -> Floats:
    """Average scores over some images in every draw, (S, R + 1)."""
    known = chosen & ~np.isnan(scores)  # (S, N)
    sums = weighted_sums(draws, np.concatenate([np.where(known, scores, 0), known]).T)
    total, times = np.hsplit(sums, 2)  # (R + 1, S) each
    return np.divide(total, times, out=np.full_like(total, np.nan), where=times > 0).T


def _label_worth(claim: Claim, blocks: Sequence[Resampled]) -> Iterator[Measured]:
    for cell in cells_of(claim["a"], blocks):
        for metric in metrics_of(claim, cell):
            curve, target = curve_of(cell.block, cell.key, metric)
            if len(curve) < 2:
                raise AbsentError("random weights were not trained on several fractions")
            if not len(target):
                raise AbsentError(f"no common seed: {cell.key} and random with other fractions")
            others = others_of(cell.block, cell.key, metric)
            worth = label_worth(curve, target, cell.key.frac, others)
            fracs = ", ".join(map(str, sorted(curve)))
            case = f"{metric}: {cell.key} vs. random with {fracs}"
            n_seeds, value = len(target), Estimate(*worth)
            yield Measured(case, value, worth.octaves, n_seeds, interval_over(n_seeds))


def _median(claim: Claim, blocks: Sequence[Resampled]) -> Iterator[Measured]:
    yield from _ordered(claim, pairs_of(claim, blocks), lambda a, b: np.median(a) - np.median(b))


def _smallest_box(claim: Claim, blocks: Sequence[Resampled]) -> Iterator[Measured]:
    def height(values: Floats) -> float:
        inside = claim.get("box", 0.5)  # fraction of the values in the box
        return float(np.subtract(*np.quantile(values, [(1 + inside) / 2, (1 - inside) / 2])))

    pairs = [(a, b) for a in cells_of(claim["a"], blocks) for b in _others(a)]
    yield from _ordered(claim, pairs, lambda a, b: height(b) - height(a))


def _ordered(
    claim: Claim, pairs: Sequence[tuple[Cell, Cell]], margin: Callable[[Floats, Floats], float]
) -> Iterator[Measured]:
    """Compare a and b by the values of a box plot: images with a defect, seeds pooled."""
    for metric, (a, b) in product(image_metrics_of(claim, pairs[0][0]), pairs):
        seeds = seeds_of(a, b)
        images = [cell.images(metric, seeds) for cell in (a, b)]
        ahead = float(margin(*(values[~np.isnan(values)] for values in images)))
        shown, exact = Estimate(ahead, np.nan, np.nan), Estimate(ahead, ahead, ahead)
        yield Measured(f"{metric}: {_named([(a, b)])}", shown, exact, len(seeds), ORDER)


def _curve(claim: Claim, blocks: Sequence[Resampled]) -> Iterator[Measured]:
    at = 0 if claim["epoch"] == "first" else -1
    yield _by_epoch(claim, blocks, lambda a, b: float(a[at] - b[at]))


def _faster(claim: Claim, blocks: Sequence[Resampled]) -> Iterator[Measured]:
    def saved(a: Floats, b: Floats) -> float:
        """Epochs that b takes to its best value, minus those that a takes to the same value."""
        reached = np.flatnonzero(a >= b.max())
        return float(int(b.argmax()) - (reached[0] if len(reached) else len(a)))

    yield _by_epoch(claim, blocks, saved)


def _by_epoch(
    claim: Claim, blocks: Sequence[Resampled], compared: Callable[[Floats, Floats], float]
) -> Measured:
    """Compare two columns of ``history.csv`` seed by seed: Student's t over seeds."""
    pairs = pairs_of(claim, blocks)
    seeds = seeds_of(*(cell for pair in pairs for cell in pair))

    def column(cell: Cell, seed: int) -> Floats:
        history = cell.block.data.history
        if claim["metric"] not in history:
            raise AbsentError(f"no column {claim['metric']} in history.csv")
        factors = zip((*cell.key, seed), ("encoder", "init", "frac", "seed"), strict=True)
        for value, factor in factors:
            history = history[history[factor] == value]
        return history.sort_values("epoch")[claim["metric"]].to_numpy(float)

    interval = t_interval([
        float(np.mean([compared(column(a, seed), column(b, seed)) for a, b in pairs]))
        for seed in seeds
    ])  # fmt: skip
    return Measured(_named(pairs), interval, interval, len(seeds), SEEDS)


def _unmeasured(claim: Claim, blocks: Sequence[Resampled]) -> Iterator[Measured]:
    raise AbsentError("no measurement answers it")


ANSWERS: dict[str, Callable[[Claim, Sequence[Resampled]], Iterator[Measured]]] = {
    "difference": _difference, "relative": _difference, "at_most": _at_most,
    "improved": _improved, "growth": _growth, "relative_growth": _growth, "best": _best,
    "classes": _classes, "rarest": _rarest, "median": _median, "smallest_box": _smallest_box,
    "curve": _curve, "faster": _faster, "complex": _complex, "label_worth": _label_worth,
    "unmeasured": _unmeasured,
}  # fmt: skip
