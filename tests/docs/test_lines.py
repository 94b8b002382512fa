"""Every command in the documentation is valid; nothing is run."""

import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import hydra
import pytest
import typer

from tlunet.cli import app
from tlunet.study.config.values import check

ROOT = Path(__file__).parents[2]
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if page.name != "bad_input.md"
]
LINE = re.compile(
    r"^(?:    |\$ |\.venv/bin/|)+(python run\.py|tlunet) ((?:[^\n]*\\\n)*[^\n]*)", re.M
)

#: A comma between values: outside quotes and brackets.
COMMA = re.compile(r""",(?=(?:[^"']|"[^"]*"|'[^']*')*$)(?![^\[(]*[\])])""")


def typed(program: str) -> list[str]:
    """Return the arguments of every such command, except those with a placeholder (…)."""
    found = [match for page in PAGES for match in LINE.finditer(page.read_text("utf-8"))]
    lines = [match[2].replace("\\\n", " ") for match in found if match[1] == program]
    return list(dict.fromkeys(line for line in lines if "…" not in line))


@pytest.fixture(scope="module")
def compose(fenced: Callable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable]:
    """Hydra's compose, over the configuration plus the files that docs/extend.md adds."""
    root = tmp_path_factory.mktemp("conf")
    shutil.copytree(ROOT / "conf", root / "conf")
    for block in fenced("extend.md"):
        if block.language == "yaml":
            file = root / block.title
            file.parent.mkdir(exist_ok=True)
            file.write_text(block.code)
    with hydra.initialize_config_dir(str(root / "conf"), version_base="1.3"):
        yield hydra.compose


@pytest.mark.parametrize("line", [line for line in typed("python run.py") if "-cd" not in line])
def test_run_py_takes_it(line: str, compose: Callable) -> None:
    """Check each value of each key once; tests/study covers study files (-cd) and launchers."""
    line = line.partition(" && ")[0]
    line = line.replace("data=beside", "data=folder data.classes=[a]")  # its reader does not exist
    words = [word for word in shlex.split(line, comments=True) if word != "-m"]
    for group, choice in (word.split("=") for word in words if word.startswith("hydra/")):
        assert (ROOT / "conf" / group / f"{choice}.yaml").exists()
    overrides = [word for word in words if not word.startswith(("hydra", "+hydra"))]
    swept = [COMMA.split(override) for override in overrides]
    for i in range(max(map(len, swept), default=0)):
        keys = [values[0].partition("=")[0] for values in swept]
        chosen = [values[i % len(values)].rpartition("=")[2] for values in swept]
        cell = compose("config", [f"{k}={v}" for k, v in zip(keys, chosen, strict=True)])
        assert check(cell) == []


@pytest.mark.parametrize("line", typed("tlunet"))
def test_tlunet_takes_it(line: str) -> None:
    command = typer.main.get_command(app)
    arguments = shlex.split(re.split(r" [|>] ", line)[0], comments=True)
    while verbs := getattr(command, "commands", None):
        command = verbs[arguments.pop(0)]
    command.make_context("tlunet", arguments)


def test_lines_are_found() -> None:
    assert len(typed("python run.py")) > 20
    assert len(typed("tlunet")) > 5
