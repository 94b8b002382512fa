"""W&B's settings from the environment: checked before training, without importing W&B."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

MODES = ("online", "offline", "disabled", "shared", "dryrun", "run")  # the last two are old names
NOT_IN_A_NAME = frozenset("/\\#?%:")
TIDIED = ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_ENTITY", "WANDB_PROJECT")
LONGEST = 128  # characters of a project's name


def is_project(value: Any) -> bool:
    """Whether W&B accepts a value as the name of a project (or of a team).

    >>> is_project("steel"), is_project("team/steel"), is_project("")
    (True, False, False)
    """
    is_text = isinstance(value, str) and value.strip() and value.isprintable()
    return bool(is_text) and len(value) <= LONGEST and not NOT_IN_A_NAME & set(value)


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
    return lines


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
