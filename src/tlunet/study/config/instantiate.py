"""Create what a configuration names: a loss, an augmentation, a transform."""

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

from hydra.errors import InstantiationException
from omegaconf import OmegaConf
from torch import nn

from tlunet.data.augment import Augment
from tlunet.errors import ConfigError, UserError, first_line
from tlunet.study.config.untrusted import check_targets, find


def instantiate(config: dict[str, Any]) -> Any:
    """Create the class that a ``_target_`` names, with its other keys as arguments.

    Raises:
        ConfigError: it is not a class that may be created, or not with these arguments.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else its import asks the network
    node = OmegaConf.create(config)
    if problems := check_targets(node):
        raise ConfigError(*problems)
    for where, target in find(node, ("_target_",)):
        _require_part(where, str(target))
    from hydra.utils import instantiate as build

    make: Callable[..., Any] = build
    try:
        return make(config, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, UserError):
            raise cause from None
        raise ConfigError(
            f"{config['_target_']}: cannot be created with these arguments ({first_line(cause)})"
        ) from error


def _require_part(where: str, target: str) -> None:
    """Raise ConfigError unless a name is that of a loss, an augmentation or a transform.

    The package does not decide: through what its modules import, `torch.os.system` names any
    function, and some classes start programs. So the module is imported by its own name, and what
    it holds must be a class of the few kinds that a configuration creates.
    """
    module, _, name = target.rpartition(".")
    try:
        part = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{where}={target}: no such class ({first_line(error)}); is its package installed, or "
            "on PYTHONPATH?"
        ) from error
    except Exception as error:  # an import raises whatever the module does
        raise ConfigError(f"{where}={target}: no such class ({first_line(error)})") from error
    is_class = isinstance(part, type)
    is_transform = is_class and part.__module__.startswith("albumentations.")
    if not is_transform and not (is_class and issubclass(part, nn.Module | Augment)):
        raise ConfigError(f"{where}={target}: not a loss, an augmentation or a transform")
