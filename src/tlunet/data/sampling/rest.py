"""Images without masks beside the labelled ones: an endless stream, a batch for each step."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlunet.data.batches import EpochOrder, Rows
from tlunet.data.sampling.images import Sampled

_ORDER = 9  # key of a random stream, independent of those in sampling, crop and augment


class RestStream:
    """Rows of the images that are left out, for every training step.

    The stream is a sequence of permutations of all rows, each drawn by (seed, its number); a step
    takes the next ``batch_size`` of them. It is a function of (seed, step): an interrupted run
    resumes it exactly.

    Args:
        rows: rows of the pack.
        batch_size: rows per step, over all processes.
        seed: of the permutations.

    Raises:
        ValueError: there are no rows.

    Example:
        >>> stream = RestStream(np.array([7, 8, 9]), batch_size=2, seed=0)
        >>> drawn = [stream.at(step) for step in (0, 1, 2)]
        >>> sorted(np.concatenate([rows for rows, _ in drawn]).tolist())
        [7, 7, 8, 8, 9, 9]
        >>> np.concatenate([turns for _, turns in drawn])
        array([0, 0, 0, 1, 1, 1])
    """

    def __init__(self, rows: NDArray[np.int64], batch_size: int, seed: int) -> None:
        if not len(rows):
            raise ValueError("no rows: nothing is left out")
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self._known: dict[int, NDArray[np.int64]] = {}  # the latest permutations

    def at(self, step: int) -> Sampled:
        """Return the rows of a step, counted from the start of training, and their turns."""
        places = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        turns, within = np.divmod(places, len(self.rows))
        self._known = {k: self._turn(k) for k in np.unique(turns).tolist()}
        pairs = zip(turns.tolist(), within.tolist(), strict=True)
        return Sampled(np.array([self._known[turn][place] for turn, place in pairs]), turns)

    def _turn(self, number: int) -> NDArray[np.int64]:
        if number in self._known:
            return self._known[number]
        return np.random.default_rng((_ORDER, self.seed, number)).permutation(self.rows)


class BothOrders(EpochOrder):
    """Labelled rows as :class:`EpochOrder` draws them, and beside them rows of the rest.

    With several processes, each gets a part of both.

    Args:
        stream: the rest.
        **order: of :class:`EpochOrder`, for training.
    """

    def __init__(self, stream: RestStream, **order: Any) -> None:
        super().__init__(**order)
        self.stream = stream

    def __iter__(self) -> Iterator[Rows]:
        first = len(self) * self.epoch + (self.start[1] if self.epoch == self.start[0] else 0)
        for step, labelled in enumerate(super().__iter__(), first):
            yield labelled._replace(rest=self._own_rest(step))

    def _own_rest(self, step: int) -> Rows:
        """Return this process's rest of a step; without one, a dummy row that does not count."""
        rows, turns = self.stream.at(step)
        rank, number = self.share
        own = slice(rank, None, number)
        count = len(rows[own])
        if not count:
            own = slice(1)
        return Rows(rows[own], turns[own], count, count * number / len(rows))
