"""What W&B would refuse is refused before training; what has one meaning is understood."""

import os
from pathlib import Path

import pytest

from tlunet.errors import ConfigError
from tlunet.study.config.command import read_command
from tlunet.tracking.wandb.environment import tidy, without_settings

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("line", "environment", "problem"),
    [
        ("logger.project=team/steel", {}, "logger.project=team/steel: expected a name of at most "),
        ("logger.project='a#b'", {}, "a team is logger.entity"),
        (f"logger.project={'x' * 129}", {}, "expected a name of at most 128 characters"),
        ("logger.entity=a/b", {}, "logger.entity=a/b: expected the name of a W&B team or user"),
        ("seed=1", {"WANDB_PROJECT": "team/steel"}, "WANDB_PROJECT=team/steel: expected a name"),
        ("seed=1", {"WANDB_ENTITY": "a/b"}, "WANDB_ENTITY=a/b: expected the name of a W&B team"),
        ("seed=1", {"WANDB_ENTITY": "a b"}, "WANDB_ENTITY=a b: expected the name of a W&B team"),
        ("logger.entity='a b'", {"WANDB_ENTITY": "ab"}, "logger.entity=a b: expected the name"),
        ("seed=1", {"WANDB_API_KEY": "1" * 20 + " 2"}, "WANDB_API_KEY: contains white space"),
        ("seed=1", {"WANDB_RESUME": "yes"}, "WANDB_RESUME=yes: expected 'allow', 'must', 'never'"),
        ("seed=1", {"WANDB_INIT_TIMEOUT": "long"}, "TIMEOUT=long: expected a valid number"),
        ("seed=1", {"WANDB_INIT_TIMEOUT": "-1"}, "WANDB_INIT_TIMEOUT=-1: expected seconds, above"),
        ("seed=1", {"WANDB_FINISH_TIMEOUT": "nan"}, "FINISH_TIMEOUT=nan: expected seconds, above"),
        ("seed=1", {"WANDB_CONSOLE": "x"}, "WANDB_CONSOLE=x: expected 'auto', 'off'"),
        ("seed=1", {"WANDB_MODE": "off"}, "WANDB_MODE=off: expected online, offline or disabled"),
        ("seed=1", {"WANDB_BASE_URL": "wandb:8080"}, "WANDB_BASE_URL=wandb:8080: expected a URL"),
        ("seed=1", {"WANDB_BASE_URL": "http://[x"}, "WANDB_BASE_URL=http://[x: expected a URL"),
    ],
)
def test_what_it_would_refuse_is_refused(
    line: str, environment: dict[str, str], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        read_command([line], CONF)
    [found] = caught.value.lines
    assert problem in found


@pytest.mark.parametrize(
    ("line", "environment", "expected"),
    [
        ([], {}, ("tlunet", None)),
        ([], {"WANDB_PROJECT": "steel", "WANDB_ENTITY": " team\n"}, ("steel", "team")),
        ([], {"WANDB_PROJECT": "", "WANDB_ENTITY": "", "WANDB_MODE": ""}, ("tlunet", None)),
        (
            ["logger.project=mine", "logger.entity=me"],
            {"WANDB_PROJECT": "steel", "WANDB_ENTITY": "team", "WANDB_MODE": "Offline"},
            ("mine", "me"),
        ),
    ],
)
def test_its_variables_are_heeded_and_keys_win(
    line: list[str], environment: dict[str, str], expected: tuple[str, str | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    tidy()
    cells = read_command(line, CONF)
    assert cells is not None
    assert (cells[0].logger.project, cells[0].logger.entity) == expected


def test_its_variables_do_not_matter_to_another_logger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "off")
    assert read_command(["logger=csv"], CONF)


def test_variables_are_hidden_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "never")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with without_settings():
        assert "WANDB_MODE" not in os.environ
        assert os.environ["WANDB_SILENT"] == "true"
    assert os.environ["WANDB_MODE"] == "never"
