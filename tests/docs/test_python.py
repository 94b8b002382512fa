"""The code in docs/python.md and docs/metrics.md runs."""

import doctest
from collections.abc import Callable
from pathlib import Path

import pytest

from studies import write_grid

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.usefixtures("one_core")
def test_every_part_serves_alone(
    fenced: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    write_grid(tmp_path / "runs/severstal", 24, encoders=("resnet",), fracs=(1.0,), seeds=(0, 1))
    blocks = [block for block in fenced("python.md") if block.language == "python"]
    assert len(blocks) > 9
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(block.compiled("docs/python.md"), namespace)
    printed = capsys.readouterr().out
    assert "torch.Size([8, 4, 32, 64]) torch.Size([8, 4])" in printed
    assert "✓ mobilenet_v2 · random · 100% · seed 0" in printed
    assert "imagenet − random" in printed
    assert printed.rstrip().endswith("(4, 32, 64)")
    assert (tmp_path / "figure_4.png").stat().st_size > 5000


def test_worked_examples() -> None:
    found = doctest.testfile(str(ROOT / "docs/metrics.md"), module_relative=False, encoding="utf-8")
    assert found.failed == 0
    assert found.attempted > 15
