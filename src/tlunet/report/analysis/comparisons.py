"""Compare cells: differences in scores, paired by image and seed, with intervals."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tlunet.machine.parallel import cores
from tlunet.report.analysis.blocks import Block, Key
from tlunet.report.analysis.bootstrap import (
    METRICS,
    SEEDS_NEEDED,
    Draws,
    draw_images,
    draw_seeds,
    image_scores,
    resampled,
    weighted_sums,
)
from tlunet.report.analysis.statistics import (
    Estimate,
    direction,
    holm,
    percentile_interval,
    signed_rank,
)

Floats = NDArray[np.float64]

REPLICATES = 2000


@dataclass(frozen=True, eq=False)
class Resampled:
    """Scores of a block in every replicate; blocks of one split draw the same images and seeds.

    Args:
        block: the block of cells.
        replicates: R.
    """

    block: Block
    replicates: int = REPLICATES

    @cached_property
    def draws(self) -> Draws:
        """How often each image is in each draw, (R + 1, N)."""
        return _shared_draws(self.block.groups.tobytes(), self.replicates)

    @cached_property
    def scores(self) -> list[dict[str, Floats]]:
        """Every score of every cell, (R + 1,) each, in the order of ``block.cells``."""
        one = partial(resampled, threshold=self.block.threshold, weights=self.draws)
        with ThreadPoolExecutor(cores()) as pool:
            return list(pool.map(one, self.block.counts))

    @cached_property
    def images(self) -> list[dict[str, Floats]]:
        """Per cell the scores that are means over images, image by image, (N,) each."""
        return [image_scores(counts, self.block.threshold) for counts in self.block.counts]

    @cached_property
    def rows(self) -> dict[tuple[Key, int], int]:
        """Row in ``block.cells`` of each key and seed."""
        columns = self.block.cells[["encoder", "init", "frac", "seed"]]
        return {
            (Key(e, i, f), int(s)): k
            for k, (e, i, f, s) in enumerate(columns.itertuples(index=False))
        }

    @property
    def metrics(self) -> list[str]:
        """Names of all scores: means over classes first, then class by class."""
        return [*METRICS, *sorted((n for n in self.scores[0] if n not in METRICS), key=_by_class)]

    def cell(self, key: Key) -> "Cell":
        """Return the :class:`Cell` of a key."""
        return Cell(self, key)


class Cell(NamedTuple):
    """One encoder × init × frac of a block, with all its seeds."""

    block: Resampled
    key: Key

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds with a finished run."""
        return tuple(s for s in self.block.block.seeds if (self.key, s) in self.block.rows)

    def mean(self, metric: str, seeds: Sequence[int]) -> Floats:
        """Average a score over seeds, (R + 1,), the estimate first; NaN without seeds."""
        if not seeds:
            return np.full(self.block.replicates + 1, np.nan)
        rows = [self.block.rows[self.key, seed] for seed in seeds]
        per_seed = np.stack([self.block.scores[k][metric] for k in rows])  # (S, R + 1)
        return np.einsum("rs,sr->r", draw_seeds(len(seeds), self.block.replicates), per_seed)

    def images(self, metric: str, seeds: Sequence[int]) -> Floats:
        """Return a score image by image, (S, N); NaN where an image does not enter the mean.

        Raises:
            KeyError: the score is not a mean over images.
        """
        rows = [self.block.rows[self.key, seed] for seed in seeds]
        return np.stack([self.block.images[k][metric] for k in rows])


@lru_cache(maxsize=1)
def _shared_draws(groups: bytes, replicates: int) -> Draws:
    """Cache the draws, which take seconds and memory: blocks of one split share them."""
    return draw_images(np.frombuffer(groups, np.int64), replicates)


def common_seeds(*cells: Cell) -> tuple[int, ...]:
    """Return the seeds that all cells have."""
    first, *others = (cell.seeds for cell in cells)
    return tuple(s for s in first if all(s in other for other in others))


def shares(
    metric: str, a: Cell, b: Cell, draws: int | None = None
) -> tuple[Floats, Floats, Floats]:
    """Compute the fractions of image × seed pairs where ``a`` scores above, equal to, below ``b``.

    Args:
        metric: a score that is a mean over images.
        a: one cell.
        b: another cell on the same images.
        draws: how many of the R + 1 draws, the sample itself first; ``None``: all.

    Returns:
        (draws,) each.

    Raises:
        KeyError: the score is not a mean over images.
    """
    seeds, times = common_seeds(a, b), a.block.draws[:draws]  # (D, N)
    d = a.images(metric, seeds) - b.images(metric, seeds)  # (S, N)
    counted = ~np.isnan(d[:1])  # depends on the ground truth: the same for every seed
    weights = draw_seeds(len(seeds), a.block.replicates)[:draws]  # (D, S)
    sums = weighted_sums(times, np.concatenate([counted, d > 0, d == 0, d < 0]).T)
    total, *hits = np.hsplit(sums, 1 + len(seeds) * np.arange(3))  # (D, 1), (D, S) thrice

    def share(hits: Floats) -> Floats:
        of = total[:, 0]
        return np.divide((hits * weights).sum(1), of, out=np.full(len(of), np.nan), where=of > 0)

    above, same, below = map(share, hits)
    return above, same, below


def _by_class(name: str) -> tuple[int, int]:
    metric, _, number = name.rpartition("_")
    return METRICS.index(metric), int(number)


def score_table(blocks: Sequence[Resampled]) -> pd.DataFrame:
    """Tabulate every score of every encoder × init × frac with its interval.

    Returns:
        Columns ``block, encoder, init, frac, metric, mean, low, high, n_seeds, interval``; the
        last is ``seeds and images``, or ``images only`` with fewer than three seeds.
    """
    rows = []
    for block in blocks:
        for key in block.block.keys:
            seeds = block.cell(key).seeds
            for metric in block.metrics:
                estimate = percentile_interval(block.cell(key).mean(metric, seeds))
                over = interval_over(len(seeds))
                rows.append((block.block.title, *key, metric, *estimate, len(seeds), over))
    names = ["block", "encoder", "init", "frac", "metric", "mean", "low", "high", "n_seeds"]
    return pd.DataFrame(rows, columns=[*names, "interval"])


def interval_over(n_seeds: int) -> str:
    """Return what the interval covers, in words."""
    return "seeds and images" if n_seeds >= SEEDS_NEEDED else "images only"


def pairs(block: Resampled) -> Iterator[tuple[str, Cell, Cell]]:
    """Yield the comparisons inside a block: (factor, a, b); the difference is a - b.

    ``init``: each initialisation with random, for each encoder and fraction. ``frac``: the largest
    fraction with each smaller one. ``encoder``: each encoder with each one before it.
    """
    keys = block.block.keys
    encoders = list(dict.fromkeys(k.encoder for k in keys))
    largest = max(k.frac for k in keys)
    for a in keys:
        if a.init != "random" and (b := a._replace(init="random")) in keys:
            yield "init", block.cell(a), block.cell(b)
    for b in keys:
        if b.frac < largest and (a := b._replace(frac=largest)) in keys:
            yield "frac", block.cell(a), block.cell(b)
    for a in keys:
        for other in encoders[: encoders.index(a.encoder)]:
            if (b := a._replace(encoder=other)) in keys:
                yield "encoder", block.cell(a), block.cell(b)


def protocol_pairs(blocks: Sequence[Resampled]) -> Iterator[tuple[str, Cell, Cell]]:
    """Yield the same cell under two protocols, if both used the same split of the same images."""
    for a, b in combinations(blocks, 2):
        same = all(
            getattr(a.block, name) == getattr(b.block, name)
            for name in ("dataset", "split", "classes", "image_ids")
        )
        if same:
            for key in a.block.keys:
                if key in b.block.keys:
                    yield "protocol", a.cell(key), b.cell(key)


def compare(blocks: Sequence[Resampled]) -> pd.DataFrame:
    """Tabulate every comparison of a study in every score.

    Returns:
        ``block, factor, difference_of, at`` (what is compared, and under which condition),
        ``encoder, init, frac`` (of a, the first), ``metric, mean_a, mean_b, difference, low, high,
        relative`` (difference / mean_b), ``improved, tied, worse`` (fractions of image × seed
        pairs), ``p`` (Wilcoxon test on the images' seed means), ``p_holm`` (within the family of
        block and metric), ``n_seeds, interval, verdict`` (higher, lower, undecided or undefined).
        The factor ``gain`` is a difference of differences: the gain from pre-training with less
        data minus the gain with the most data.
    """
    found = [(block.block.title, *pair) for block in blocks for pair in pairs(block)]
    found += [("between protocols", *pair) for pair in protocol_pairs(blocks)]
    rows = [row for title, factor, a, b in found for row in _compared(title, factor, a, b)]
    rows += [row for block in blocks for row in _gains(block)]
    names = [
        *("block", "factor", "difference_of", "at", "encoder", "init", "frac", "metric"),
        *("mean_a", "mean_b", "difference", "low", "high", "relative", "improved", "tied"),
        *("worse", "p", "p_holm", "n_seeds", "interval", "verdict"),
    ]
    table = pd.DataFrame(rows, columns=names)
    is_score = (table["mean_b"] > 0) & (table["factor"] != "gain")
    table["relative"] = table["difference"] / table["mean_b"].where(is_score)
    family = table.groupby(["block", "metric"])["p"]
    table["p_holm"] = family.transform(lambda p: holm(p.astype(float).tolist()))
    return table


def _compared(title: str, factor: str, a: Cell, b: Cell) -> Iterator[dict[str, object]]:
    seeds = common_seeds(a, b)
    if factor == "protocol":  # the titles name the settings that differ
        difference, at = f"{a.block.block.title} − {b.block.block.title}", str(a.key)
    else:
        first, second = a.key._asdict(), b.key._asdict()
        difference = f"{first.pop(factor)} − {second.pop(factor)}"
        at = " · ".join(map(str, first.values()))
    for metric in a.block.metrics:
        means = [cell.mean(metric, seeds) for cell in (a, b)]
        yield {
            "block": title, "factor": factor, "difference_of": difference, "at": at,
            **a.key._asdict(), "metric": metric, "mean_a": means[0][0], "mean_b": means[1][0],
            **_difference(means[0] - means[1], len(seeds)), **_paired(metric, a, b),
        }  # fmt: skip


def _gains(block: Resampled) -> Iterator[dict[str, object]]:
    inits = {a.key: (a, b) for factor, a, b in pairs(block) if factor == "init"}
    largest = max(k.frac for k in block.block.keys)
    for key, less in inits.items():
        more = inits.get(key._replace(frac=largest))
        if key.frac == largest or more is None:
            continue
        seeds = common_seeds(*less, *more)
        for metric in block.metrics:
            gains = [a.mean(metric, seeds) - b.mean(metric, seeds) for a, b in (less, more)]
            yield {
                "block": block.block.title, "factor": "gain",
                "difference_of": f"gain with {key.frac} − gain with {largest}",
                "at": f"{key.encoder} · {key.init} − random", **key._asdict(), "metric": metric,
                "mean_a": gains[0][0], "mean_b": gains[1][0],
                **_difference(gains[0] - gains[1], len(seeds)),
            }  # fmt: skip


def _difference(replicates: Floats, n_seeds: int) -> dict[str, object]:
    estimate = percentile_interval(replicates)
    return {
        "difference": estimate.value, "low": estimate.low, "high": estimate.high,
        "n_seeds": n_seeds, "interval": interval_over(n_seeds), "verdict": higher(estimate),
    }  # fmt: skip


def higher(difference: Estimate) -> str:
    """Return ``higher``, ``lower`` or ``undecided``; ``undefined`` if the difference is NaN."""
    words = {"supported": "higher", "contradicted": "lower", "inconclusive": "undecided"}
    return words.get(direction(difference), "undefined")


def _paired(metric: str, a: Cell, b: Cell) -> dict[str, float]:
    seeds = common_seeds(a, b)
    if not seeds or metric not in a.block.images[0]:
        return {}  # not a mean over images
    d = (a.images(metric, seeds) - b.images(metric, seeds)).mean(0)  # (N,)
    named = zip(("improved", "tied", "worse"), shares(metric, a, b, draws=1), strict=True)
    return {name: float(share[0]) for name, share in named} | {"p": signed_rank(d[~np.isnan(d)])}
