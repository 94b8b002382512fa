"""W&B's command line, in a separate process."""

import subprocess
import sys
from pathlib import Path

WANDB = Path(sys.executable).with_name("wandb")


def sync(*arguments: str) -> None:
    """Run `wandb sync`, which must succeed."""
    done = subprocess.run(
        [str(WANDB), "sync", *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
