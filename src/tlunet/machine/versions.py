"""Commit of this program and versions of its libraries."""

import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tlunet.errors import ConfigError

PACKAGES = (
    "tlunet", "torch", "torchvision", "pytorch-lightning", "timm", "segmentation-models-pytorch",
    "torchmetrics", "hydra-core", "numpy", "pandas", "scipy", "pillow",
)  # fmt: skip


def require_extra(extra: str, *modules: str, what: str) -> None:
    """Raise ConfigError unless the packages of an optional extra are installed.

    Args:
        extra: its name in ``pyproject.toml``.
        modules: the modules it installs.
        what: the key or command that needs it.
    """
    if missing := [name for name in modules if not _is_installed(name)]:
        raise ConfigError(
            f"{what}: {', '.join(missing)} is not installed; pip install '.[{extra}]'"
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False


def commit() -> dict[str, Any]:
    """The commit of this code and whether it has uncommitted changes; null outside a checkout."""

    def git(*args: str) -> str:
        here = Path(__file__).parent
        done = subprocess.run(["git", *args], cwd=here, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        changed = git("status", "--porcelain", "--untracked-files=no")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changed)}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
