"""W&B's own command, in a process of its own."""

import subprocess
import sys
from pathlib import Path

WANDB = Path(sys.executable).with_name("wandb")


def sync(*arguments: str) -> None:
    """`wandb sync`, which must succeed."""
    done = subprocess.run(
        [str(WANDB), "sync", *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
