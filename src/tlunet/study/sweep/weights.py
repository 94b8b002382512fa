"""Looking up the starting weights of all cells before anything is drawn, packed or trained."""

from collections.abc import Sequence
from functools import cache
from glob import escape
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tlunet.errors import WeightsError
from tlunet.machine.console import complain
from tlunet.model.init import WeightsSource, fetch
from tlunet.model.network import encoder_label
from tlunet.model.weights import read_weights
from tlunet.runs.folder import is_finished
from tlunet.runs.names import condition
from tlunet.study.training.resolve import find_start, run_prefix


def fetch_weights(cells: Sequence[DictConfig], *, may_run: bool) -> None:
    """Download the starting weights of all cells, and name those that are not available.

    Cells that have already begun need none: they resume from their checkpoint.

    Args:
        cells: the composed configurations.
        may_run: whether the cells are launched even if none of them has its weights: another
            machine may have them.

    Raises:
        ConfigError: ``init.path`` or TLUNET_WEIGHTS does not exist.
        WeightsError: the weights of all cells are missing.
    """
    whys: dict[str, list[str]] = {}  # reason → names of the cells
    why_missing = cache(_why_missing)
    for cfg in cells:
        config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
        name = config["encoder"].get("_target_") or config["encoder"]["name"]
        error = None
        try:
            start = find_start(config | {"encoder": {"name": name}})
            if isinstance(start, WeightsSource) and not _has_begun(config):
                error = why_missing(start)
        except WeightsError as unknown:
            error = unknown
        if error:
            label = condition(encoder_label(name), config["init"]["name"])
            whys.setdefault("; ".join(error.lines), []).append(label)
    missing = sum(map(len, whys.values()))
    if missing == len(cells) and not may_run:
        raise WeightsError(*whys)
    for why, names in whys.items():
        labels = ", ".join(dict.fromkeys(names))
        complain(f"{labels}: {len(names)} of {len(cells)} cells will fail: {why}")


def _why_missing(source: WeightsSource) -> WeightsError | None:
    try:
        read_weights(fetch(source))
    except WeightsError as error:
        return error
    return None


def _has_begun(config: dict[str, Any]) -> bool:
    """Whether a cell of this name is finished or has a checkpoint; its digest needs the data."""
    if config["force"]:
        return False
    pattern = f"{escape(config['study'] or '')}/{escape(run_prefix(config))}*"
    folders = Path(config["paths"]["runs"]).glob(pattern if config["study"] else f"*{pattern}")
    return any(is_finished(folder) or (folder / "last.ckpt").exists() for folder in folders)
