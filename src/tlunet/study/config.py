"""The command line, read before anything is run: which cells it asks for, and what is wrong.

Imports nothing heavy: a wrong key is answered in under a second.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import Any

from hydra import compose, version
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from tlunet.errors import ConfigError

#: What a file may make Hydra instantiate. A run folder's config.yaml is data, not code.
ALLOWED_TARGETS = ("tlunet.", "torch.", "pytorch_lightning.", "torchmetrics.", "albumentations.")


def read_command(argv: Sequence[str], conf: Path) -> list[DictConfig] | None:
    """Every cell that a command line of ``run.py`` asks for, in Hydra's order.

    Args:
        argv: the arguments, without the program.
        conf: the folder of the configuration.

    Returns:
        One composed configuration a cell; ``None`` if Hydra is only asked to show something
        (``--cfg``, ``--info`` …).

    Raises:
        ConfigError: a key, a group, a value or the syntax is wrong; one line a fault.
    """
    args = get_args_parser().parse_args(list(argv))
    if args.help or args.hydra_help or args.cfg or args.info or args.shell_completion:
        return None
    name = args.config_name or "config"
    with _hydra(_search_path(args.config_dir, conf)):
        base = _compose(name, [], conf)
        parsed = _parse(args.overrides)
        _refuse_new_keys(parsed, base)
        # A study's file may set the mode and what is swept (hydra.mode, hydra.sweeper.params).
        is_hydras = [str(o.key_or_group).startswith("hydra") for o in parsed]
        settings = [t for t, yes in zip(args.overrides, is_hydras, strict=True) if yes]
        hydra = _compose(name, settings, conf, with_hydra=True).hydra
        if not args.multirun and str(hydra.mode or "RUN").rpartition(".")[2] != "MULTIRUN":
            jobs = [list(args.overrides)]
        elif hydra.sweeper._target_.endswith("BasicSweeper"):
            swept = [f"{k}={v}" for k, v in (hydra.sweeper.params or {}).items()]
            jobs = [
                list(job)
                for batch in BasicSweeper.split_arguments(_parse([*swept, *args.overrides]), None)
                for job in batch
            ]
        else:
            return None  # another sweeper decides as it goes what to try next
        cells = [_compose(name, job, conf, base) for job in jobs]
    faults = list(dict.fromkeys(fault for cell in cells for fault in check(cell)))
    if faults:
        raise ConfigError(*faults)
    return cells


def help_text(argv: Sequence[str], conf: Path) -> str | None:
    """What ``--help`` shows: ``hydra.help.template``, filled as Hydra fills it but composed once.

    Args:
        argv: the arguments, without the program.
        conf: the folder of the configuration.

    Returns:
        ``None`` if help is not asked for.

    Raises:
        ConfigError: an override beside it is wrong.
    """
    args = get_args_parser().parse_args(list(argv))
    if not args.help:
        return None
    with _hydra(_search_path(args.config_dir, conf)):
        name = args.config_name or "config"
        base = _compose(name, [], conf) if args.overrides else None  # to explain a wrong one
        cfg = _compose(name, args.overrides, conf, base, with_hydra=True)
        template = Template(cfg.hydra.help.template)
    with open_dict(cfg):
        del cfg["hydra"]
    groups = (
        f"{group.name}: {', '.join(sorted(p.stem for p in group.glob('*.yaml')))}"
        for group in sorted(conf.iterdir())
        if any(group.glob("*.yaml"))
    )
    return template.substitute(APP_CONFIG_GROUPS="\n".join(groups), CONFIG=OmegaConf.to_yaml(cfg))


def _search_path(config_dir: str | None, conf: Path) -> ConfigSearchPath:
    search_path = create_config_search_path(str(conf.resolve()))
    if config_dir:
        folder = f"file://{Path(config_dir).resolve()}"
        search_path.prepend("command-line", folder, anchor="schema")
    return search_path


def config_dir(argv: Sequence[str]) -> Path | None:
    """The folder of an experiment that a command line names (``-cd experiments/…``)."""
    folder = get_args_parser().parse_args(list(argv)).config_dir
    return Path(folder) if folder else None


@contextmanager
def _hydra(search_path: ConfigSearchPath) -> Iterator[None]:
    """Hydra set up as ``hydra.main`` will set it up, and taken down again."""
    GlobalHydra.instance().clear()
    version.setbase("1.3")
    Hydra.create_main_hydra2("run", search_path)
    try:
        yield
    finally:
        GlobalHydra.instance().clear()


def _parse(overrides: Sequence[str]) -> list[Any]:
    try:
        return OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise ConfigError(
            f"{error.override}: cannot be read ({_first_line(error)}); expected key=value, "
            "several values with commas after -m"
        ) from None


def _refuse_new_keys(parsed: Sequence[Any], base: DictConfig) -> None:
    """``+key=value`` may give an argument to what has a ``_target_``; elsewhere nobody reads it."""
    for override in parsed:
        key = str(override.key_or_group)
        parent = OmegaConf.select(base, key.rpartition(".")[0] or "no parent")
        takes_more = isinstance(parent, DictConfig) and "_target_" in parent
        if override.is_add() and not key.startswith("hydra") and not takes_more:
            raise ConfigError(f"+{key}: nobody reads a new key here; see python run.py --help")


def _compose(
    name: str,
    overrides: list[str],
    conf: Path,
    base: DictConfig | None = None,
    with_hydra: bool = False,
) -> DictConfig:
    try:
        cfg = compose(name, overrides, return_hydra_config=with_hydra)
        if not with_hydra:
            OmegaConf.to_container(cfg, resolve=True)  # a broken ${…} is found now
        return cfg
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error, overrides, conf, base)) from None


def _explain(error: Exception, overrides: list[str], conf: Path, base: DictConfig | None) -> str:
    """Hydra's many lines as one: what was typed, and what is allowed."""
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
        return f"{error.missing_cfg_file}: no such configuration ({_first_line(error)})"
    if (match := re.search(r"Could not (?:override|append|delete).*?'([^']+)'", text)) and base:
        key = match[1]
        parent, _, _ = key.rpartition(".")
        node = OmegaConf.select(base, parent) if parent else base
        prefix = f"{parent}." if parent else ""
        if not isinstance(node, DictConfig):
            return f"{key}: no such key; {parent} holds no keys"
        names = [f"{prefix}{k}" for k in map(str, node)]
        return f"{key}: no such key{_nearest(key, names)}; allowed: {', '.join(names)}"
    return " ".join(text.split())


def _nearest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f", did you mean {close[0]}?" if close else ""


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].strip().rstrip(".")


def _is_int(low: int) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= low


def _is_number(test: Callable[[float], bool]) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int | float) and not isinstance(v, bool) and test(float(v))


def _is_one_of(*allowed: str) -> Callable[[Any], bool]:
    return lambda v: v in allowed


def _is_size(v: Any) -> bool:
    return isinstance(v, ListConfig) and len(v) == 2 and all(_is_int(32)(x) for x in v)


def _or_null(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda v: v is None or test(v)


def _is_name(v: Any) -> bool:
    return isinstance(v, str) and re.fullmatch(r"[\w][\w.\- ]*", v) is not None


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "study": (_or_null(_is_name), "a folder's name: letters, digits, '.', '_', '-'"),
    "seed": (_is_int(0), "a whole number, 0 or more"),
    "frac": (_is_number(lambda v: 0 < v <= 1), "a number above 0 and at most 1"),
    "epochs": (_is_int(1), "a whole number, 1 or more"),
    "batch_size": (_is_int(1), "a whole number, 1 or more"),
    "threshold": (_is_number(lambda v: 0 < v < 1), "a probability between 0 and 1"),
    "force": (lambda v: isinstance(v, bool), "true or false"),
    "optimizer.lr": (_is_number(lambda v: v > 0), "a number above 0"),
    "optimizer.betas": (
        lambda v: (
            isinstance(v, ListConfig)
            and len(v) == 2
            and all(_is_number(lambda b: 0 <= b < 1)(b) for b in v)
        ),
        "two numbers from 0 to below 1, as in [0.99,0.99]",
    ),
    "early_stopping.patience": (_or_null(_is_int(1)), "a whole number of epochs, or null"),
    "data.split": (_is_one_of("random", "official"), "random, official"),
    "data.split_seed": (_is_int(0), "a whole number, 0 or more"),
    "data.subset": (_is_one_of("all", "defective"), "all, defective"),
    "data.size": (_or_null(_is_size), "[height,width], both 32 or more, or null"),
    "data.residency": (_is_one_of("auto", "gpu", "memmap"), "auto, gpu, memmap"),
    "data.workers": (_or_null(_is_int(0)), "a whole number, or null to choose by the hardware"),
    "data.on_error": (_is_one_of("stop", "skip"), "stop, skip"),
    "data.n": (_is_int(8), "a whole number, 8 or more"),
    "data.seed": (_is_int(0), "a whole number, 0 or more"),
    "data.balance": (_is_one_of("even", "severstal"), "even, severstal"),
    "data.classes": (
        lambda v: isinstance(v, ListConfig) and all(isinstance(c, str) for c in v),
        "a list of names, as in [scratch,dent]",
    ),
    "init.n": (_is_int(8), "a whole number, 8 or more"),
    "init.size": (_is_size, "[height,width], both 32 or more"),
    "init.epochs": (_is_int(1), "a whole number, 1 or more"),
    "init.seed": (_is_int(0), "a whole number, 0 or more"),
    "trainer.accelerator": (_is_one_of("auto", "cuda", "mps", "cpu"), "auto, cuda, mps, cpu"),
    "trainer.precision": (
        _is_one_of("auto", "bf16-mixed", "32-true"),
        "auto, bf16-mixed, 32-true",
    ),
    "trainer.threads": (_or_null(_is_int(1)), "a whole number, or null for one a core"),
    "trainer.compile": (lambda v: isinstance(v, bool), "true or false"),
    "logger.mode": (_is_one_of("auto", "online", "offline"), "auto, online, offline"),
}


def check(cfg: DictConfig) -> list[str]:
    """What is wrong with the values of one cell, a line a fault; nothing is read from disk.

    >>> check(OmegaConf.create({"frac": 1.5}))
    ['frac=1.5: expected a number above 0 and at most 1']
    """
    faults = []
    for key, (is_right, expected) in _RULES.items():
        parent, _, last = key.rpartition(".")
        node = OmegaConf.select(cfg, parent) if parent else cfg
        if node is None or last not in node:
            continue
        value = node[last]
        if not is_right(value):
            shown = "null" if value is None else value
            faults.append(f"{key}={shown}: expected {expected}")
    faults += check_targets(cfg)
    if OmegaConf.select(cfg, "init.name") == "checkpoint" and not cfg.init.path:
        faults.append("init=checkpoint: init.path is not set; expected a run folder or a .ckpt")
    return faults


def check_targets(node: Any) -> list[str]:
    """Each ``_target_`` below a node that is not on the allow-list, a line a fault."""
    allowed = ", ".join(target.rstrip(".") for target in ALLOWED_TARGETS)
    return [
        f"{where}={target}: not allowed; a configuration may name parts of {allowed}"
        for where, target in _targets(node)
        if not target.startswith(ALLOWED_TARGETS)
    ]


def _targets(node: Any, where: str = "") -> list[tuple[str, str]]:
    """Every ``_target_`` below a node, with its key."""
    if isinstance(node, DictConfig):
        found = [(f"{where}_target_", str(node["_target_"]))] if "_target_" in node else []
        return found + [
            t for k in map(str, node) if k != "_target_" for t in _targets(node[k], f"{where}{k}.")
        ]
    if isinstance(node, ListConfig):
        return [t for k, item in enumerate(node) for t in _targets(item, f"{where}{k}.")]
    return []
