"""What a configuration may have made: a loss, an augmentation, a transform."""

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

from hydra.errors import InstantiationException
from omegaconf import OmegaConf
from torch import nn

from tlunet.data.augment import Augment
from tlunet.errors import ConfigError, UserError
from tlunet.study.config.untrusted import check_targets, find


def instantiate(config: dict[str, Any]) -> Any:
    """What a ``_target_`` names, and those below it.

    Raises:
        ConfigError: it is no class that may be made, or not of these arguments; whoever wrote the
            file, it is data, not code.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else its import asks the network
    node = OmegaConf.create(config)
    if faults := check_targets(node):
        raise ConfigError(*faults)
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
        first = (str(cause).splitlines() or [type(cause).__name__])[0]
        raise ConfigError(
            f"{config['_target_']}: cannot be made of what is given ({first})"
        ) from error


def _require_part(where: str, target: str) -> None:
    """Raise ConfigError unless a name is that of a class of ours, torch's or albumentations'.

    An allowed package does not do: by way of what its modules import, `torch.os.system` names any
    function; and some of its classes start programs. So the name is looked up in a true module,
    and must be a class of the few kinds that are made from a configuration.
    """
    module, _, name = target.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except Exception as error:  # whatever importing raises
        raise ConfigError(f"{where}={target}: no such class") from error
    is_class = isinstance(found, type)
    is_transform = is_class and found.__module__.startswith("albumentations.")
    if not is_transform and not (is_class and issubclass(found, nn.Module | Augment)):
        raise ConfigError(f"{where}={target}: not a loss, an augmentation or a transform")
