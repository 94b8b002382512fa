"""A cell in TensorBoard: event files in its run folder."""

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytorch_lightning.loggers import TensorBoardLogger

from tlunet.machine.files import read_json
from tlunet.tracking.open import EpochLogger, Row, flatten

if TYPE_CHECKING:
    from tlunet.study.training.resolve import Cell

FOLDER = "tensorboard"


class TensorBoard(EpochLogger):
    """The same names as in ``history.csv``, over training steps; the test's are ``test/…``.

    A resumed cell tells all its epochs again, and TensorBoard would draw each twice: the files of
    a broken-off run are replaced by what it is told.

    Args:
        cell: begun; files go to ``tensorboard/`` in its folder.
    """

    def __init__(self, cell: "Cell") -> None:
        super().__init__()
        shutil.rmtree(cell.folder / FOLDER, ignore_errors=True)
        self.logger = TensorBoardLogger(cell.folder, name=FOLDER, version="")
        self.step = 0  # of the last epoch

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
        """Write what is left."""
        self.logger.finalize("success")
