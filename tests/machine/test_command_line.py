"""The commands that the program prints can be typed as they are."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from tlunet.errors import visible
from tlunet.machine.command_line import override, run_command, tlunet_command
from tlunet.study.config.command import read_command

CONF = Path(__file__).parents[2] / "conf"
NAMES = [
    "steel (1)", "a,b", "a=b", "a[0]", "a#b", "it's", 'say "x"', "$HOME", "{x}", "back\\slash",
    "ends\\", "钢板", "~", "~x", "~/x", "-x", "true", "null", "1", "1e5", ".5", "nan", "a:b",
    "a b ", "${seed}", "\\${seed}", "a\\'b", "x!y", "`id`", "*", "?", "a;b", "a&b", "é", "%s",
    "'\"$`\\", "a|b", "<b>", "a@b", "+a", "Üßér'\"s", "\\\\", "'", "''", "\\'\\\"", "inf", "a=",
]  # fmt: skip


def typed(commands: Sequence[str]) -> list[list[str]]:
    """Let bash split commands: the arguments of each, without the program."""
    for command in commands:
        assert command.startswith(("python run.py ", "tlunet "))
    lines = [command.removeprefix("python run.py ") for command in commands]
    script = "".join(f"printf '%s\\0' {line}; printf '\\1\\0';" for line in lines)
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    return [
        part.split("\0")[:-1]
        for part in done.stdout.decode().replace("\0\1\0", "\0\1").split("\1")[:-1]
    ]


def read_by_hydra(word: str) -> Any:
    """Parse an override, and set it as Hydra does."""
    [parsed] = OverridesParser.create().parse_overrides([word])
    cfg = OmegaConf.create()
    OmegaConf.update(cfg, str(parsed.key_or_group), parsed.value())
    return OmegaConf.select(cfg, str(parsed.key_or_group))


def test_names_are_typed_through_bash_and_hydra() -> None:
    commands = [run_command(("data.root", Path(name)), ("data.classes", [name])) for name in NAMES]
    for name, (root, classes) in zip(NAMES, typed(commands), strict=True):
        assert Path(read_by_hydra(root)) == Path(name)
        assert list(read_by_hydra(classes)) == [name]


def test_they_reach_the_configuration() -> None:
    [words] = typed([run_command(("data.root", Path("~x (1)/钢 ${a}")), ("data.classes", NAMES))])
    cells = read_command(words, CONF)
    assert cells is not None
    assert Path(cells[0].data.root) == Path("~x (1)/钢 ${a}")
    assert list(cells[0].data.classes) == NAMES


@settings(max_examples=60)
@given(
    st.lists(
        st.text(
            st.one_of(
                st.sampled_from(" ,=[]{}()#'\"$\\~`!:;&|<>*?%@+-._/0123456789aeinfult钢é"),
                st.characters(exclude_categories=["C", "Z"]),
            ),
            min_size=1,
            max_size=12,
        ).filter(lambda name: name.strip() and visible(name) == name),
        min_size=1,
        max_size=40,
    )
)
@example(["\\", "${", "\\${\\", "}$"])
def test_any_path_is_read_as_it_was_printed(names: list[str]) -> None:
    commands = [f"python run.py {override('data.root', Path(name))}" for name in names]
    for name, [word] in zip(names, typed(commands), strict=True):
        assert Path(read_by_hydra(word)) == Path(name)


@pytest.mark.parametrize("name", ["a b", "it's", "~x", "-x", "$HOME", "钢板"])
def test_a_tlunet_command_is_split_by_bash(name: str) -> None:
    [[program, verb, path]] = typed([tlunet_command("report", Path(name))])
    assert (program, verb) == ("tlunet", "report")
    assert Path(path) == Path(name)
    assert not path.startswith(("~", "-"))
