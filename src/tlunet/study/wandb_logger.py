"""A cell as a W&B run; nothing that befalls W&B stops or delays the cell."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlunet.study.console import say
from tlunet.study.files import read_json
from tlunet.study.loggers import EpochLogger, Row
from tlunet.study.wandb_link import first_line, open_run, sync_command, tear_down

if TYPE_CHECKING:
    import wandb

    from tlunet.study.cell import Cell

REFUSED = "filestream: fatal error"  # what W&B's log says when rows did not get through
AXES = ("epoch", "step", "samples", "elapsed_seconds")
BY_EPOCH = (
    "train_loss", "val_*", "seconds", "images_per_second", "learning_rate", "gradient_norm",
    "waiting_share",
)  # fmt: skip
BY_SAMPLES = ("train_loss_step", "gradient_norm_step")


@contextmanager
def open_wandb(cell: "Cell", attempt: int) -> Iterator["WandbLogger | None"]:
    """One W&B run a cell; ``None`` if W&B does not work here at all.

    Its id is a hash of study, digest and attempt, so a resumed cell goes on in its own run, and
    ``force=true`` begins another. Online when the user is logged in, else offline without
    questions; offline too where W&B cannot be reached, and a line says how to upload the record.
    The run is closed with the block, failed if that raises.
    """
    logger = None
    exit_code = 1
    try:
        asked = cell.config["logger"]["mode"]
        if run := open_run(cell.title, asked, cell.folder, **_about(cell, attempt)):
            logger = WandbLogger(run, cell.title)
        yield logger
        exit_code = 0
    finally:
        if logger:
            logger.close(exit_code)
        tear_down()


def _about(cell: "Cell", attempt: int) -> dict[str, Any]:
    """What W&B is told of the run, whatever the mode."""
    key = f"{cell.study}|{cell.digest}|{attempt}"
    return {
        "project": cell.config["logger"]["project"],
        "group": cell.study,
        "name": cell.folder.name,
        "id": hashlib.sha256(key.encode()).hexdigest()[:16],
        "config": cell.config | {"digest": cell.digest, "dataset": cell.dataset},
        "tags": [cell.dataset, cell.encoder, cell.init, f"frac {cell.frac}"],
        "job_type": "cell",
    }


class WandbLogger(EpochLogger):
    """W&B's history is ``history.csv`` and the points between its rows, under the same names.

    W&B knows a row by its step, and that is the number of training steps done: a resumed cell
    tells all its epochs again, and each row stands there once, wherever the run was broken off
    and whatever of it has been uploaded before.

    Args:
        run: open.
        title: of the cell.
    """

    def __init__(self, run: "wandb.Run", title: str) -> None:
        super().__init__()
        self.run = run
        self.title = title
        self.is_lost = False  # W&B's client, for good
        self.is_whole = False  # what the server has of it
        self._try(self._define_axes)

    @property
    def name(self) -> str | None:  # noqa: D102
        return self.run.project

    @property
    def version(self) -> str | None:  # noqa: D102
        return self.run.id

    def log_epoch(self, row: Row, points: Sequence[Row] = ()) -> None:
        """An epoch and its points; W&B drops those that the resumed run has already."""
        rows: dict[int, Row] = {p["step"]: {k: p[k] for k in p if k != "epoch"} for p in points}
        known = {k: v for k, v in row.items() if v is not None}
        rows[row["step"]] = rows.get(row["step"], {}) | known
        for step, values in sorted(rows.items()):
            self._try(self.run.log, values, step=step, commit=True)

    def log_test(self, cell: "Cell") -> None:
        """The scores, named as in ``metrics.json``."""
        scores = read_json(cell.folder / "metrics.json")
        self._try(self.run.summary.update, flatten(scores))

    def close(self, exit_code: int) -> None:
        """End the run; a line says so if the server has not taken all of it."""
        settings = self.run.settings
        self._try(self._finish, exit_code)
        if self.is_lost or settings.mode == "disabled":
            return
        if not self.is_whole:
            say(
                f"  {self.title}: W&B was lost ({settings.base_url}): the record is kept in the "
                f"run folder; upload it later with: {sync_command(self.run)}"
            )
        # Earlier records of the run hold nothing that this one or the server has not.
        for record in Path(settings.wandb_dir).glob(f"*run-*/run-{self.run.id}.wandb"):
            if record != Path(settings.sync_file):
                record.with_suffix(".wandb.synced").touch()

    def _define_axes(self) -> None:
        """What stands below a panel's curves unless its reader chooses another axis."""
        for axis in AXES:
            self.run.define_metric(axis, hidden=True)
        for axis, names in (("epoch", BY_EPOCH), ("samples", BY_SAMPLES)):
            for name in names:
                self.run.define_metric(name, step_metric=axis, step_sync=False)

    def _finish(self, exit_code: int) -> None:
        with suppress(TimeoutError):
            self.run.finish(exit_code=exit_code)
            self.is_whole = REFUSED not in _read(self.run.settings.log_internal)

    def _try(self, tell: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Tell W&B, and no more once that has failed; the run folder has everything anyway."""
        if self.is_lost:
            return
        try:
            tell(*args, **kwargs)
        except Exception as error:
            self.is_lost = True
            say(
                f"  {self.title}: W&B's client failed ({first_line(error)}): nothing more is "
                "logged there; history.csv and metrics.json have it all"
            )


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


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""
