"""A run's settings, written as on the command line."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

PAPER = "paper"  # the recipe of runs from before there were recipes
#: Display name of each setting, and its key in a run's configuration.
SPOKEN = {
    "recipe": "recipe",
    "arch": "arch.name", "loss": "loss._target_", "augment": "augment._target_",
    "split": "data.split", "split_seed": "data.split_seed", "subset": "data.subset",
    "size": "data.size", "fit": "data.fit", "duplicates": "data.duplicates",
    "groups": "data.groups",
    "n": "data.n", "data seed": "data.seed", "balance": "data.balance", "epochs": "epochs",
    "budget": "budget", "batch_size": "batch_size", "threshold": "threshold", "lr": "optimizer.lr",
    "betas": "optimizer.betas", "patience": "early_stopping.patience",
    "monitor": "early_stopping.monitor",
    "optimizer": "optimizer.name", "weight_decay": "optimizer.weight_decay",
    "clip": "optimizer.clip", "schedule": "optimizer.schedule", "warmup": "optimizer.warmup",
    "ema": "ema", "sampling": "sampling", "steps": "steps", "crop": "augment.crop",
    "transform": "augment.transform",
}  # fmt: skip
#: Defaults for runs from before the key existed.
BEFORE = {
    "arch": "unet", "budget": "epochs", "fit": "stretch", "duplicates": "group",
    "recipe": PAPER, "monitor": "val_loss", "optimizer": "adam", "weight_decay": 0.0,
    "schedule": "constant", "warmup": 0.0, "sampling": "uniform",
}  # fmt: skip

#: The paper's protocol, as far as settings are compared.
OF_THE_PAPER = {key: str(value) for key, value in BEFORE.items()} | {
    "loss": "PaperLoss", "augment": "Augment", "transform": "null", "crop": "null",
    "rest": "none", "epochs": "10", "patience": "5", "lr": "0.0005", "betas": "[0.99, 0.99]",
    "clip": "null", "ema": "null", "steps": "null", "threshold": "0.5",
}  # fmt: skip

#: Defaults of ``rest``; values other than these are shown with its name.
REST = {"weight": 1.0, "batch_size": None, "positive": 0.8, "negative": 0.1, "ramp": 0.3}


def read_settings(config: DictConfig | ListConfig) -> dict[str, str]:
    """Read a run's settings other than encoder, initialisation, fraction and seed.

    Args:
        config: its ``config.yaml``.
    """
    return {
        name: spoken(OmegaConf.select(config, at, default=BEFORE.get(name)))
        for name, at in SPOKEN.items()
    } | {"rest": _spoken_rest(config)}


def _spoken_rest(config: DictConfig | ListConfig) -> str:
    """Name what is learnt from the images that ``frac`` leaves out, and values not at default."""
    name = OmegaConf.select(config, "rest.name", default="none")
    values = {key: OmegaConf.select(config, f"rest.{key}", default=REST[key]) for key in REST}
    changed = [f"{key}={value}" for key, value in values.items() if value != REST[key]]
    return str(name) if name == "none" else ", ".join([str(name), *changed])


def spoken(value: Any) -> str:
    """Format a configuration value; a class is shown by its name only, a pipeline by its parts'.

    >>> spoken("tlunet.model.losses.PaperLoss"), spoken(None), spoken(0.5)
    ('PaperLoss', 'null', '0.5')
    >>> spoken(OmegaConf.create({"transforms": [{"_target_": "albumentations.Affine"}]}))
    'Affine'
    """
    if isinstance(value, DictConfig) and "transforms" in value:
        return "+".join(str(part.get("_target_")).rpartition(".")[2] for part in value.transforms)
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value)
    text = value if isinstance(value, str) else json.dumps(value)
    return text.rpartition(".")[2] if text.startswith("tlunet.") else text


def departures(settings: dict[str, str]) -> int:
    """Count the settings that differ from the paper's protocol.

    >>> departures({"loss": "PaperLoss", "ema": "0.99", "n": "256"})
    1
    """
    return sum(settings.get(key, value) != value for key, value in OF_THE_PAPER.items())


def what_differs(settings: Sequence[dict[str, str]]) -> list[list[str]]:
    """For each run, the settings that differ between runs, such as ``loss=BalancedLoss``.

    If recipes differ, each run is named by its recipe and by what differs within that; of a recipe
    other than the paper's, only by what most of its settings do not share.

    >>> what_differs([{"recipe": PAPER, "lr": "1"}, {"recipe": "production", "lr": "2"}])
    [['recipe=paper'], ['recipe=production']]
    >>> what_differs([{"recipe": "production", "lr": lr, "ema": "0.9"} for lr in ("1", "2")])
    [['lr=1'], ['lr=2']]
    """
    differing = [k for k in settings[0] if len({s[k] for s in settings}) > 1] if settings else []
    if not differing or {s.get("recipe", PAPER) for s in settings} == {PAPER}:
        return [[f"{k}={s[k]}" for k in differing] for s in settings]
    usual = {s["recipe"]: _usual(s["recipe"], settings) for s in settings}
    own = [
        [f"{k}={v}" for k, v in s.items() if k != "recipe" and usual[s["recipe"]].get(k, v) != v]
        for s in settings
    ]
    return [
        words if words and len(usual) == 1 else [f"recipe={s['recipe']}", *words]
        for s, words in zip(settings, own, strict=True)
    ]


def _usual(recipe: str, settings: Sequence[dict[str, str]]) -> dict[str, str]:
    """Values that need not be named in runs of a recipe; an empty text is no run's value."""
    distinct = {tuple(s.items()): s for s in settings if s["recipe"] == recipe}.values()
    usual = {}
    for key in next(iter(distinct)):
        counts = Counter(s[key] for s in distinct)
        [(value, count)] = counts.most_common(1)
        is_shared = len(counts) == 1 or (recipe != PAPER and 2 * count > len(distinct))
        usual[key] = value if is_shared else ""
    return usual
