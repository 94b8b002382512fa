"""What ``from tlunet import …`` offers, and that it costs nothing before it is used."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import tlunet

STUB = ast.parse(Path(tlunet.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
HOMES = {n.name: f"tlunet.{node.module}" for node in STUB.body for n in getattr(node, "names", [])}


@pytest.mark.parametrize("name", tlunet.__all__)
def test_a_name_is_that_of_its_module(name: str) -> None:
    assert getattr(tlunet, name) is getattr(import_module(HOMES[name]), name)
    assert name in dir(tlunet)


def test_every_listed_name_is_public() -> None:
    [listed] = [node.value for node in STUB.body if isinstance(node, ast.Assign)]
    assert sorted(ast.literal_eval(listed)) == sorted(HOMES) == sorted(tlunet.__all__)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Dice"):
        getattr(tlunet, "Dice")  # noqa: B009  (a type checker would refuse tlunet.Dice)


def test_importing_it_imports_nothing() -> None:
    program = "import tlunet, sys; print([m for m in sys.modules if m.startswith('tlunet')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "['tlunet']", done.stderr
