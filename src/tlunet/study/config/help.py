"""The text of ``run.py --help``."""

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, open_dict

from tlunet.study.config.command import read_arguments
from tlunet.study.config.compose import DEFAULT, compose_cell, composing
from tlunet.study.config.keys import describe_choice, groups, read_keys

_WIDTH = 100
_OPENING = """\
TLU-Net: how much does transfer learning help joint steel-defect segmentation and classification?

Usage: python run.py [-m] [group=choice …] [key=value …]
       python run.py -cd FOLDER -cn FILE [key=value …]

Examples
  The paper's study, 2 encoders × 2 initialisations × 2 fractions of the training data:
      python run.py -m encoder=resnet,densenet init=random,imagenet frac=1.0,0.5
  One cell:
      python run.py encoder=densenet init=imagenet frac=0.5 seed=1
  Any other encoder of segmentation-models-pytorch or timm:
      python run.py encoder.name=resnet34
      python run.py encoder.name=tu-convnext_tiny
  Your own images/ and masks/:
      python run.py data=folder data.root=my_steel 'data.classes=[scratch,dent]'
  A name with special characters, in quotes for the shell and for Hydra:
      python run.py data=severstal "data.root='steel (1)'"
  A study from its file:
      python run.py -cd experiments/neu_seg -cn sweep
  A network to use, rather than the paper's protocol:
      python run.py recipe=production data=folder data.root=my_steel 'data.classes=[scratch,dent]'
  Search for the settings with the lowest validation loss (Optuna):
      python run.py -m hydra/sweeper=optuna
  Run the cells of a sweep on several GPUs or a cluster (docs/clusters.md):
      python run.py -m seed=0,1,2 hydra/launcher=multi_gpu
"""
_CLOSING = """\
-m sweeps over every key with several values, separated by commas. Run the same command to resume
interrupted cells; finished cells are skipped.

Exit codes: 0 all finished; 1 a cell failed; 2 the command, configuration or data is wrong."""


def help_text(argv: Sequence[str], conf: Path) -> str | None:
    """Return the ``--help`` text; values are those of the command line.

    Args:
        argv: command-line arguments, without the program name.
        conf: configuration folder.

    Returns:
        The text, or ``None`` if help is not requested.

    Raises:
        ConfigError: another override of the command is wrong.
    """
    args = read_arguments(argv, conf)
    if not args.help:
        return None
    with composing(conf, args.config_dir):
        name = args.config_name or DEFAULT
        base = compose_cell(name, []) if args.overrides else None  # to explain a wrong override
        cfg = compose_cell(name, args.overrides, base, with_hydra=True)
        chosen = dict(cfg.hydra.runtime.choices)
    with open_dict(cfg):
        del cfg["hydra"]
    parts = [
        _OPENING,
        "Groups, group=choice (* chosen)",
        *(line for group, files in groups(conf).items() for line in _group(group, files, chosen)),
        "\nKeys, key=value",
        *_keys(cfg, _comments(conf, chosen)),
        f"\n{_CLOSING}",
    ]
    return "\n".join(parts)


def _group(group: str, files: Sequence[Path], chosen: dict[str, Any]) -> Iterator[str]:
    """One row per choice."""
    for k, file in enumerate(files):
        mark = "*" if chosen.get(group) == file.stem else " "
        yield from _row(
            group if k == 0 else "", 15, f"{mark} {file.stem}", 20, describe_choice(file)
        )


def _keys(cfg: DictConfig, comments: dict[str, str], where: str = "") -> Iterator[str]:
    """One row per key, with the value of the command line; a section's own comment as its title."""
    for name in map(str, cfg):
        key, value = f"{where}{name}", cfg[name]
        if isinstance(value, DictConfig):
            if not (comment := comments.get(key, "")).startswith("shared by all") and comment:
                yield from _row(f"{key}.", 25, "", 15, comment)
            yield from _keys(value, comments, f"{key}.")
        else:
            yield from _row(key, 25, _shown(value), 15, comments.get(key, ""))


def _comments(conf: Path, chosen: dict[str, Any]) -> dict[str, str]:
    """The comment of each key, from config.yaml and the files of the chosen groups."""
    texts = {}
    for group, choice in chosen.items():
        if group and choice and (file := conf / group / f"{choice}.yaml").is_file():
            texts[f"{group}."] = file.read_text(encoding="utf-8")
    texts[""] = (conf / f"{DEFAULT}.yaml").read_text(encoding="utf-8")  # the last one wins
    return {
        f"{start}{key.name}": key.comment
        for start, text in texts.items()
        for key in read_keys(text)
        if key.comment
    }


def _row(first: str, first_width: int, second: str, second_width: int, meaning: str) -> list[str]:
    """Format two columns and a wrapped explanation."""
    start = f"  {first:<{first_width}} {second:<{second_width}} "
    indent = " " * (first_width + second_width + 4)
    if not meaning:
        return [start.rstrip()]
    if len(second) > second_width:  # the explanation starts on the next line
        return [start.rstrip(), *_row("", first_width, "", second_width, meaning)]
    lines = textwrap.wrap(
        f"{start}{meaning}", _WIDTH, subsequent_indent=indent,
        replace_whitespace=False, drop_whitespace=True, break_on_hyphens=False,
    )  # fmt: skip
    return [line.rstrip() for line in lines]


def _shown(value: Any) -> str:
    """Format a value as it is typed."""
    if isinstance(value, ListConfig):
        inner = ",".join("{…}" if isinstance(item, DictConfig) else _shown(item) for item in value)
        return f"[{inner}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
