"""The page of every module, from the first line of its docstring."""

import ast
from pathlib import Path

_ROOMS = ("data", "model", "study", "report", "deploy", "bench", "cli")
_INTRODUCTION = "# Every module\n\nOne noun a file; the line is the first of its docstring.\n"


def page(root: Path) -> str:
    """The page in Markdown.

    Args:
        root: of the repository.
    """
    return "\n".join([_INTRODUCTION, *(_room(root / "src/tlunet" / room) for room in _ROOMS)])


def _room(folder: Path) -> str:
    rows = [f"| `{p.stem}` | {_says(p)} |" for p in sorted(folder.glob("[!_]*.py"))]
    about = _says(folder / "__init__.py")
    head = ["| module | what it holds |", "| --- | --- |"]
    return "\n".join([f"## {folder.name}\n\n{about}\n", *head, *rows, ""])


def _says(file: Path) -> str:
    """The first line of a module's docstring."""
    said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    return (said or "").partition("\n")[0].replace("|", "\\|")
