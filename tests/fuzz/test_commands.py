"""Any command line gives either cells or lines that describe its problems."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz.mutations import fuzz
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, ListConfig, OmegaConf

from tlunet.errors import ConfigError
from tlunet.study.config.command import read_command
from tlunet.study.config.values import check

CONF = Path(__file__).parents[2] / "conf"
LINES = [
    line
    for line in (Path(__file__).parent / "corpus/lines.txt").read_text().splitlines()
    if not line.startswith("#")
]


def read(line: list[str]) -> list[DictConfig] | None:
    """Return valid cells, or raise a ConfigError with printable lines."""
    try:
        cells = read_command(line, CONF)
    except ConfigError as error:
        assert_short_lines(error)
        raise
    assert cells is None or all(check(cell) == [] for cell in cells)
    return cells


def assert_short_lines(error: ConfigError) -> None:
    assert error.lines
    assert all(said.isprintable() and len(said) < 1000 for said in error.lines)


@pytest.mark.parametrize("line", LINES)
def test_the_corpus(line: str) -> None:
    with pytest.raises(ConfigError):
        read(shlex.split(line))


@pytest.mark.parametrize("line", ["--experimental-rerun {}", "-cp {}", "--config-path={}"])
def test_what_would_go_round_the_checks(tmp_path: Path, line: str) -> None:
    """Hydra would unpickle the first; the others would use a folder that is not checked."""
    with pytest.raises(ConfigError, match="not used here"):
        read(line.format(tmp_path).split())


def keys(node: DictConfig, where: str = "") -> Iterator[str]:
    for key in map(str, node):
        yield f"{where}{key}"
        if isinstance(node[key], DictConfig):
            yield from keys(node[key], f"{where}{key}.")


BASE = read_command([], CONF)[0]  # type: ignore[index]
KEYS = list(keys(BASE))
#: Values that no key accepts, and values that only some keys accept.
WRONG = [{"a": 1}, [[1]], [None], [{"a": 1}], "a\0b", "\x1b[2J", -(10**400), -1.5, "x" * 5000]
ODD = [None, True, 0, 1, 10**400, 0.5, float("nan"), float("inf"), "", " ", "..", "é", [], [1, 2]]
GROUPS = {key for key in KEYS if isinstance(OmegaConf.select(BASE, key), DictConfig)}


@pytest.mark.parametrize("key", KEYS)
def test_a_value_of_another_type(key: str) -> None:
    for value in [*WRONG, *ODD]:
        cell = OmegaConf.create()
        OmegaConf.update(cell, key, value, merge=False, force_add=True)
        faults = check(cell)
        for fault in faults:
            assert len(fault) < 300
        if value in WRONG and not (key in GROUPS and isinstance(value, dict)):
            asked_by_its_class = key.startswith(("augment.", "loss.")) and "_target_" not in key
            assert faults or asked_by_its_class, f"{key}={str(value)[:50]}"


def test_every_key_that_is_no_argument_of_a_class_has_a_rule() -> None:
    from tlunet.study.config.values import _RULES

    free = {key for key in KEYS if key.startswith(("augment.", "loss."))}
    assert set(KEYS) - free - GROUPS <= set(_RULES)


VALUE = st.one_of(
    st.text("abc019.,=[]{}()$'\"\\:~+-_ \n\t\0é", max_size=12),
    st.integers().map(str),
    st.sampled_from(
        ["null", "true", "1e999", "[1,", "{a: 1}", "${seed}", "${hydra:job.name}", "???"]
    ),
)


@settings(fuzz, max_examples=25)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["", "", "+", "++", "~"]), st.sampled_from(KEYS), VALUE).map(
                lambda parts: f"{parts[0]}{parts[1]}={parts[2]}"
            ),
            VALUE,
        ),
        min_size=1,
        max_size=2,
    ),
    st.booleans(),
)
def test_any_overrides(overrides: list[str], sweep: bool) -> None:
    line = ["-m"] * sweep + [text for text in overrides if not text.startswith("-")]
    try:
        read(line)
    except ConfigError:
        return


def test_lists_survive_the_rules() -> None:
    assert isinstance(BASE.data.classes, ListConfig)
    assert check(BASE) == []
