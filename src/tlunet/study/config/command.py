"""Parse the command line before anything runs: the requested cells, or the problems found.

Imports nothing heavy, so that a wrong key is reported in under a second.
"""

import re
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import IntervalSweep, Override, Transformer
from omegaconf import DictConfig, OmegaConf

from tlunet.errors import ConfigError, reason_of
from tlunet.machine.command_line import shell_word
from tlunet.study.config.compose import (
    DEFAULT,
    compose_cell,
    composing,
    list_of_choices,
    merged_groups,
    no_such_key,
)
from tlunet.study.config.home import expand_home
from tlunet.study.config.overrides import (
    parse,
    refuse_new_keys,
    refuse_no_values,
    refuse_several_values,
    refuse_swept_settings,
    refuse_unused_weights,
    refuse_wrong_choices,
)
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
    args = read_arguments(argv, conf)
    if args.help or args.hydra_help or args.cfg or args.info or args.shell_completion:
        return None
    name = args.config_name or DEFAULT
    with composing(conf, args.config_dir):
        if name != DEFAULT:
            _refuse_merged_groups(name)
        base = compose_cell(name, [])
        parsed = parse(args.overrides, base)
        refuse_new_keys(parsed, base)
        refuse_wrong_choices(parsed)
        refuse_swept_settings(parsed)
        settings, is_sweep = _settings(args, parsed)
        if not is_sweep:
            refuse_several_values(parsed, base)
            jobs = [list(args.overrides)]
        else:
            params = settings.hydra.sweeper.params or {}
            asked = [*parse([f"{k}={v}" for k, v in params.items()], base), *parsed]
            refuse_wrong_choices(asked)
            refuse_no_values(asked)
            jobs = _search(asked) if is_search(settings) else _grid(asked)
        cells = [compose_cell(name, job, base) for job in jobs]
        known = base if name == DEFAULT else compose_cell(DEFAULT, [])
        problems = [line for cell in cells for line in _other_keys(cell, known) or check(cell)]
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    refuse_unused_weights(parsed, cells)
    return cells[:1] if is_sweep and is_search(settings) else cells


def is_search(settings: DictConfig) -> bool:
    """Whether the sweeper chooses trials as it runs, as ``hydra/sweeper=optuna`` does."""
    return not str(settings.hydra.sweeper._target_).endswith(".BasicSweeper")


def _grid(asked: list[Override]) -> list[list[str]]:
    """All combinations of the values."""
    batches = BasicSweeper.split_arguments(asked, None)
    return [list(job) for batch in batches for job in batch]


def _search(asked: Sequence[Override]) -> list[list[str]]:
    """Overrides of a search: the shared ones, then these with each limit and choice in turn."""
    _refuse_search_over_losses(asked)
    # As in the sweeper, the last value of a repeated key wins.
    by_key = {override.get_key_element(): override for override in asked}
    shared = [str(o.input_line) for o in by_key.values() if not o.is_sweep_override()]
    samples = [
        [*shared, f"{key}={value}"]
        for key, override in by_key.items()
        if override.is_sweep_override()
        for value in _ends(override)
    ]
    return [shared, *samples]


def _refuse_search_over_losses(parsed: Sequence[Override]) -> None:
    """Raise ConfigError for a search whose objective would not mean the same in every trial."""
    for override in parsed:
        key = str(override.key_or_group)
        if override.is_sweep_override() and key.partition(".")[0] == "loss":
            raise ConfigError(
                f"{key}: a search minimises the validation loss, and the values of different "
                "losses cannot be compared; sweep it without hydra/sweeper"
            )


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
    args = read_arguments(argv, conf)
    with composing(conf, args.config_dir):
        base = compose_cell(args.config_name or DEFAULT, [])
        return _settings(args, parse(args.overrides, base))


def _settings(args: Namespace, parsed: Sequence[Override]) -> tuple[DictConfig, bool]:
    # A study's file may set the mode and the swept keys (hydra.mode, hydra.sweeper.params).
    is_hydras = [str(o.key_or_group).startswith("hydra") for o in parsed]
    overrides = [t for t, yes in zip(args.overrides, is_hydras, strict=True) if yes]
    cfg = compose_cell(args.config_name or DEFAULT, overrides, with_hydra=True)
    mode = str(cfg.hydra.mode or "RUN").rpartition(".")[2]
    return cfg, bool(args.multirun) or mode == "MULTIRUN"


def read_arguments(argv: Sequence[str], conf: Path) -> Namespace:
    """Parse the arguments as Hydra will; a leading ~ in paths is expanded.

    Raises:
        ConfigError: an option is unknown, or the study file is missing or not named.
    """
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise ConfigError(
            f"{message}{_as_override(argv, message.split())}; see python run.py --help"
        )

    parser.error = refuse  # type: ignore[method-assign]
    args = parser.parse_args(list(argv))
    if args.config_path:
        raise ConfigError("--config-path: not used here; --config-dir adds an experiment folder")
    if args.experimental_rerun:
        raise ConfigError("--experimental-rerun: not used here; it executes code from the file")
    args.overrides = expand_home(args.overrides)
    _require_study(args, conf)
    return args


def _as_override(argv: Sequence[str], unknown: Sequence[str]) -> str:
    """Suggest ``key=value`` for a key that was typed as an option: ``--epochs 3``."""
    for word, after in zip(argv, [*argv[1:], ""], strict=True):
        match = re.fullmatch(r"--([a-z][\w.]*)(?:=(.*))?", word)
        if match and word in unknown:
            is_value = after and not after.startswith("-") and "=" not in after
            value = match[2] if match[2] is not None else after if is_value else "VALUE"
            return f"; keys have no dashes: {shell_word(f'{match[1]}={value}')}"
    return ""


def _require_study(args: Namespace, conf: Path) -> None:
    """Raise ConfigError unless ``-cd`` is a folder, and ``-cn`` names a file in it."""
    folder = Path(args.config_dir) if args.config_dir else None
    if folder and folder.is_file():
        raise ConfigError(f"-cd {folder}: a file; use -cd {folder.parent} -cn {folder.stem}")
    if folder and not folder.is_dir():
        raise ConfigError(f"-cd {folder}: no such folder")
    if folder and not any(folder.glob("*.yaml")) and not any(folder.glob("*/*.yaml")):
        raise ConfigError(f"-cd {folder}: contains no configuration file (.yaml)")
    studies = _studies(folder) if folder else []
    if folder and not args.config_name and (inner := _folders_of_studies(folder)):
        raise ConfigError(
            f"-cd {folder}: contains no configuration file (.yaml), only folders of studies; "
            f"did you mean -cd {' or -cd '.join(map(str, inner))}?"
        )
    if args.config_name:
        _require_file(args.config_name.removesuffix(".yaml"), folder, conf, studies)
    elif folder and studies and not (folder / f"{DEFAULT}.yaml").is_file():
        raise ConfigError(
            f"-cd {folder}: add -cn and a configuration file of this folder: {', '.join(studies)}"
        )


def _require_file(name: str, folder: Path | None, conf: Path, studies: Sequence[str]) -> None:
    """Raise ConfigError unless ``-cn`` names a readable file that starts with ``defaults``."""
    asked = Path(f"{name}.yaml")
    if len(asked.parts) > 1:
        places = [where / asked for where in (folder or Path(), Path())]
        found = next((path for path in places if path.is_file()), None)
        way_out = f"; use -cd {found.parent} -cn {found.stem}" if found else ""
        raise ConfigError(f"-cn {name}: expected the name of a file, without folders{way_out}")
    files = [where / asked for where in (folder, conf) if where and (where / asked).is_file()]
    if not files:
        where = f"in {folder}: {', '.join(studies)}" if studies else "-cd FOLDER adds a folder"
        raise ConfigError(f"-cn {name}: no such configuration file; {where}")
    try:
        files[0].read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        what = reason_of(error)
        raise ConfigError(f"-cn {name}: {files[0]}: cannot be read as UTF-8 ({what})") from None
    if not _is_primary(files[0]):
        raise ConfigError(
            f"-cn {name}: {files[0]}: no defaults; an experiment starts with "
            "defaults: [config, _self_]"
        )


def _studies(folder: Path) -> list[str]:
    """Names of the primary configurations in a folder; other YAML files have no defaults."""
    return [file.stem for file in sorted(folder.glob("*.yaml")) if _is_primary(file)]


def _folders_of_studies(folder: Path) -> list[Path]:
    """Sub-folders with primary configurations, of a folder that has no configuration itself."""
    if any(folder.glob("*.yaml")):
        return []
    files = [file for file in folder.glob("*/*.yaml") if _is_primary(file)]
    return sorted({file.parent for file in files if not _is_choice(file)})


def _is_primary(file: Path) -> bool:
    return re.search(rb"^defaults *:", file.read_bytes(), re.M) is not None


def _is_choice(file: Path) -> bool:
    """Whether a file says that it is a choice of a group."""
    return file.read_bytes().startswith(b"# @package")


def config_dir(argv: Sequence[str], conf: Path) -> Path | None:
    """Return the experiment folder that a command line gives (``-cd experiments/…``)."""
    folder = read_arguments(argv, conf).config_dir
    return Path(folder) if folder else None


def _refuse_merged_groups(name: str) -> None:
    """Raise ConfigError for a study whose defaults select several choices of a group."""
    if merged := merged_groups(name):
        raise ConfigError(
            *(
                f"-cn {name}: {list_of_choices(group, choices)}, or in hydra.sweeper.params"
                for group, choices in merged.items()
            )
        )


def _other_keys(cell: DictConfig, known: DictConfig, where: str = "") -> list[str]:
    """Keys that a file or ``~key`` has added or removed, one line each."""
    names = [f"{where}{key}" for key in map(str, known)]
    problems = [
        no_such_key(f"{where}{key}", names, known) for key in map(str, cell) if key not in known
    ]
    for key in map(str, known):
        if key not in cell:
            problems.append(
                f"{where}{key}: missing; keys cannot be removed, and an experiment must start "
                "with defaults: [config]"
            )
            continue
        mine, theirs = cell._get_node(key), known._get_node(key)
        if not isinstance(mine, DictConfig) or not isinstance(theirs, DictConfig):
            continue
        if theirs.get("_target_") is not None:  # the class determines the other keys
            if "_target_" not in mine:
                problems.append(f"{where}{key}._target_: missing; expected a class")
        elif OmegaConf.select(mine, "name") not in ("csv", "tensorboard"):  # these have no settings
            problems += _other_keys(mine, theirs, f"{where}{key}.")
    return problems
