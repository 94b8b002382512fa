"""Opens the logger of a run: W&B, TensorBoard, or none besides its own folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tlunet.tracking.base import EpochLogger

if TYPE_CHECKING:
    from tlunet.runs.cell import Cell


@contextmanager
def open_logger(cell: "Cell", attempt: int) -> Iterator[EpochLogger | None]:
    """Open the logger set by ``logger=``; ``None`` for csv (``history.csv`` is always written).

    Args:
        cell: a started cell.
        attempt: number of the attempt; ``force=true`` starts a new one.
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
