"""The way to W&B: online or offline, and what to say of it; nobody waits for more than seconds.

Secrets stay where ``wandb login`` has put them; a record holds none.
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

from tlunet.machine.console import say

if TYPE_CHECKING:
    import wandb

KNOCK = 4.0  # seconds a W&B server has to answer at all, or the run is logged offline
INIT = 10.0  # seconds to open a run there (WANDB_INIT_TIMEOUT)
FINISH = 8.0  # seconds to take the rest at the end (WANDB_FINISH_TIMEOUT); a stopped cell has 30
UPLOAD = 60.0  # seconds that pictures and files have to arrive
REFUSED = "filestream: fatal error"  # what W&B's log says when rows did not get through


def open_run(title: str, asked: str, folder: Path, **about: Any) -> "wandb.Run | None":
    """Open a run, online or offline; a line says so if that is not as it was asked for.

    Args:
        title: what it is, for the line.
        asked: ``auto`` (online when the user is logged in), ``online`` or ``offline``.
        folder: its record is kept in ``<folder>/wandb``.
        **about: for ``wandb.init``.

    Returns:
        ``None`` if W&B does not work here at all.
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
        say(f"  {title}: W&B does not work here ({first_line(error)}): not logged there")
        return None
    if trouble:
        say(
            f"  {title}: W&B {trouble}: the record is kept in the run folder; upload it "
            f"later with: {sync_command(run)}"
        )
    return run


def _prepare_environment(folder: Path) -> None:
    _hush()
    # W&B's reports of its own errors are tried again at the interpreter's exit, for seconds.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    # A killed run's record lacks its last second, not its last 15.
    os.environ.setdefault("WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL", "1")
    # What artifacts and tables are made of lies with the record, or it could not be uploaded later.
    os.environ["WANDB_DATA_DIR"] = str((folder / "wandb").resolve())


def _hush() -> None:
    """Before W&B looks at the environment, once a process."""
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
    """Online, offline or disabled, whether or not the server can be reached."""
    _hush()
    import wandb

    settings = wandb.setup().settings
    mode = settings.mode if asked == "auto" else asked
    return "offline" if mode == "online" and not is_logged_in(settings) else mode


def _choose(asked: str, settings: "wandb.Settings") -> tuple[Any, str | None]:
    """W&B's mode, and what stood against being online, if that is worth a line."""
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
    """Whether ``wandb login`` has left a key, or the environment holds one; nobody is asked."""
    from requests.utils import get_netrc_auth

    token = settings.identity_token_file
    has_key = settings.api_key or get_netrc_auth(settings.base_url)
    return bool(has_key or (token and Path(token).exists()))


def knock(url: str) -> str | None:
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


def close_run(run: "wandb.Run", exit_code: int) -> bool:
    """End a run, and say whether all of it has arrived: at the server, or in an offline record."""
    settings = run.settings
    is_whole = settings.mode == "disabled"
    with suppress(TimeoutError):
        run.finish(exit_code=exit_code)
        is_whole = REFUSED not in _read(settings.log_internal)
    if settings.mode != "disabled":
        # Earlier records of the run hold nothing that this one or the server has not.
        for record in Path(settings.wandb_dir).glob(f"*run-*/run-{run.id}.wandb"):
            if record != Path(settings.sync_file):
                record.with_suffix(".wandb.synced").touch()
    return is_whole


def say_lost(run: "wandb.Run", title: str) -> None:
    """Say that the server has not taken all of a run, and how to upload it."""
    say(
        f"  {title}: W&B was lost ({run.settings.base_url}): the record is kept in the run folder; "
        f"upload it later with: {sync_command(run)}"
    )


def upload(run: "wandb.Run", title: str) -> None:
    """Upload an offline record by W&B's own command; a line says so if that does not succeed.

    In a process of its own, since W&B's client knows no time limit for artifacts: whatever befalls
    the server, it is over after a minute.
    """
    marker = Path(f"{run.settings.sync_file}.synced")  # the command's exit code says less
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
            with suppress(ProcessLookupError):  # with what it has started
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if not marker.exists():
        say_lost(run, title)


def tear_down() -> None:
    """End W&B's process now: at the interpreter's exit it could keep that waiting."""
    import wandb

    with suppress(Exception, SystemExit):  # its exit code is no concern of the cell's
        wandb.teardown()


def sync_command(run: "wandb.Run") -> str:
    """The command that uploads a run's record, to be typed from here."""
    option = "" if run.offline else "--include-online "
    return f"wandb sync {option}{shlex.quote(os.path.relpath(run.settings.sync_dir))}"


def first_line(error: Exception) -> str:
    """Of an error that may have many."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""
