"""The notebook runs from start to end, and is committed without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs/notebook.ipynb"


def test_it_has_no_outputs() -> None:
    notebook = nbformat.read(FILE, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.slow
@pytest.mark.usefixtures("one_core")
def test_it_runs_from_images_to_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run it in a separate kernel, the only possibility."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # the notebook creates its folder here
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    notebook = nbformat.read(FILE, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == 2  # strips, Figure 4
    texts = "".join(o.get("text") or o.get("data", {}).get("text/plain", "") for o in outputs)
    assert texts.count("✓") == 4
    assert "synthetic weights" in texts
    assert list(tmp_path.glob("tlunet-*/runs/walk/report.html"))
