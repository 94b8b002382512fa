"""Where a run is logged besides its own folder."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl

from tlunet.study.cell import Cell


@contextmanager
def open_logger(cell: Cell, attempt: int) -> Iterator[pl.loggers.Logger | None]:
    """W&B, or ``None`` for ``logger=csv`` (``history.csv`` is written anyway).

    One W&B run a cell: its id is a hash of study, digest and attempt, so a resumed cell goes on
    in its own run, and ``force=true`` begins another. Online when the user is logged in, else
    offline without questions. The run is closed with the block, failed if that raises.
    """
    wanted = cell.config["logger"]
    if wanted["name"] != "wandb":
        yield None
        return
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    key = f"{cell.study}|{cell.digest}|{attempt}"
    mode = wanted["mode"]
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE") or ("online" if is_logged_in() else "offline")
    run = wandb.init(
        project=wanted["project"],
        group=cell.study,
        name=cell.folder.name,
        id=hashlib.sha256(key.encode()).hexdigest()[:16],
        dir=cell.folder,
        config=cell.config,
        tags=[cell.dataset, cell.encoder, cell.init, f"frac {cell.frac}"],
        job_type="cell",
        mode=mode,
        resume="allow" if mode == "online" else None,
        settings=wandb.Settings(console="off"),
    )
    try:
        yield WandbLogger(experiment=run)
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()


def is_logged_in() -> bool:
    """Whether ``wandb login`` has left a key, or the environment holds one; nobody is asked."""
    from requests.utils import get_netrc_auth

    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    token = os.environ.get("WANDB_IDENTITY_TOKEN_FILE")
    return bool(
        os.environ.get("WANDB_API_KEY") or get_netrc_auth(host) or (token and Path(token).exists())
    )
