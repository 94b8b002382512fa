"""W&B's settings from the environment, checked before training."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import Any
from urllib.parse import urlsplit

from tlunet.errors import first_line

MODES = ("online", "offline", "disabled", "shared", "dryrun", "run")  # the last two are old names
NOT_IN_A_NAME = frozenset("/\\#?%:")
TIDIED = ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_ENTITY", "WANDB_PROJECT")
TIMEOUTS = ("WANDB_INIT_TIMEOUT", "WANDB_FINISH_TIMEOUT")
#: Variables that are checked without W&B, or that do not matter: a run has its own folder.
CHECKED = (*TIDIED, "WANDB_DIR", "WANDB_DATA_DIR", "WANDB_SILENT", "WANDB_ERROR_REPORTING")
LONGEST = 128  # characters of a project's name


def is_project(value: Any) -> bool:
    """Whether W&B accepts a value as the name of a project (or of a team).

    >>> is_project("steel"), is_project("team/steel"), is_project("")
    (True, False, False)
    """
    is_text = isinstance(value, str) and value.strip() and value.isprintable()
    return bool(is_text) and len(value) <= LONGEST and not NOT_IN_A_NAME & set(value)


def is_entity(value: Any) -> bool:
    """Whether W&B accepts a value as the name of a team or user: a project's, without spaces.

    >>> is_entity("steel-team"), is_entity("steel team")
    (True, False)
    """
    return is_project(value) and not any(map(str.isspace, value))


def problems() -> list[str]:
    """Return the variables that W&B would refuse, one line each: it would then log nothing."""
    lines = []
    mode = os.environ.get("WANDB_MODE", "").strip()
    if mode and mode.lower() not in MODES:
        lines.append(f"WANDB_MODE={mode}: expected online, offline or disabled")
    if url := os.environ.get("WANDB_BASE_URL", "").strip():
        try:
            is_url = urlsplit(url).scheme in ("http", "https") and urlsplit(url).hostname
        except ValueError:
            is_url = False
        if not is_url:
            lines.append(f"WANDB_BASE_URL={url}: expected a URL, as https://api.wandb.ai")
    if len(os.environ.get("WANDB_API_KEY", "").split()) > 1:
        where = "https://wandb.ai/authorize"
        lines.append(f"WANDB_API_KEY: contains white space; expected one key, from {where}")
    others = {k: v for k, v in os.environ.items() if k.startswith("WANDB_") and k not in CHECKED}
    return lines + [f"{k}={v}: {why}" for k, v in sorted(others.items()) if (why := _refusal(k, v))]


def _refusal(name: str, value: str) -> str:
    """Return what W&B itself, which takes a second to import, expects of a variable."""
    from pydantic import ValidationError
    from wandb.sdk.wandb_settings import Settings

    try:
        Settings().update_from_env_vars({name: value})
        if name in TIMEOUTS and not 0 < float(value) < inf:
            return "expected seconds, above 0"
    except ValidationError as error:
        expected = error.errors()[0]["msg"].partition(", unable")[0]
        return expected.replace("Input should be", "expected", 1)
    except Exception as error:  # W&B has several types
        return first_line(error)
    return ""


def tidy() -> None:
    """Correct what has one meaning only: space around a value, capitals in a mode, no value."""
    for name in TIDIED:
        value = os.environ.pop(name, "").strip()
        if value:
            os.environ[name] = value.lower() if name == "WANDB_MODE" else value


@contextmanager
def without_settings() -> Iterator[None]:
    """Hide W&B's variables, except those that this program has set itself."""
    own = ("WANDB_SILENT", "WANDB_DATA_DIR", "WANDB_ERROR_REPORTING", "WANDB_X_")
    hidden = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("WANDB_") and not name.startswith(own)
    }
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)
