"""Where a run is logged besides its own folder: W&B, TensorBoard, or nowhere else."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

from tlunet.errors import ConfigError

if TYPE_CHECKING:
    from tlunet.study.training.resolve import Cell

Row = dict[str, Any]


class EpochLogger(pl.loggers.Logger):
    """A logger that is told whole epochs, and the finished test.

    What the trainer tells loggers by itself is not needed: all of it comes in those.
    """

    @abstractmethod
    def log_epoch(self, row: Row, points: Sequence[Row] = ()) -> None:
        """One epoch; a resumed cell tells all its epochs again, and each must stand there once.

        Args:
            row: of ``history.csv``; ``None`` where a score is undefined.
            points: of the steps (:class:`~tlunet.study.training.callbacks.steps.Steps`).
        """

    def log_test(self, cell: "Cell") -> None:
        """The test is over, and the cell's folder has what came of it."""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run has its cell's configuration from the beginning."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Nothing: epochs come as whole rows, the test from its files."""


def check_installed(name: str) -> None:
    """Raise ConfigError where the logger of this name lacks its library."""
    if name == "tensorboard" and not find_spec("tensorboard"):
        raise ConfigError(
            "logger=tensorboard: tensorboard is not installed; pip install '.[tensorboard]'"
        )


@contextmanager
def open_logger(cell: "Cell", attempt: int) -> Iterator[EpochLogger | None]:
    """The logger that ``logger=`` names; ``None`` for csv (``history.csv`` is written anyway).

    Args:
        cell: begun.
        attempt: ``force=true`` makes another.
    """
    match cell.config["logger"]["name"]:
        case "wandb":
            from tlunet.tracking.wandb.logger import open_wandb

            with open_wandb(cell, attempt) as logger:
                yield logger
        case "tensorboard":
            from tlunet.tracking.tensorboard import TensorBoard

            board = TensorBoard(cell)
            try:
                yield board
            finally:
                board.close()
        case _:
            yield None


def flatten(scores: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The path to each score, joined by slashes; what is undefined is left out.

    >>> flatten({"mla": 0.5, "auc": {"mean": 0.7, "per_class": {"1": 0.7, "2": None}}})
    {'mla': 0.5, 'auc/mean': 0.7, 'auc/per_class/1': 0.7}
    """
    flat: dict[str, Any] = {}
    for name, value in scores.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}/")
        elif value is not None:
            flat[f"{prefix}{name}"] = value
    return flat
