"""A cell in TensorBoard: event files in its run folder."""

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytorch_lightning.loggers import TensorBoardLogger

from tlunet.machine.files import read_json
from tlunet.model.scores import flatten
from tlunet.tracking.base import EpochLogger, Row

if TYPE_CHECKING:
    from tlunet.runs.cell import Cell

FOLDER = "tensorboard"


class TensorBoard(EpochLogger):
    """Logs the columns of ``history.csv`` over training steps; test scores are ``test/…``.

    A resumed cell logs all its epochs again, and TensorBoard would draw each twice. So the event
    files of an interrupted run are deleted first.

    Args:
        cell: a started cell; files go to ``tensorboard/`` in its folder.
    """

    def __init__(self, cell: "Cell") -> None:
        super().__init__()
        shutil.rmtree(cell.folder / FOLDER, ignore_errors=True)
        self.logger = TensorBoardLogger(cell.folder, name=FOLDER, version="")
        self.step = 0  # at the end of the last epoch

    @property
    def name(self) -> str | None:  # noqa: D102
        return self.logger.name

    @property
    def version(self) -> int | str | None:  # noqa: D102
        return self.logger.version

    def log_epoch(self, row: Row, points: Sequence[Row] = ()) -> None:  # noqa: D102
        for point in points:
            values = {name: point[name] for name in point if name.endswith("_step")}
            self.logger.log_metrics(values, point["step"])
        self.step = row["step"]
        known = {k: v for k, v in row.items() if v is not None and k != "step"}
        self.logger.log_metrics(known, self.step)
        self.logger.save()

    def log_test(self, cell: "Cell") -> None:  # noqa: D102
        scores = flatten(read_json(cell.folder / "metrics.json"))
        numbers = {f"test/{k}": v for k, v in scores.items() if isinstance(v, int | float)}
        self.logger.log_metrics(numbers, self.step)

    def close(self) -> None:
        """Flush and close the event files."""
        self.logger.finalize("success")
