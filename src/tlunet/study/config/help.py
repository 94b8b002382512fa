"""The text of ``run.py --help``."""

from collections.abc import Sequence
from pathlib import Path
from string import Template

from omegaconf import OmegaConf, open_dict

from tlunet.study.config.command import read_arguments
from tlunet.study.config.compose import DEFAULT, compose_cell, composing


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
    args = read_arguments(argv, conf)
    if not args.help:
        return None
    with composing(conf, args.config_dir):
        name = args.config_name or DEFAULT
        base = compose_cell(name, []) if args.overrides else None  # to explain a wrong override
        cfg = compose_cell(name, args.overrides, base, with_hydra=True)
        template = Template(cfg.hydra.help.template)
    with open_dict(cfg):
        del cfg["hydra"]
    groups = (
        f"{group.name}: {', '.join(sorted(p.stem for p in group.glob('*.yaml')))}"
        for group in sorted(conf.iterdir())
        if any(group.glob("*.yaml"))
    )
    return template.substitute(APP_CONFIG_GROUPS="\n".join(groups), CONFIG=OmegaConf.to_yaml(cfg))
