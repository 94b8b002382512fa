"""Scores of blocks and cells in every bootstrap replicate, and their intervals."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tlunet.machine.parallel import cores
from tlunet.model.scores import PixelCounts
from tlunet.report.analysis.blocks import Block, Key
from tlunet.report.analysis.bootstrap import (
    METRICS,
    Draws,
    draw_images,
    image_scores,
    resampled,
    weighted_sums,
)
from tlunet.report.analysis.shapes import true_shapes
from tlunet.report.analysis.statistics import SEEDS_NEEDED, level

Floats = NDArray[np.float64]
REPLICATES = 2000


@dataclass(frozen=True, eq=False)
class Resampled:
    """Scores of a block in every replicate; blocks of one split draw the same images.

    Args:
        data: the block of cells.
        replicates: R.
        study: the study folder, for what needs the images.
    """

    data: Block
    replicates: int = REPLICATES
    study: Path | None = None

    @cached_property
    def draws(self) -> Draws:
        """How often each image is in each draw, (R + 1, N).

        Where each seed has its own split, an image is drawn as often for every seed that was
        tested on it: what two seeds share is the images that both were tested on.
        """
        return _shared_draws(self.data.groups.tobytes(), self.replicates)

    @cached_property
    def scores(self) -> list[dict[str, Floats]]:
        """Every score of every cell, (R + 1,) each, in the order of ``block.cells``."""
        with ThreadPoolExecutor(cores()) as pool:
            return list(pool.map(self._scores, self.data.counts))

    def _scores(self, counts: PixelCounts[NDArray[Any]]) -> dict[str, Floats]:
        is_whole = len(counts.index) == len(self.data.image_ids)
        own = self.draws if is_whole else self.draws.T[counts.index].T
        return resampled(counts, self.data.threshold, own)

    @cached_property
    def images(self) -> list[dict[str, Floats]]:
        """Per cell the scores that are means over images: one value for each of its images."""
        return [image_scores(counts, self.data.threshold) for counts in self.data.counts]

    @cached_property
    def shapes(self) -> dict[str, Floats] | str:
        """How complex the true defects of each image are, (N,) each, or why that is not known."""
        if self.study is None:
            return "the study folder is not known"
        run = self.study / str(self.data.cells["folder"].iloc[0])
        return true_shapes(run, self.data.image_ids)

    @cached_property
    def rows(self) -> dict[tuple[Key, int], int]:
        """Row in ``block.cells`` of each key and seed."""
        columns = self.data.cells[["encoder", "init", "frac", "seed"]]
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
        return tuple(s for s in self.block.data.seeds if (self.key, s) in self.block.rows)

    def by_seed(self, metric: str, seeds: Sequence[int]) -> Floats:
        """Return a score by seed, (S, R + 1), the sample first."""
        rows = [self.block.rows[self.key, seed] for seed in seeds]
        values = [self.block.scores[k][metric] for k in rows]
        return np.stack(values) if values else np.empty((0, self.block.replicates + 1))

    def images(self, metric: str, seeds: Sequence[int]) -> Floats:
        """Return a score image by image, (S, N); NaN where an image does not enter the mean.

        An image that a seed was not tested on does not.

        Raises:
            KeyError: the score is not a mean over images.
        """
        block = self.block.data
        scores = np.full((len(seeds), len(block.image_ids)), np.nan)
        for of_seed, seed in zip(scores, seeds, strict=True):
            k = self.block.rows[self.key, seed]
            of_seed[block.counts[k].index] = self.block.images[k][metric]
        return scores

    def tested(self, seed: int) -> NDArray[np.int64]:
        """Places in ``image_ids`` of the images that a seed was tested on."""
        return self.block.data.counts[self.block.rows[self.key, seed]].index


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
    """Compute by seed the fraction of images where ``a`` scores above, equal to, below ``b``.

    Args:
        metric: a score that is a mean over images.
        a: one cell.
        b: another cell on the same images.
        draws: how many of the R + 1 draws, the sample itself first; ``None``: all.

    Returns:
        (S, draws) each.

    Raises:
        KeyError: the score is not a mean over images.
    """
    seeds, times = common_seeds(a, b), a.block.draws[:draws]  # (D, N)
    d = a.images(metric, seeds) - b.images(metric, seeds)  # (S, N)
    sums = weighted_sums(times, np.concatenate([~np.isnan(d), d > 0, d == 0, d < 0]).T)
    total, *hits = np.hsplit(sums, 4)  # (D, S) each
    above, same, below = (
        np.divide(h, total, out=np.full_like(h, np.nan), where=total > 0).T for h in hits
    )
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
        for key in block.data.keys:
            seeds = block.cell(key).seeds
            for metric in block.metrics:
                interval = level(block.cell(key).by_seed(metric, seeds))
                over = interval_over(len(seeds))
                rows.append((block.data.title, *key, metric, *interval[:3], len(seeds), over))
    names = ["block", "encoder", "init", "frac", "metric", "mean", "low", "high", "n_seeds"]
    return pd.DataFrame(rows, columns=[*names, "interval"])


def interval_over(n_seeds: int) -> str:
    """Return what the interval covers, in words."""
    return "seeds and images" if n_seeds >= SEEDS_NEEDED else "images only"
