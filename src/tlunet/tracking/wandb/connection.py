"""Connects to W&B, online or offline, reports problems, and never waits more than a few seconds.

Secrets stay where ``wandb login`` stores them; a record contains none.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlunet.errors import first_line
from tlunet.machine.console import say
from tlunet.tracking.wandb.environment import tidy, without_settings

if TYPE_CHECKING:
    import wandb

KNOCK = 4.0  # seconds for a W&B server to answer, else the run is logged offline
INIT = 10.0  # seconds to open a run (WANDB_INIT_TIMEOUT)
FINISH = 8.0  # seconds to send the rest at the end (WANDB_FINISH_TIMEOUT); a stopped cell has 30
UPLOAD = 60.0  # seconds to upload images and files
REFUSED = "filestream: fatal error"  # W&B's log message when rows were lost


def open_run(title: str, asked: str, folder: Path, **about: Any) -> "wandb.Run | None":
    """Open a run, online or offline; print one line if the mode is not the requested one.

    Args:
        title: name of the run in messages.
        asked: ``auto`` (online when the user is logged in), ``online`` or ``offline``.
        folder: the record is stored in ``<folder>/wandb``.
        **about: arguments of ``wandb.init``.

    Returns:
        ``None`` if W&B does not work at all.
    """
    _prepare_environment(folder)
    import wandb

    try:
        about |= {"dir": folder, "settings": _settings()}
        mode, trouble = _choose(asked, wandb.setup().settings)
        if mode == "online":
            try:
                return wandb.init(mode=mode, resume="allow", **about)
            except Exception as error:
                refused = re.search(r"\b401\b|not logged in", str(error))
                why = "refuses the login" if refused else "did not open the run"
                mode, trouble = "offline", f"{why} ({first_line(error)})"
                tear_down()
        run = wandb.init(mode=mode, **about)
    except Exception as error:
        trouble = f"does not accept its settings ({first_line(error)})"
        record = _record(title, about)
        if record is None:
            return None
        run = record
    if trouble:
        say(
            f"  {title}: W&B {trouble}; the record is in the run folder, upload it "
            f"later with: {sync_command(run)}"
        )
    return run


def _record(title: str, about: dict[str, Any]) -> "wandb.Run | None":
    """Open an offline record whatever the environment says of W&B."""
    import wandb

    tear_down()
    with without_settings():
        try:
            return wandb.init(mode="offline", **about | {"settings": _settings()})
        except Exception as error:
            why = first_line(error)
            say(f"  {title}: W&B does not work ({why}); the run is not logged to W&B")
            return None


def _prepare_environment(folder: Path) -> None:
    _hush()
    tidy()
    # W&B retries its own error reports for seconds when the interpreter exits.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    # The record of a killed run then lacks its last second, not its last 15.
    os.environ.setdefault("WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL", "1")
    # Keep the files of artifacts and tables with the record, so that it can be uploaded later.
    os.environ["WANDB_DATA_DIR"] = str((folder / "wandb").resolve())


def _hush() -> None:
    """Silence W&B; call this before it first reads the environment of the process."""
    os.environ.setdefault("WANDB_SILENT", "true")


def _settings() -> "wandb.Settings":
    import wandb

    return wandb.Settings(
        console="off",
        init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT", INIT)),
        finish_timeout=float(os.environ.get("WANDB_FINISH_TIMEOUT", FINISH)),
        finish_timeout_raises=True,
    )


def planned_mode(asked: str) -> str:
    """Return online, offline or disabled, without checking that the server can be reached."""
    _hush()
    tidy()
    import wandb

    settings = wandb.setup().settings
    mode = settings.mode if asked == "auto" else asked
    return "offline" if mode == "online" and not is_logged_in(settings) else mode


def _choose(asked: str, settings: "wandb.Settings") -> tuple[Any, str | None]:
    """Choose W&B's mode; also return why it is not online, if that should be reported."""
    mode = settings.mode if asked == "auto" else asked
    if mode != "online":
        return mode, None
    if not is_logged_in(settings):
        is_asked_for = asked == "online" or "WANDB_MODE" in os.environ
        return "offline", "needs a login (wandb login)" if is_asked_for else None
    if trouble := knock(settings.base_url):
        return "offline", trouble
    return "online", None


def is_logged_in(settings: "wandb.Settings") -> bool:
    """Whether there is a key from ``wandb login`` or in the environment; never prompts."""
    from requests.utils import get_netrc_auth

    token = settings.identity_token_file
    has_key = settings.api_key or get_netrc_auth(settings.base_url)
    return bool(has_key or (token and Path(token).exists()))


def knock(url: str) -> str | None:
    """Return the problem if the server does not answer; any answer counts."""
    import requests

    answers: list[str | None] = []

    def ask() -> None:
        try:
            requests.head(url, timeout=KNOCK, allow_redirects=False)
        except requests.exceptions.SSLError:
            answers.append(None)  # the server answers; W&B decides which certificates it accepts
        except requests.exceptions.Timeout:
            answers.append(f"cannot be reached ({url}: no answer)")
        except requests.exceptions.RequestException:
            answers.append(f"cannot be reached ({url}: no connection)")
        else:
            answers.append(None)

    # In a thread, because name resolution has no timeout.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(KNOCK)
    return answers[0] if answers else f"cannot be reached ({url}: no answer)"


def close_run(run: "wandb.Run", exit_code: int) -> bool:
    """End a run; return whether all data arrived at the server or in the offline record."""
    settings = run.settings
    is_whole = settings.mode == "disabled"
    with suppress(TimeoutError):
        run.finish(exit_code=exit_code)
        is_whole = REFUSED not in _read(settings.log_internal)
    if settings.mode != "disabled":
        # This record and the server have everything that earlier records of the run contain.
        for record in Path(settings.wandb_dir).glob(f"*run-*/run-{run.id}.wandb"):
            if record != Path(settings.sync_file):
                record.with_suffix(".wandb.synced").touch()
    return is_whole


def say_lost(run: "wandb.Run", title: str) -> None:
    """Report that the server has not received the whole run, and how to upload it."""
    say(
        f"  {title}: lost the connection to W&B ({run.settings.base_url}); the record is in "
        f"the run folder, upload it later with: {sync_command(run)}"
    )


def upload(run: "wandb.Run", title: str) -> None:
    """Upload an offline record with ``wandb sync``; print one line if that fails.

    It runs in a separate process, since W&B's client has no timeout for artifacts: whatever the
    server does, the upload ends after a minute.
    """
    marker = Path(f"{run.settings.sync_file}.synced")  # more reliable than the command's exit code
    if not knock(run.settings.base_url):
        command = [sys.executable, "-m", "wandb", "sync", run.settings.sync_dir]
        process = subprocess.Popen(
            command, start_new_session=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(UPLOAD)
        finally:
            with suppress(ProcessLookupError):  # including its child processes
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if not marker.exists():
        say_lost(run, title)


def tear_down() -> None:
    """End W&B's process now; it could delay the exit of the interpreter."""
    import wandb

    with suppress(Exception, SystemExit):  # its exit code does not affect the cell
        wandb.teardown()


def sync_command(run: "wandb.Run") -> str:
    """The command that uploads a run's record, relative to the current folder."""
    option = "" if run.offline else "--include-online "
    return f"wandb sync {option}{shlex.quote(os.path.relpath(run.settings.sync_dir))}"


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""
