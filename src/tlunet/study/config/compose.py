"""Composing configurations as ``hydra.main`` does, and Hydra's errors in one line each."""

import difflib
import functools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from hydra import compose, version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_store import ConfigStore
from hydra.core.default_element import ResultDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from tlunet.errors import ConfigError, UserError, first_line
from tlunet.machine.command_line import shell_word
from tlunet.study.config.untrusted import check_hydra

#: What other programs call a key.
_OTHER_PROGRAMS = {
    "learning_rate": "optimizer.lr", "batch": "batch_size", "bs": "batch_size", "model": "encoder",
    "backbone": "encoder", "weights": "init", "pretrained": "init=imagenet", "gpus": "trainer",
    "max_epochs": "epochs", "num_epochs": "epochs", "imgsz": "data.size", "img_size": "data.size",
    "image_size": "data.size", "names": "data.classes", "num_workers": "data.workers",
    "device": "trainer.accelerator", "patience": "early_stopping.patience",
}  # fmt: skip
#: The configuration that a command uses without ``-cn``: conf/config.yaml.
DEFAULT = "config"


@contextmanager
def composing(conf: Path, config_dir: str | None = None) -> Iterator[None]:
    """Set up Hydra for the duration of the block, in which :func:`compose_cell` works.

    Args:
        conf: configuration folder.
        config_dir: experiment folder that a command line adds (``-cd``).

    Raises:
        ConfigError: anything that Hydra or OmegaConf raises in the block.
    """
    search_path = create_config_search_path(str(conf.resolve()))
    if config_dir:
        folder = f"file://{Path(config_dir).resolve()}"
        search_path.prepend("command-line", folder, anchor="schema")
    GlobalHydra.instance().clear()
    _composed.cache_clear()  # it may hold other files' configurations
    version.setbase("1.3")
    try:
        Hydra.create_main_hydra2("run", search_path)
        # Hydra refuses to merge the plugin's optuna.yaml with the one in conf/.
        ConfigStore.instance().repo["hydra"]["sweeper"].pop("optuna.yaml", None)
        yield
    except UserError:
        raise
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_bad_yaml(error)) from None
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise ConfigError(f"the command or one of its files cannot be read ({reason})") from error
    finally:
        GlobalHydra.instance().clear()


def _bad_yaml(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark
    where = f"{mark.name} line {mark.line + 1}" if mark else "a configuration file"
    return f"{where}: cannot be read as YAML ({error.problem or first_line(error)})"


def compose_cell(
    name: str,
    overrides: list[str],
    base: DictConfig | None = None,
    with_hydra: bool = False,
) -> DictConfig:
    """Compose one configuration.

    Args:
        name: of the primary configuration.
        overrides: as on the command line.
        base: the configuration without overrides, to explain an unknown key.
        with_hydra: whether to keep the ``hydra`` settings, unresolved.

    Raises:
        ConfigError: a file, a key or an interpolation is wrong.
    """
    try:
        cfg = _composed(name, tuple(overrides)).copy()
        if problems := check_hydra(cfg.hydra):
            raise ConfigError(*problems)
        if not with_hydra:
            with open_dict(cfg):
                del cfg["hydra"]
            OmegaConf.to_container(cfg, resolve=True)  # find a broken ${…} now
        return cfg
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error, base)) from None


@functools.cache
def _composed(name: str, overrides: tuple[str, ...]) -> DictConfig:
    """Compose, cached: Hydra takes 0.1 s, and the same configuration is needed more than once."""
    return compose(name, list(overrides), return_hydra_config=True)


def choices_of(group: str) -> list[str]:
    """Return the choices of a group, from all configuration folders; empty if it is no group."""
    loader = GlobalHydra.instance().config_loader()
    return sorted(loader.get_group_options(group, ObjectType.CONFIG))


def merged_groups(name: str) -> dict[str, list[str]]:
    """Return the groups of which a file's defaults select a list: group → choices.

    Hydra merges such choices; the last one wins key by key.

    Raises:
        ConfigError: a default is wrong.
    """
    loader = GlobalHydra.instance().config_loader()
    try:
        defaults = loader.compute_defaults_list(name, [], RunMode.RUN).defaults
    except HydraException as error:
        raise ConfigError(_explain(error, None)) from None
    selected: dict[str, list[str]] = {}
    for default in defaults:
        group, _, choice = (default.config_path or "").rpartition("/")
        if group and not _is_base_of_its_group(default, group):
            selected.setdefault(group, []).append(choice)
    return {g: list(dict.fromkeys(c)) for g, c in selected.items() if len(c) > 1}


def list_of_choices(group: str, choices: Sequence[str]) -> str:
    """Describe a list where one choice is expected; Hydra would merge its elements into one."""
    typed = f"{group}=[{','.join(choices)}]: expected one choice"
    if len(names := list(dict.fromkeys(choices))) == 1:
        return f"{typed}, without brackets: {group}={names[0]}"
    several = shell_word(f"{group}={','.join(names) or 'a,b'}")
    return f"{typed}; several values are separated by commas, with -m: python run.py -m {several}"


def _is_base_of_its_group(default: ResultDefault, group: str) -> bool:
    return (default.parent or "").rpartition("/")[0] == group


def _explain(error: Exception, base: DictConfig | None) -> str:
    """Condense Hydra's error into one line: the input, and what is allowed."""
    text = str(error)
    if isinstance(error, MissingConfigException):
        group, _, choice = (error.missing_cfg_file or "").rpartition("/")
        if "," in choice:
            return f"{list_of_choices(group, choice.split(','))}, or in hydra.sweeper.params"
        if allowed := choices_of(group) if group else []:
            near = nearest(choice, allowed)
            return f"{group}={choice}: no such choice{near}; allowed: {', '.join(allowed)}"
        return f"{error.missing_cfg_file}: no such configuration ({first_line(error).rstrip('.')})"
    if match := re.search(r"Could not (?:override|append|delete).*?'([^']+)'", text):
        key = match[1]
        if key.startswith("hydra."):
            return f"{key}: no such key; python run.py --cfg hydra lists those of Hydra"
        if base is None:
            return f"{key}: no such key; see python run.py --help"
        parent, _, _ = key.rpartition(".")
        node = OmegaConf.select(base, parent) if parent else base
        prefix = f"{parent}." if parent else ""
        if not isinstance(node, DictConfig):
            return f"{key}: no such key; {parent} has no nested keys"
        return no_such_key(key, [f"{prefix}{k}" for k in map(str, node)], base)
    return " ".join(text.split())


def no_such_key(key: str, names: Sequence[str], base: DictConfig) -> str:
    """Describe an unknown key: the nearest one, also of another section, and those allowed here."""
    last, everywhere = key.lstrip("+").rpartition(".")[2], _keys(base)
    same_name = [k for k in everywhere if k.rpartition(".")[2] == last]
    meant = _OTHER_PROGRAMS.get(last) or (same_name[0] if same_name else "")
    near = nearest(key, names) or (f", did you mean {meant}?" if meant else "")
    near = near or nearest(key, everywhere)
    return f"{key}: no such key{near}; allowed: {', '.join(names)}"


def _keys(node: DictConfig, where: str = "") -> list[str]:
    keys = []
    for key in map(str, node):
        value = node._get_node(key)
        nested = _keys(value, f"{where}{key}.") if isinstance(value, DictConfig) else []
        keys += nested or [f"{where}{key}"]
    return keys


def nearest(word: str, known: Sequence[str]) -> str:
    """Format the most similar of some names as a question, if one is similar."""
    close = difflib.get_close_matches(word, known, n=1)
    return f", did you mean {close[0]}?" if close else ""
