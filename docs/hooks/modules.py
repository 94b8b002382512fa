"""Generate the module reference from the first line of each docstring."""

import ast
from pathlib import Path

_INTRODUCTION = "# Module reference\n\nEach entry is the first line of the module's docstring.\n"


def page(root: Path) -> str:
    """Return the page in Markdown.

    Args:
        root: root folder of the repository.
    """
    source = root / "src/tlunet"
    packages = sorted(file.parent for file in source.rglob("__init__.py"))
    return "\n".join([_INTRODUCTION, *(_package(folder, source) for folder in packages)])


def _package(folder: Path, source: Path) -> str:
    name = ".".join(("tlunet", *folder.relative_to(source).parts))
    rows = [f"| `{p.stem}` | {_first_line(p)} |" for p in sorted(folder.glob("[!_]*.py"))]
    head = ["| module | description |", "| --- | --- |"] if rows else []
    about = _first_line(folder / "__init__.py")
    return "\n".join([f"## `{name}`\n\n{about}\n", *head, *rows, ""])


def _first_line(file: Path) -> str:
    """Return the first line of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    return (docstring or "").partition("\n")[0].replace("|", "\\|")
