"""Command lines by the hundred: what the files alone say is composed once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import DictConfig

from tlunet.study import config


@pytest.fixture(scope="module", autouse=True)
def composed_once() -> Iterator[None]:
    known: dict[tuple[str, bool], DictConfig] = {}
    compose = config._compose

    def quick(
        name: str, overrides: list[str], conf: Path, base: object = None, with_hydra: bool = False
    ) -> DictConfig:
        if overrides or name != "config":
            return compose(name, overrides, conf, base, with_hydra)
        if (name, with_hydra) not in known:
            known[name, with_hydra] = compose(name, overrides, conf, base, with_hydra)
        return known[name, with_hydra].copy()

    config._compose = quick
    yield
    config._compose = compose
