"""Refuse configurations that would run code."""

import re
import sys
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig
from omegaconf.errors import OmegaConfBaseException

#: Import path of a class, by way of its package.
_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
#: Packages that hold no part of a study, but functions that run commands or write files.
_REFUSED = frozenset({*sys.stdlib_module_names, "hydra", "omegaconf", "pip", "setuptools"})
#: Hydra's own parts: launcher and sweeper may only come from its plugins.
_PLUGINS = ("hydra_plugins.", "hydra._internal.core_plugins.")
_SAMPLER = re.compile(r"optuna\.samplers\.[A-Z]\w*")  # part of a sweeper
_LOGGING = re.compile(r"logging\.(handlers\.)?[A-Z]\w*|colorlog\.ColoredFormatter")
#: Other keys that Hydra's instantiate respects.
_SWITCHES = ("_partial_", "_recursive_", "_args_", "_convert_")


def check_targets(node: Any) -> list[str]:
    """Each ``_target_`` below a node that cannot name a part of a study, one line per problem.

    A part is a class of tlunet, of a library, or of the user's own package. Whether it is of a
    kind that may be created is checked where it is created
    (`tlunet.study.config.instantiate`).
    """
    problems = [
        f"{where}={shown(target)}: not allowed; expected the import path of a class, as "
        "my_package.MyLoss or tlunet.model.losses.PaperLoss"
        for where, target in find(node, ("_target_",))
        if target is not None
        and (not _IMPORT_PATH.fullmatch(str(target)) or str(target).partition(".")[0] in _REFUSED)
    ]
    for where, _ in find(node, _SWITCHES):
        problems.append(f"{where}: not allowed with a _target_; remove it")
    return problems


def check_hydra(hydra: DictConfig) -> list[str]:
    """Each part of Hydra's own configuration that would create or call something, one line each."""
    problems = []
    for where, target in find(hydra, ("_target_", "()", "class")):
        group, name = where.split(".")[0], str(target)
        is_plugin = where in ("launcher._target_", "sweeper._target_") and name.startswith(_PLUGINS)
        is_sampler = group == "sweeper" and _SAMPLER.fullmatch(name)
        is_logging = group.endswith("logging") and _LOGGING.fullmatch(name)
        if not (is_plugin or is_sampler or is_logging):
            problems.append(
                f"hydra.{where}={shown(name)}: not allowed; a configuration must not run code"
            )
    for where, name in find(hydra, ("custom_search_space",)):  # Optuna's sweeper would call it
        if name is not None:
            problems.append(f"hydra.{where}={shown(name)}: not allowed; give hydra.sweeper.params")
    return problems


def shown(value: Any) -> str:
    """Format a value for a message."""
    text = "null" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def find(node: Any, keys: Sequence[str], where: str = "") -> list[tuple[str, Any]]:
    """Find every value below a node under one of some keys, with its path."""
    if isinstance(node, DictConfig | dict):  # a dict: made by a resolver
        names: list[Any] = list(node)
    elif isinstance(node, ListConfig | list):
        names = list(range(len(node)))
    else:
        return []
    values = []
    for name in names:
        try:
            key, item = str(name), node[name]
        except OmegaConfBaseException:  # unresolved; reported where it is used
            continue
        if key in keys:
            values.append((f"{where}{key}", item))
        values += find(item, keys, f"{where}{key}.")
    return values
