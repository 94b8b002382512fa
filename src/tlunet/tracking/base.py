"""Base class of the trackers: they receive whole epochs and the finished test."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

if TYPE_CHECKING:
    from tlunet.runs.cell import Cell


Row = dict[str, Any]


class EpochLogger(pl.loggers.Logger):
    """A logger that receives whole epochs and the finished test.

    It ignores what the trainer logs by itself, since the epochs and the test contain all of it.
    """

    @abstractmethod
    def log_epoch(self, row: Row, points: Sequence[Row] = ()) -> None:
        """Log one epoch; a resumed cell logs all its epochs again, and each must appear once.

        Args:
            row: row of ``history.csv``; ``None`` where a score is undefined.
            points: values of single steps (:class:`~tlunet.study.training.callbacks.steps.Steps`).
        """

    def log_test(self, cell: "Cell") -> None:
        """Log the finished test from the files in the cell's folder."""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run has its configuration from the start."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Do nothing: epochs are logged as whole rows, the test from its files."""
