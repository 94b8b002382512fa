"""Parse the command line before anything runs: the requested cells, or the problems found.

Imports nothing heavy, so that a wrong key is reported in under a second.
"""

import difflib
import functools
import re
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import Any, NoReturn

from hydra import compose, version
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, Transformer
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from tlunet.errors import ConfigError, UserError, first_line
from tlunet.study.config.untrusted import check_hydra
from tlunet.study.config.values import check


def read_command(argv: Sequence[str], conf: Path) -> list[DictConfig] | None:
    """Return all cells that a ``run.py`` command requests, in Hydra's order.

    Args:
        argv: command-line arguments, without the program name.
        conf: configuration folder.

    Returns:
        One composed configuration per cell. For a search, whose sweeper chooses trials as it
        runs, only the configuration that all trials share. ``None`` if Hydra should only show
        something (``--cfg``, ``--info`` …).

    Raises:
        ConfigError: a key, a group, a value or the syntax is wrong; one line per problem.
    """
    args = _arguments(argv)
    if args.help or args.hydra_help or args.cfg or args.info or args.shell_completion:
        return None
    name = args.config_name or "config"
    with _in_one_line(), _hydra(_search_path(args.config_dir, conf)):
        base = _compose(name, [], conf)
        parsed = _parse(args.overrides)
        _refuse_new_keys(parsed, base)
        settings, is_sweep = _settings(args, parsed, conf)
        hydra = settings.hydra
        swept = [f"{k}={v}" for k, v in (hydra.sweeper.params or {}).items()] if is_sweep else []
        if not is_sweep:
            jobs = [list(args.overrides)]
        elif is_search(settings):
            asked = _parse([*swept, *args.overrides])
            _refuse_search_over_losses(asked)
            jobs = _samples(asked)
        else:
            jobs = [
                list(job)
                for batch in BasicSweeper.split_arguments(_parse([*swept, *args.overrides]), None)
                for job in batch
            ]
        cells = [_compose(name, job, conf, base) for job in jobs]
        known = base if name == "config" else _compose("config", [], conf)
        problems = [line for cell in cells for line in _other_keys(cell, known) or check(cell)]
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    return cells[:1] if is_sweep and is_search(settings) else cells


def is_search(settings: DictConfig) -> bool:
    """Whether the sweeper chooses trials as it runs, as ``hydra/sweeper=optuna`` does."""
    return not str(settings.hydra.sweeper._target_).endswith(".BasicSweeper")


def _refuse_search_over_losses(parsed: Sequence[Override]) -> None:
    """Raise ConfigError for a search whose objective would not mean the same in every trial."""
    for override in parsed:
        key = str(override.key_or_group)
        if override.is_sweep_override() and key.partition(".")[0] == "loss":
            raise ConfigError(
                f"{key}: a search minimises the validation loss, and the values of different "
                "losses cannot be compared; sweep it without hydra/sweeper"
            )


def _samples(parsed: Sequence[Override]) -> list[list[str]]:
    """Overrides of a search: the shared ones, then these with each limit and choice in turn."""
    # As in the sweeper, the last value of a repeated key wins.
    by_key = {override.get_key_element(): override for override in parsed}
    shared = [str(o.input_line) for o in by_key.values() if not o.is_sweep_override()]
    samples = [
        [*shared, f"{key}={value}"]
        for key, override in by_key.items()
        if override.is_sweep_override()
        for value in _ends(override)
    ]
    return [shared, *samples]


def _ends(override: Override) -> list[Any]:
    """The choices of a swept key, or the first and last number of its range."""
    value = override.value()
    if isinstance(value, IntervalSweep):
        return [value.start, value.end]
    choices = list(override.sweep_iterator(transformer=Transformer.encode))
    return [choices[0], choices[-1]] if override.is_range_sweep() else choices


def hydra_settings(argv: Sequence[str], conf: Path) -> tuple[DictConfig, bool]:
    """Compose the configuration with the ``hydra`` settings of a command line.

    Args:
        argv: command-line arguments, without the program name.
        conf: configuration folder.

    Returns:
        The configuration, and whether the command is a sweep. Everything outside ``hydra`` is as
        in the files.

    Raises:
        ConfigError: an override of a Hydra setting is wrong.
    """
    args = _arguments(argv)
    with _in_one_line(), _hydra(_search_path(args.config_dir, conf)):
        return _settings(args, _parse(args.overrides), conf)


def _settings(args: Namespace, parsed: Sequence[Any], conf: Path) -> tuple[DictConfig, bool]:
    # A study's file may set the mode and the swept keys (hydra.mode, hydra.sweeper.params).
    is_hydras = [str(o.key_or_group).startswith("hydra") for o in parsed]
    overrides = [t for t, yes in zip(args.overrides, is_hydras, strict=True) if yes]
    cfg = _compose(args.config_name or "config", overrides, conf, with_hydra=True)
    mode = str(cfg.hydra.mode or "RUN").rpartition(".")[2]
    return cfg, bool(args.multirun) or mode == "MULTIRUN"


def help_text(argv: Sequence[str], conf: Path) -> str | None:
    """Return the ``--help`` text: ``hydra.help.template``, filled as in Hydra but composed once.

    Args:
        argv: command-line arguments, without the program name.
        conf: configuration folder.

    Returns:
        The text, or ``None`` if help is not requested.

    Raises:
        ConfigError: another override of the command is wrong.
    """
    args = _arguments(argv)
    if not args.help:
        return None
    with _in_one_line(), _hydra(_search_path(args.config_dir, conf)):
        name = args.config_name or "config"
        base = _compose(name, [], conf) if args.overrides else None  # to explain a wrong override
        cfg = _compose(name, args.overrides, conf, base, with_hydra=True)
        template = Template(cfg.hydra.help.template)
    with open_dict(cfg):
        del cfg["hydra"]
    groups = (
        f"{group.name}: {', '.join(sorted(p.stem for p in group.glob('*.yaml')))}"
        for group in sorted(conf.iterdir())
        if any(group.glob("*.yaml"))
    )
    return template.substitute(
        APP_CONFIG_GROUPS="\n".join(groups), CONFIG=OmegaConf.to_yaml(cfg, resolve=True)
    )


def _arguments(argv: Sequence[str]) -> Namespace:
    """Parse the arguments as Hydra will."""
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise ConfigError(f"{message}; see python run.py --help")

    parser.error = refuse  # type: ignore[method-assign]
    args = parser.parse_args(list(argv))
    if args.config_path:
        raise ConfigError("--config-path: not used here; --config-dir adds an experiment folder")
    if args.experimental_rerun:
        raise ConfigError("--experimental-rerun: not used here; it executes code from the file")
    return args


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Report anything Hydra or OmegaConf raises as one ConfigError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise ConfigError(f"the command or one of its files cannot be read ({reason})") from error


def _search_path(config_dir: str | None, conf: Path) -> ConfigSearchPath:
    search_path = create_config_search_path(str(conf.resolve()))
    if config_dir:
        folder = f"file://{Path(config_dir).resolve()}"
        search_path.prepend("command-line", folder, anchor="schema")
    return search_path


def config_dir(argv: Sequence[str]) -> Path | None:
    """Return the experiment folder that a command line gives (``-cd experiments/…``)."""
    folder = _arguments(argv).config_dir
    return Path(folder) if folder else None


@contextmanager
def _hydra(search_path: ConfigSearchPath) -> Iterator[None]:
    """Set up Hydra as ``hydra.main`` does, for the duration of the block."""
    GlobalHydra.instance().clear()
    _composed.cache_clear()  # it may hold other files' configurations
    version.setbase("1.3")
    Hydra.create_main_hydra2("run", search_path)
    # Hydra refuses to merge the plugin's optuna.yaml with the one in conf/.
    ConfigStore.instance().repo["hydra"]["sweeper"].pop("optuna.yaml", None)
    try:
        yield
    finally:
        GlobalHydra.instance().clear()


def _parse(overrides: Sequence[str]) -> list[Override]:
    try:
        return OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise ConfigError(
            f"{error.override}: cannot be read ({first_line(error).rstrip('.')}); expected "
            "key=value; with -m, separate several values by commas"
        ) from None


def _refuse_new_keys(parsed: Sequence[Any], base: DictConfig) -> None:
    """Allow ``+key=value`` only as an argument of a ``_target_``; nothing reads other new keys."""
    for override in parsed:
        key = str(override.key_or_group)
        parent = OmegaConf.select(base, key.rpartition(".")[0] or "no parent")
        takes_more = isinstance(parent, DictConfig) and parent.get("_target_") is not None
        if override.is_add() and not key.startswith("hydra") and not takes_more:
            raise ConfigError(f"+{key}: unknown key; see python run.py --help")


def _other_keys(cell: DictConfig, known: DictConfig, where: str = "") -> list[str]:
    """Keys that a file or ``~key`` has added or removed, one line each."""
    names = [f"{where}{key}" for key in map(str, known)]
    faults = [
        f"{where}{key}: no such key{_nearest(f'{where}{key}', names)}; allowed: {', '.join(names)}"
        for key in map(str, cell)
        if key not in known
    ]
    for key in map(str, known):
        if key not in cell:
            faults.append(
                f"{where}{key}: missing; keys cannot be removed, and an experiment must start "
                "with defaults: [config]"
            )
            continue
        mine, theirs = cell._get_node(key), known._get_node(key)
        if not isinstance(mine, DictConfig) or not isinstance(theirs, DictConfig):
            continue
        if theirs.get("_target_") is not None:  # the class determines the other keys
            if "_target_" not in mine:
                faults.append(f"{where}{key}._target_: missing; expected a class")
        elif OmegaConf.select(mine, "name") not in ("csv", "tensorboard"):  # these have no settings
            faults += _other_keys(mine, theirs, f"{where}{key}.")
    return faults


def _compose(
    name: str,
    overrides: list[str],
    conf: Path,
    base: DictConfig | None = None,
    with_hydra: bool = False,
) -> DictConfig:
    try:
        cfg = _composed(name, tuple(overrides)).copy()
        if faults := check_hydra(cfg.hydra):
            raise ConfigError(*faults)
        if not with_hydra:
            with open_dict(cfg):
                del cfg["hydra"]
            OmegaConf.to_container(cfg, resolve=True)  # find a broken ${…} now
        return cfg
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error, overrides, conf, base)) from None


@functools.cache
def _composed(name: str, overrides: tuple[str, ...]) -> DictConfig:
    """Compose, cached: Hydra takes 0.1 s, and the same configuration is needed more than once."""
    return compose(name, list(overrides), return_hydra_config=True)


def _explain(error: Exception, overrides: list[str], conf: Path, base: DictConfig | None) -> str:
    """Condense Hydra's error into one line: the input, and what is allowed."""
    text = str(error)
    for override in overrides:
        key, _, value = override.partition("=")
        key = key.lstrip("+~")
        group = conf / key
        if group.is_dir() and not (group / f"{value}.yaml").is_file() and value:
            allowed = sorted(p.stem for p in group.glob("*.yaml"))
            near = _nearest(value, allowed)
            return f"{key}={value}: no such choice{near}; allowed: {', '.join(allowed)}"
    if isinstance(error, MissingConfigException):
        return f"{error.missing_cfg_file}: no such configuration ({first_line(error).rstrip('.')})"
    if (match := re.search(r"Could not (?:override|append|delete).*?'([^']+)'", text)) and base:
        key = match[1]
        parent, _, _ = key.rpartition(".")
        node = OmegaConf.select(base, parent) if parent else base
        prefix = f"{parent}." if parent else ""
        if not isinstance(node, DictConfig):
            return f"{key}: no such key; {parent} has no nested keys"
        names = [f"{prefix}{k}" for k in map(str, node)]
        return f"{key}: no such key{_nearest(key, names)}; allowed: {', '.join(names)}"
    return " ".join(text.split())


def _nearest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f", did you mean {close[0]}?" if close else ""
