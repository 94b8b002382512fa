"""Generate the notebook page from its text and code, without running it."""

import json
from pathlib import Path

_PATH = "docs/notebook.ipynb"


def page(root: Path) -> str:
    """Return the page in Markdown.

    Args:
        root: root folder of the repository.
    """
    cells = json.loads((root / _PATH).read_text(encoding="utf-8"))["cells"]
    parts = [_text(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    title, *rest = parts
    where = f"This page shows [`{_PATH}`](notebook.ipynb); a test runs it."
    return "\n\n".join([title, where, *rest]) + "\n"


def _text(kind: str, source: str) -> str:
    return f"```python\n{source}\n```" if kind == "code" else source
