"""Logs a cell as a W&B run; no W&B failure stops or delays the cell."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from tlunet.errors import first_line
from tlunet.machine.console import say
from tlunet.machine.files import read_json
from tlunet.model.scores import flatten
from tlunet.tracking.base import EpochLogger, Row
from tlunet.tracking.wandb.artifacts import (
    checkpoint_artifact,
    results_artifact,
    split_artifact,
    use,
)
from tlunet.tracking.wandb.connection import (
    close_run,
    open_run,
    say_lost,
    tear_down,
    upload,
)

if TYPE_CHECKING:
    import wandb

    from tlunet.runs.cell import Cell

AXES = ("epoch", "step", "samples", "elapsed_seconds")
BY_EPOCH = (
    "train_loss", "val_*", "seconds", "images_per_second", "learning_rate", "gradient_norm",
    "waiting_share",
)  # fmt: skip
BY_SAMPLES = ("train_loss_step", "gradient_norm_step")


@contextmanager
def open_wandb(cell: "Cell", attempt: int) -> Iterator["WandbLogger | None"]:
    """Open the W&B run of a cell; ``None`` if W&B does not work at all.

    The run id is a hash of study, digest and attempt, so a resumed cell continues its own run, and
    ``force=true`` starts a new one. The run is online if the user is logged in, else offline
    without prompting. It is also offline if W&B cannot be reached; one line then says how to upload
    the record. The run is closed with the block, as failed if the block raises.
    """
    logger = None
    exit_code = 1
    try:
        asked = cell.config["logger"]["mode"]
        about = _about(cell, attempt)
        if run := open_run(cell.title, asked, cell.folder, **about):
            record = partial(open_run, cell.title, "offline", cell.folder, **about)
            logger = WandbLogger(run, cell.title, record)
        yield logger
        exit_code = 0
    finally:
        if logger:
            logger.close(exit_code)
        tear_down()


def _about(cell: "Cell", attempt: int) -> dict[str, Any]:
    """Arguments of ``wandb.init``, independent of the mode."""
    key = f"{cell.study}|{cell.digest}|{attempt}"
    return {
        "project": cell.config["logger"]["project"],
        "entity": cell.config["logger"].get("entity"),
        "group": cell.study,
        "name": cell.folder.name,
        "id": hashlib.sha256(key.encode()).hexdigest()[:16],
        "config": {
            **cell.config,
            "digest": cell.digest,
            "dataset": cell.dataset,
            # Under the names used in tables, for grouping and filtering.
            "grid_encoder": cell.encoder,
            "grid_init": cell.init,
            "grid_frac": cell.frac,
            "grid_seed": cell.config["seed"],
        },
        "tags": [cell.dataset, cell.encoder, cell.init, f"frac {cell.frac}"],
        "job_type": "cell",
    }


class WandbLogger(EpochLogger):
    """Logs the rows of ``history.csv`` and the points between them, under the same names.

    W&B identifies a row by its step, the number of training steps so far. A resumed cell logs all
    its epochs again, and each row appears once, wherever the run was interrupted and whatever was
    uploaded before.

    The test's images and files are never sent to a server directly, since the client would wait
    for them without a timeout. They go to an offline record of the same run, with everything else
    that the server has not received, and ``wandb sync`` uploads it, for a minute at most.

    Args:
        run: an open run.
        title: title of the cell.
        open_record: reopens the run offline.
    """

    def __init__(
        self, run: "wandb.Run", title: str, open_record: Callable[[], "wandb.Run | None"]
    ) -> None:
        super().__init__()
        self.run = run
        self.title = title
        self.open_record = open_record
        self.rows: dict[int, Row] = {}  # by step, everything logged so far
        self.tested: Cell | None = None
        self.is_lost = False  # whether W&B's client has failed
        self.step = 0  # at the end of the last epoch
        self._try(self._define_axes)

    @property
    def name(self) -> str | None:  # noqa: D102
        return self.run.project

    @property
    def version(self) -> str | None:  # noqa: D102
        return self.run.id

    def log_epoch(self, row: Row, points: Sequence[Row] = ()) -> None:
        """Log an epoch and its points; W&B drops those that a resumed run already has."""
        rows: dict[int, Row] = {p["step"]: {k: p[k] for k in p if k != "epoch"} for p in points}
        known = {k: v for k, v in row.items() if v is not None}
        self.step = row["step"]
        rows[self.step] = rows.get(self.step, {}) | known
        for step, values in sorted(rows.items()):
            self._log(step, values)

    def log_test(self, cell: "Cell") -> None:
        """Log scores by their names in ``metrics.json``, curves, images, and artifacts."""
        self.tested = cell
        scores = flatten(read_json(cell.folder / "metrics.json"))
        self._try(self.run.summary.update, scores)
        if self.run.offline:
            self._offer("curves and images", self._show, cell)
            self._offer("files", self._keep, cell, scores)

    def close(self, exit_code: int) -> None:
        """End the run; print one line if the server has not received all of it."""
        is_complete = self.run.offline or self.run.disabled or self.tested is None
        self._try(self._close if is_complete else self._complete, exit_code)

    def _close(self, exit_code: int) -> None:
        if not close_run(self.run, exit_code):
            say_lost(self.run, self.title)

    def _complete(self, exit_code: int) -> None:
        """Log what the server has not received to an offline record, and upload that."""
        assert self.tested
        is_whole = close_run(self.run, exit_code)
        record = self.open_record()
        if record is None:
            return  # open_record has reported why
        self.run = record
        self._define_axes()
        last = self.rows.get(self.step, {})
        if is_whole:
            record.summary.update(last)  # else only the test scores would remain
        else:
            for step, row in self.rows.items():
                self._log(step, row)
        self.log_test(self.tested)
        close_run(record, exit_code)
        upload(record, self.title)

    def _log(self, step: int, values: Row) -> None:
        self.rows[step] = values
        self._try(self.run.log, values, step=step, commit=True)

    def _show(self, cell: "Cell") -> None:
        from tlunet.tracking.wandb.media import curve_charts, image_exhibits

        table = pd.read_parquet(cell.folder / "test_images.parquet")
        shown: Row = dict(curve_charts(table))
        if most := cell.config["logger"]["images"]:
            shown |= image_exhibits(cell.folder, cell.data.pack, most)
        self.run.log(shown, step=self.step + 1, commit=True)

    def _keep(self, cell: "Cell", scores: Row) -> None:
        use(self.run, split_artifact(cell.folder))
        self.run.log_artifact(results_artifact(cell.folder))
        if cell.config["logger"]["checkpoint"]:
            checkpoint = checkpoint_artifact(cell.folder, scores)
            self.run.log_artifact(checkpoint, aliases=["best", "latest"])

    def _define_axes(self) -> None:
        """Set the default x axis of each metric."""
        for axis in AXES:
            self.run.define_metric(axis, hidden=True)
        for axis, names in (("epoch", BY_EPOCH), ("samples", BY_SAMPLES)):
            for name in names:
                self.run.define_metric(name, step_metric=axis, step_sync=False)

    def _offer(self, what: str, tell: Callable[..., Any], *args: Any) -> None:
        """Log something optional: on an error, print one line and continue."""
        if self.is_lost or self.run.disabled:
            return
        try:
            tell(*args)
        except Exception as error:
            say(f"  {self.title}: could not log the {what} to W&B ({first_line(error)})")

    def _try(self, tell: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call W&B, and stop logging after a failure; the run folder has everything anyway."""
        if self.is_lost:
            return
        try:
            tell(*args, **kwargs)
        except Exception as error:
            self.is_lost = True
            say(
                f"  {self.title}: W&B's client failed ({first_line(error)}); logging to W&B "
                "stops, history.csv and metrics.json are complete"
            )
