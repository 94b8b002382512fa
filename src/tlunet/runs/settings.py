"""A run's settings, written as on the command line."""

import json
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

#: Display name of each setting, and its key in a run's configuration.
SPOKEN = {
    "arch": "arch.name", "loss": "loss._target_", "augment": "augment._target_",
    "split": "data.split", "split_seed": "data.split_seed", "subset": "data.subset",
    "size": "data.size", "fit": "data.fit", "duplicates": "data.duplicates",
    "groups": "data.groups",
    "n": "data.n", "data seed": "data.seed", "balance": "data.balance", "epochs": "epochs",
    "budget": "budget", "batch_size": "batch_size", "threshold": "threshold", "lr": "optimizer.lr",
    "betas": "optimizer.betas", "patience": "early_stopping.patience",
}  # fmt: skip
#: Defaults for runs from before the key existed.
BEFORE = {"arch": "unet", "budget": "epochs", "fit": "stretch", "duplicates": "group"}

#: Defaults of ``rest``; values other than these are shown with its name.
REST = {"weight": 1.0, "batch_size": None, "positive": 0.8, "negative": 0.1, "ramp": 0.3}


def read_settings(config: DictConfig | ListConfig) -> dict[str, str]:
    """Read a run's settings other than encoder, initialisation, fraction and seed.

    Args:
        config: its ``config.yaml``.
    """
    return {
        name: spoken(OmegaConf.select(config, at, default=BEFORE.get(name)))
        for name, at in SPOKEN.items()
    } | {"rest": _spoken_rest(config)}


def _spoken_rest(config: DictConfig | ListConfig) -> str:
    """Name what is learnt from the images that ``frac`` leaves out, and values not at default."""
    name = OmegaConf.select(config, "rest.name", default="none")
    values = {key: OmegaConf.select(config, f"rest.{key}", default=REST[key]) for key in REST}
    changed = [f"{key}={value}" for key, value in values.items() if value != REST[key]]
    return str(name) if name == "none" else ", ".join([str(name), *changed])


def spoken(value: Any) -> str:
    """Format a configuration value; a class is shown by its name only."""
    text = json.dumps(OmegaConf.to_container(value)) if OmegaConf.is_config(value) else str(value)
    return text.rpartition(".")[2] if text.startswith("tlunet.") else text


def what_differs(settings: Sequence[dict[str, str]]) -> list[list[str]]:
    """For each run, the settings that differ between runs, such as ``loss=BalancedLoss``."""
    differing = [k for k in settings[0] if len({s[k] for s in settings}) > 1] if settings else []
    return [[f"{k}={s[k]}" for k in differing] for s in settings]
