"""What a configuration file may not do: a stranger's file is data, and neither code nor a spy."""

import os
import re
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

#: Where the classes come from that a file may have instantiated.
ALLOWED_TARGETS = ("tlunet.", "torch.", "pytorch_lightning.", "torchmetrics.", "albumentations.")
#: Hydra's own parts. It takes launcher and sweeper from its plugins only, and is held to it here.
_PLUGINS = ("hydra_plugins.", "hydra._internal.core_plugins.")
_SAMPLER = re.compile(r"optuna\.samplers\.[A-Z]\w*")  # a part of a sweeper
_LOGGING = re.compile(r"logging\.(handlers\.)?[A-Z]\w*|colorlog\.ColoredFormatter")
#: What else Hydra's instantiate would heed beside a target.
_SWITCHES = ("_partial_", "_recursive_", "_args_", "_convert_")
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL", re.IGNORECASE)
_SHORTEST = 8  # characters of a secret; a shorter one would be found everywhere


def check_targets(node: Any) -> list[str]:
    """Each ``_target_`` below a node that is not on the allow-list, a line a fault.

    The list is of packages; which of their names is a class that may be made, is asked where it
    is made (`tlunet.study.training.resolve.instantiate`).
    """
    allowed = ", ".join(target.rstrip(".") for target in ALLOWED_TARGETS)
    faults = [
        f"{where}={shown(target)}: not allowed; a configuration may name parts of {allowed}"
        for where, target in find(node, ("_target_",))
        if not str(target).startswith(ALLOWED_TARGETS)
    ]
    switches = find(node, _SWITCHES)
    return faults + [f"{where}: not allowed beside a _target_; remove it" for where, _ in switches]


def check_hydra(hydra: DictConfig) -> list[str]:
    """What in Hydra's own configuration would have something instantiated, a line a fault."""
    faults = []
    for where, target in find(hydra, ("_target_", "()", "class")):
        group, name = where.split(".")[0], str(target)
        is_plugin = where in ("launcher._target_", "sweeper._target_") and name.startswith(_PLUGINS)
        is_sampler = group == "sweeper" and _SAMPLER.fullmatch(name)
        is_logging = group.endswith("logging") and _LOGGING.fullmatch(name)
        if not (is_plugin or is_sampler or is_logging):
            faults.append(
                f"hydra.{where}={shown(name)}: not allowed; a configuration is no program"
            )
    for where, name in find(hydra, ("custom_search_space",)):  # Optuna's sweeper would call it
        if name is not None:
            faults.append(f"hydra.{where}={shown(name)}: not allowed; give hydra.sweeper.params")
    return faults


def check_secrets(cfg: DictConfig, typed: Sequence[str]) -> list[str]:
    """Each value that holds a secret of the environment, though nobody typed that.

    Args:
        cfg: a cell, or Hydra's settings.
        typed: the overrides of the command line.
    """
    secrets = {
        name: value
        for name, value in os.environ.items()
        if _SECRET.search(name) and len(value) >= _SHORTEST
    }
    values = _texts(OmegaConf.to_container(cfg, resolve=True)) if secrets else []
    return [
        f"{key}: holds the environment's {name}, and run folders keep every value; take it out, "
        "or type it on the command line if that is meant"
        for key, value in values
        for name, secret in secrets.items()
        if secret in value and not any(name in text or secret in text for text in typed)
    ]


def shown(value: Any) -> str:
    """A value in a line about it."""
    text = "null" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def find(node: Any, keys: Sequence[str], where: str = "") -> list[tuple[str, Any]]:
    """Every value below a node that stands under one of some keys, with its place."""
    if isinstance(node, DictConfig | dict):  # a dict: what a resolver has made
        names: list[Any] = list(node)
    elif isinstance(node, ListConfig | list):
        names = list(range(len(node)))
    else:
        return []
    found = []
    for name in names:
        try:
            key, item = str(name), node[name]
        except OmegaConfBaseException:  # not known yet; whoever asks for it will be told
            continue
        if key in keys:
            found.append((f"{where}{key}", item))
        found += find(item, keys, f"{where}{key}.")
    return found


def _texts(node: Any, where: str = "") -> list[tuple[str, str]]:
    """Every text in plain values, keys of mappings included, with its place."""
    if isinstance(node, dict):
        keys = [(where.lstrip("."), str(key)) for key in node]
        return keys + [t for k, v in node.items() for t in _texts(v, f"{where}.{k}")]
    if isinstance(node, list):
        return [t for k, v in enumerate(node) for t in _texts(v, f"{where}.{k}")]
    return [(where.lstrip("."), node)] if isinstance(node, str) else []
