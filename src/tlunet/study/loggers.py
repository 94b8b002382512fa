"""Where a run is logged besides its own folder; nothing that befalls W&B stops or delays a cell."""

import hashlib
import math
import os
import re
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

from tlunet.study.console import say

if TYPE_CHECKING:
    import wandb

    from tlunet.study.cell import Cell

KNOCK = 4.0  # seconds a W&B server has to answer at all, or the cell is logged offline
INIT = 10.0  # seconds to open a run there (WANDB_INIT_TIMEOUT)
FINISH = 8.0  # seconds to take the rest at the end (WANDB_FINISH_TIMEOUT); a stopped cell has 30
REFUSED = "filestream: fatal error"  # what W&B's log says when rows did not get through


@contextmanager
def open_logger(cell: "Cell", attempt: int) -> Iterator["EpochLogger | None"]:
    """W&B, or ``None`` for ``logger=csv`` (``history.csv`` is written anyway).

    One W&B run a cell: its id is a hash of study, digest and attempt, so a resumed cell goes on
    in its own run, and ``force=true`` begins another. Online when the user is logged in, else
    offline without questions; offline too where W&B cannot be reached, and a line says how to
    upload the record. The run is closed with the block, failed if that raises.
    """
    if cell.config["logger"]["name"] != "wandb":
        yield None
        return
    logger = None
    exit_code = 1
    try:
        logger = _open(cell, attempt)
        yield logger
        exit_code = 0
    finally:
        if logger:
            logger.close(exit_code)
        _tear_down()


class EpochLogger(pl.loggers.Logger):
    """W&B's history is ``history.csv``: a row an epoch, whose number is W&B's step.

    A resumed cell tells all its epochs again, and W&B knows a row by its step: each epoch stands
    there once, wherever the run was broken off and whatever of it has been uploaded before.

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

    @property
    def name(self) -> str | None:  # noqa: D102
        return self.run.project

    @property
    def version(self) -> str | None:  # noqa: D102
        return self.run.id

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run has its cell's configuration from the beginning."""

    def log_epoch(self, row: dict[str, Any]) -> None:
        """One row of ``history.csv``; W&B drops it if the resumed run has that step already."""
        known = {k: v for k, v in row.items() if v is not None}
        self._try(self.run.log, known, step=row["epoch"], commit=True)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """What the trainer logs by itself: the test's scores; epochs come as whole rows."""
        scores = {k: v for k, v in metrics.items() if k.startswith("test_") and not math.isnan(v)}
        self._try(self.run.summary.update, scores)

    def close(self, exit_code: int) -> None:
        """End the run; a line says so if the server has not taken all of it."""
        settings = self.run.settings
        self._try(self._finish, exit_code)
        if self.is_lost or settings.mode == "disabled":
            return
        if not self.is_whole:
            say(
                f"  {self.title}: W&B was lost ({settings.base_url}): the record is kept in the "
                f"run folder; upload it later with: {_sync(self.run)}"
            )
        # Earlier records of the run hold nothing that this one or the server has not.
        for record in Path(settings.wandb_dir).glob(f"*run-*/run-{self.run.id}.wandb"):
            if record != Path(settings.sync_file):
                record.with_suffix(".wandb.synced").touch()

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
                f"  {self.title}: W&B's client failed ({_first_line(error)}): nothing more is "
                "logged there; history.csv and metrics.json have it all"
            )


def _open(cell: "Cell", attempt: int) -> EpochLogger | None:
    """The cell's run, online or offline; ``None`` if W&B does not work here at all."""
    os.environ.setdefault("WANDB_SILENT", "true")
    # W&B's reports of its own errors are tried again at the interpreter's exit, for seconds.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    # A killed run's record lacks its last second, not its last 15.
    os.environ.setdefault("WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL", "1")
    import wandb

    try:
        about = _about(cell, attempt)
        mode, trouble = _choose(cell.config["logger"]["mode"], wandb.setup().settings)
        if mode == "online":
            try:
                return EpochLogger(wandb.init(mode=mode, resume="allow", **about), cell.title)
            except Exception as error:
                refused = re.search(r"\b401\b|not logged in", str(error))
                why = "refuses the login" if refused else "did not open the run"
                mode, trouble = "offline", f"{why} ({_first_line(error)})"
                _tear_down()
        run = wandb.init(mode=mode, **about)
    except Exception as error:
        say(f"  {cell.title}: W&B does not work here ({_first_line(error)}): not logged there")
        return None
    if trouble:
        say(
            f"  {cell.title}: W&B {trouble}: the record is kept in the run folder; upload it "
            f"later with: {_sync(run)}"
        )
    return EpochLogger(run, cell.title)


def _about(cell: "Cell", attempt: int) -> dict[str, Any]:
    """What W&B is told of the run, whatever the mode."""
    import wandb

    key = f"{cell.study}|{cell.digest}|{attempt}"
    return {
        "project": cell.config["logger"]["project"],
        "group": cell.study,
        "name": cell.folder.name,
        "id": hashlib.sha256(key.encode()).hexdigest()[:16],
        "dir": cell.folder,
        "config": cell.config,
        "tags": [cell.dataset, cell.encoder, cell.init, f"frac {cell.frac}"],
        "job_type": "cell",
        "settings": wandb.Settings(
            console="off",
            init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT", INIT)),
            finish_timeout=float(os.environ.get("WANDB_FINISH_TIMEOUT", FINISH)),
            finish_timeout_raises=True,
        ),
    }


def _choose(asked: str, settings: "wandb.Settings") -> tuple[Any, str | None]:
    """W&B's mode, and what stood against being online, if that is worth a line."""
    mode = settings.mode if asked == "auto" else asked
    if mode != "online":
        return mode, None
    if not is_logged_in(settings):
        is_asked_for = asked == "online" or "WANDB_MODE" in os.environ
        return "offline", "needs a login (wandb login)" if is_asked_for else None
    if trouble := _knock(settings.base_url):
        return "offline", trouble
    return "online", None


def is_logged_in(settings: "wandb.Settings") -> bool:
    """Whether ``wandb login`` has left a key, or the environment holds one; nobody is asked."""
    from requests.utils import get_netrc_auth

    token = settings.identity_token_file
    has_key = settings.api_key or get_netrc_auth(settings.base_url)
    return bool(has_key or (token and Path(token).exists()))


def _knock(url: str) -> str | None:
    """What is wrong if nothing answers there; any answer will do."""
    import requests

    found: list[str | None] = []

    def ask() -> None:
        try:
            requests.head(url, timeout=KNOCK, allow_redirects=False)
        except requests.exceptions.SSLError:
            found.append(None)  # it is there; which certificates will do W&B knows better
        except requests.exceptions.Timeout:
            found.append(f"cannot be reached ({url}: no answer)")
        except requests.exceptions.RequestException:
            found.append(f"cannot be reached ({url}: no connection)")
        else:
            found.append(None)

    # In a thread, because looking a name up knows no time limit.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(KNOCK)
    return found[0] if found else f"cannot be reached ({url}: no answer)"


def _tear_down() -> None:
    """End W&B's process now: at the interpreter's exit it could keep that waiting."""
    import wandb

    with suppress(Exception, SystemExit):  # its exit code is no concern of the cell's
        wandb.teardown()


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _sync(run: "wandb.Run") -> str:
    """The command that uploads a run's record, to be typed from here."""
    option = "" if run.offline else "--include-online "
    return f"wandb sync {option}{shlex.quote(os.path.relpath(run.settings.sync_dir))}"
