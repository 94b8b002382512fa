"""What ``from tlunet import …`` gives, and that it costs nothing until it is asked for."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import tlunet


@pytest.mark.parametrize("name", tlunet.__all__)
def test_a_name_is_what_its_module_has(name: str) -> None:
    assert getattr(tlunet, name) is getattr(import_module(tlunet._HOME_OF[name]), name)
    assert name in dir(tlunet)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(tlunet.__file__).read_text(encoding="utf-8"))
    found = [
        node for branch in ast.walk(tree) if isinstance(branch, ast.If) for node in branch.body
    ]
    seen = {n.name: node.module for node in found for n in getattr(node, "names", [])}
    assert {k: v for k, v in seen.items() if v and v.startswith("tlunet.")} == tlunet._HOME_OF
    assert sorted(seen) == sorted(tlunet.__all__)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Dice'"):
        getattr(tlunet, "Dice")  # noqa: B009  (a type checker would refuse tlunet.Dice)


def test_importing_it_imports_nothing() -> None:
    program = "import tlunet, sys; print([m for m in sys.modules if m.startswith('tlunet')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "['tlunet']", done.stderr
