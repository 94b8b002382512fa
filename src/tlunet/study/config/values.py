"""Allowed values of each configuration key; nothing is read from disk."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from tlunet.data.readers.groups import RULE, is_rule
from tlunet.data.readers.layouts import NAMES
from tlunet.errors import ConfigError
from tlunet.machine.versions import require_extra
from tlunet.study.config.untrusted import check_targets, shown
from tlunet.tracking.wandb.environment import LONGEST, is_entity, is_project, problems

_MOST = 2**31 - 1  # largest count or seed
_MOST_PIXELS = 2**26  # per image; image readers accept at most 89 million
_MOST_AT_ONCE = 1024  # threads, processes


def _is_int(low: int, high: int = _MOST) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high


def _is_number(test: Callable[[float], bool]) -> Callable[[Any], bool]:
    # Check the bounds before converting: an integer can overflow a float. NaN fails every bound.
    return lambda v: (
        isinstance(v, int | float)
        and not isinstance(v, bool)
        and -1e300 < v < 1e300
        and test(float(v))
    )


def _is_one_of(*allowed: str) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, str) and v in allowed


def _is_size(v: Any) -> bool:
    is_pair = isinstance(v, ListConfig) and len(v) == 2 and all(_is_int(32)(x) for x in v)
    return is_pair and v[0] * v[1] <= _MOST_PIXELS


def _is_crop(v: Any) -> bool:
    return _is_size(v) and all(x % 32 == 0 for x in v)


def _or_null(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda v: v is None or test(v)


def _is_name(v: Any) -> bool:
    return isinstance(v, str) and len(v) <= 100 and re.fullmatch(r"[\w][\w.\- ]*", v) is not None


def _is_path(v: Any) -> bool:
    if not isinstance(v, str) or not v.strip() or not v.isprintable():
        return False
    return len(v) <= 4000 and all(len(part.encode()) <= 255 for part in Path(v).parts)


def _is_text(v: Any) -> bool:
    return isinstance(v, str) and 0 < len(v.strip()) <= 200 and v.isprintable()


def _are_names(v: Any) -> bool:
    return isinstance(v, ListConfig) and all(map(_is_text, v)) and len(set(v)) == len(v)


def _are_betas(v: Any) -> bool:
    is_beta = _is_number(lambda beta: 0 <= beta < 1)
    return isinstance(v, ListConfig) and len(v) == 2 and all(map(is_beta, v))


def _is_bool(v: Any) -> bool:
    return isinstance(v, bool)


_SIZE = "[height,width], each at least 32, at most 67 million pixels"
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "study": (_or_null(_is_name), "a folder name of letters, digits, '.', '_', '-'"),
    "seed": (_is_int(0), "a whole number, 0 or more, below 2^31"),
    "frac": (_is_number(lambda v: 0 < v <= 1), "a number above 0 and at most 1"),
    "epochs": (_is_int(1), "a whole number, 1 or more"),
    "budget": (_is_one_of("epochs", "steps"), "epochs, steps"),
    "batch_size": (_is_int(1), "a whole number, 1 or more"),
    "threshold": (_is_number(lambda v: 0 < v < 1), "a probability between 0 and 1"),
    "recipe": (_is_text, "a recipe, as production"),
    "steps": (_or_null(_is_int(1)), "a whole number of optimiser steps, or null"),
    "sampling": (_is_one_of("uniform", "balanced"), "uniform, balanced"),
    "tune": (_is_bool, "true or false"),
    "ema": (_or_null(_is_number(lambda v: 0 < v < 1)), "a number between 0 and 1, or null"),
    "checkpoint_minutes": (
        _or_null(_is_number(lambda v: 0 <= v <= 1e6)),
        "minutes, 0 or more, or null",
    ),
    "force": (_is_bool, "true or false"),
    "encoder.name": (_is_text, "an encoder name, e.g. resnet18 or tu-convnext_tiny"),
    "encoder._target_": (_or_null(_is_text), "the import path of a class, or null"),
    "arch.name": (_is_text, "a decoder, as unet"),
    "optimizer.name": (_is_one_of("adam", "adamw"), "adam, adamw"),
    "optimizer.lr": (_is_number(lambda v: v > 0), "a number above 0"),
    "optimizer.betas": (_are_betas, "two numbers in [0, 1), e.g. [0.99,0.99]"),
    "optimizer.weight_decay": (_is_number(lambda v: 0 <= v < 1), "a number in [0, 1)"),
    "optimizer.clip": (_or_null(_is_number(lambda v: v > 0)), "a number above 0, or null"),
    "optimizer.schedule": (
        _is_one_of("constant", "cosine", "one_cycle"),
        "constant, cosine, one_cycle",
    ),
    "optimizer.warmup": (_is_number(lambda v: 0 <= v < 1), "a fraction in [0, 1)"),
    "early_stopping.monitor": (_is_one_of("val_loss", "val_dice"), "val_loss, val_dice"),
    "early_stopping.patience": (_or_null(_is_int(1)), "a whole number of epochs, or null"),
    "paths.runs": (_is_path, "a folder"),
    "paths.data": (_is_path, "a folder"),
    "data.name": (_is_one_of(*NAMES), ", ".join(NAMES)),
    "data.root": (_or_null(_is_path), "a folder, or null"),
    "data.split": (_is_one_of("random", "official"), "random, official"),
    "data.split_seed": (_is_int(0), "a whole number, 0 or more, below 2^31"),
    "data.duplicates": (_is_one_of("group", "ignore"), "group, ignore"),
    "data.groups": (_or_null(is_rule), f"{RULE}, or null"),
    "data.subset": (_is_one_of("all", "defective"), "all, defective"),
    "data.size": (_or_null(_is_size), f"{_SIZE}, or null"),
    "data.fit": (_is_one_of("stretch", "pad"), "stretch, pad"),
    "data.residency": (_is_one_of("auto", "gpu", "memmap"), "auto, gpu, memmap"),
    "data.workers": (
        _or_null(_is_int(0, _MOST_AT_ONCE)),
        "a whole number, or null for automatic",
    ),
    "data.on_error": (_is_one_of("stop", "skip"), "stop, skip"),
    "data.classes": (_are_names, "a list of distinct names, e.g. [scratch,dent]"),
    "data.foreground": (_or_null(_is_int(1, 65535)), "a value from 1 to 65535, or null"),
    "data.n": (_is_int(8), "a whole number, 8 or more"),
    "data.seed": (_is_int(0), "a whole number, 0 or more, below 2^31"),
    "data.balance": (_is_one_of("even", "severstal"), "even, severstal"),
    "init.name": (
        _is_one_of("random", "imagenet", "synthetic", "checkpoint"),
        "random, imagenet, synthetic, checkpoint",
    ),
    "init.path": (_or_null(_is_path), "a file or folder, or null"),
    "init.n": (_is_int(8), "a whole number, 8 or more"),
    "init.size": (_is_size, _SIZE),
    "init.epochs": (_is_int(1), "a whole number, 1 or more"),
    "init.seed": (_is_int(0), "a whole number, 0 or more, below 2^31"),
    "loss._target_": (_is_text, "a class, e.g. tlunet.model.losses.PaperLoss"),
    "rest.name": (_is_one_of("none", "labels", "mean_teacher"), "none, labels, mean_teacher"),
    "rest.weight": (_is_number(lambda v: v > 0), "a number above 0"),
    "rest.batch_size": (_or_null(_is_int(1)), "a whole number, 1 or more, or null for batch_size"),
    "rest.positive": (
        _is_number(lambda v: 0.5 <= v < 1),
        "a probability, 0.5 or more and below 1",
    ),
    "rest.negative": (
        _is_number(lambda v: 0 < v <= 0.5),
        "a probability above 0 and at most 0.5",
    ),
    "rest.ramp": (_is_number(lambda v: 0 <= v <= 1), "a fraction of the steps from 0 to 1"),
    "augment._target_": (_is_text, "a class, e.g. tlunet.data.augment.Augment"),
    "augment.paste": (_is_number(lambda v: 0 <= v <= 1), "a probability from 0 to 1"),
    "augment.crop": (_or_null(_is_crop), "[height,width], multiples of 32, or null"),
    "trainer.accelerator": (_is_one_of("auto", "cuda", "mps", "cpu"), "auto, cuda, mps, cpu"),
    "trainer.precision": (
        _is_one_of("auto", "bf16-mixed", "32-true"),
        "auto, bf16-mixed, 32-true",
    ),
    "trainer.threads": (
        _or_null(_is_int(1, _MOST_AT_ONCE)),
        "a whole number, or null for one per core",
    ),
    "trainer.devices": (
        lambda v: v == "auto" or _is_int(1, _MOST_AT_ONCE)(v),
        "a whole number, or auto",
    ),
    "trainer.nodes": (_is_int(1, _MOST_AT_ONCE), "a whole number, 1 or more"),
    "trainer.compile": (_is_bool, "true or false"),
    "logger.name": (_is_one_of("wandb", "tensorboard", "csv"), "wandb, tensorboard, csv"),
    "logger.mode": (_is_one_of("auto", "online", "offline"), "auto, online, offline"),
    "logger.project": (
        is_project,
        f"a name of at most {LONGEST} characters without / \\ # ? % : (default: WANDB_PROJECT, "
        "else tlunet); a team is logger.entity",
    ),
    "logger.entity": (
        _or_null(is_entity),
        "the name of a W&B team or user, without spaces, or null (default: WANDB_ENTITY)",
    ),
    "logger.images": (_is_int(0, 1000), "a whole number, at most 1000; 0 for none"),
    "logger.checkpoint": (_is_bool, "true or false"),
}
#: Keys that name a file or folder.
PATHS = ("data.root", "init.path", "paths.runs", "paths.data", "hydra.run.dir", "hydra.sweep.dir")
#: Keys whose default is an environment variable.
VARIABLES = {"logger.project": "WANDB_PROJECT", "logger.entity": "WANDB_ENTITY"}
#: Keys whose value is a list.
LISTS = ("optimizer.betas", "data.classes", "data.size", "init.size", "augment.crop")
#: Keys with nested keys; they cannot take a single value.
_GROUPS = tuple(dict.fromkeys(key.partition(".")[0] for key in _RULES if "." in key))


def refusal(key: str, value: str | list[str]) -> str:
    """Return what a key expects, if it would not take a value; empty if it would, or has no rule.

    Args:
        key: of the configuration.
        value: a text, or a list of texts: those of numbers are read as numbers.
    """
    is_right, expected = _RULES.get(key.lstrip("+~"), (lambda _: True, ""))
    read: Any = OmegaConf.create([int(v) if v.isdigit() else v for v in value])
    return "" if is_right(value if isinstance(value, str) else read) else expected


def _at_home(value: Any) -> str:
    """Say where a ~ in a file would lead; ``tlunet.study.config.home`` expands those typed."""
    try:
        return f"write the folder out: {Path(value).expanduser()}"
    except RuntimeError:
        return f"no such user; a folder of this name is ./{value}"


def check(cfg: DictConfig) -> list[str]:
    """Check the values of one cell and return one line per problem.

    >>> check(OmegaConf.create({"frac": 1.5}))
    ['frac=1.5: expected a number above 0 and at most 1']
    """
    broken = [key for key in _GROUPS if key in cfg and not isinstance(cfg[key], DictConfig)]
    examples = {key.partition(".")[0]: key for key in reversed(_RULES)}
    lines = [f"{k}={shown(cfg[k])}: expected nested keys, e.g. {examples[k]}" for k in broken]
    for key, (is_right, expected) in _RULES.items():
        parent, _, last = key.rpartition(".")
        node = OmegaConf.select(cfg, parent) if parent else cfg
        if not isinstance(node, DictConfig) or last not in node:
            continue
        value = node[last]
        if is_right(value):
            if key in PATHS and str(value).startswith("~"):
                lines.append(f"{key}={shown(value)}: ~ is not expanded here; {_at_home(value)}")
            continue
        several = ",".join(map(str, value)) if isinstance(value, ListConfig) else ""
        way_out = f"; several values: -m {key}={several}" if several and key not in LISTS else ""
        typed = _variable(key, value) or key
        lines.append(f"{typed}={shown(value)}: expected {expected}{way_out}")
    lines += check_targets(cfg)
    return lines if broken else lines + _check_choices(cfg)


def _variable(key: str, value: Any) -> str | None:
    """Return the environment variable that a key's value comes from, if any."""
    name = VARIABLES.get(key, "")
    return name if name and os.environ.get(name) == value else None


def _check_choices(cfg: DictConfig) -> list[str]:
    """What a choice of a group needs besides itself, one line per problem."""
    lines: list[str] = []
    if OmegaConf.select(cfg, "logger.name") == "tensorboard":
        try:
            require_extra("tensorboard", "tensorboard", what="logger=tensorboard")
        except ConfigError as error:
            lines += error.lines
    if OmegaConf.select(cfg, "logger.name") == "wandb":
        lines += problems()
    if OmegaConf.select(cfg, "init.name") == "checkpoint" and not cfg.init.path:
        lines.append("init=checkpoint: init.path is not set; expected a run folder or a .ckpt")
    lines += _check_rest(cfg)
    if OmegaConf.select(cfg, "data.name") == "folder" and cfg.data.get("classes") == []:
        lines.append(
            "data.classes: not set; expected the names of the class ids 1, 2, … in the masks, "
            "such as data.classes=[scratch,dent]"
        )
    return lines


def _check_rest(cfg: DictConfig) -> list[str]:
    """What learning from the images that are left out needs, one line per problem."""
    name = OmegaConf.select(cfg, "rest.name", default="none")
    if name == "none":
        return []
    lines = []
    if cfg.get("frac") == 1:
        lines.append(
            f"rest={name}: nothing is left out at frac={cfg.frac}; use frac below 1, or rest=none"
        )
    if name == "labels" and OmegaConf.select(cfg, "augment.crop") is not None:
        lines.append(
            "rest=labels: the label of an image need not hold for a crop of it; use "
            "augment.crop=null, or rest=mean_teacher"
        )
    if name == "mean_teacher" and cfg.get("ema") is None:
        lines.append("rest=mean_teacher: ema is not set; expected a decay, such as ema=0.99")
    return lines
