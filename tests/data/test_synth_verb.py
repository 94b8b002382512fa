"""`tlunet data synth`: strips that every reader recognises as synthetic."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tlunet import cli
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import Strips, find_dataset, read_source
from tlunet.data.synthetic.generate import NOTE, plan_classes
from tlunet.errors import DataError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def synth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tlunet", "data", "synth", *args])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return run


def test_what_was_written_is_said_and_read(synth: Run) -> None:
    code, out, err = synth("strips", "--n", "24", "--size", "32x64", "--seed", "3")
    assert (code, err) == (0, "")
    plan = plan_classes(24, seed=3)
    counts = [sum(m in classes for classes in plan) for m in (1, 2, 3, 4)]
    assert out.splitlines()[1:] == [
        "strips: 24 synthetic strips of 32x64 (not steel)",
        f"images per class: pits {counts[0]}, fine lines {counts[1]}, scratches {counts[2]}, "
        f"patches {counts[3]}; defect-free {plan.count(())}",
        "train on it: python run.py data=severstal data.root=strips",
    ]
    source = read_source(Path("strips"), "auto")
    assert (source.name, source.classes[0]) == ("synthetic", "pits")
    shown = [{class_id for class_id, *_ in record.runs} for record in source.records]
    assert [sum(m in classes for classes in shown) for m in (1, 2, 3, 4)] == counts


def test_as_the_severstal_data_they_are_still_called_synthetic(synth: Run) -> None:
    synth("strips", "--n", "24", "--size", "32x64")
    for name in ("severstal", "synthetic"):
        data = DefectDataModule(find_dataset(name, "strips"), "cache")
        data.prepare_data()
        assert (data.dataset.name, data.pack.name, len(data.pack)) == ("synthetic", "synthetic", 24)


@pytest.mark.parametrize("has_note", [True, False])
def test_strips_drawn_by_the_data_set_itself_are_named_as_well(
    has_note: bool, tmp_path: Path
) -> None:
    """Folders from before the note existed are known by their name."""
    drawn = Strips(tmp_path, n=8, family="sheets").read((32, 64))
    assert drawn.root.parent == tmp_path
    if not has_note:
        (drawn.root / NOTE).unlink()
    found = read_source(drawn.root, "auto")
    assert (found.name, found.classes) == ("synthetic", drawn.classes)


def test_a_note_that_names_nothing_known_is_a_fault(synth: Run) -> None:
    synth("strips", "--n", "8", "--size", "32x64")
    Path("strips", NOTE).write_text("clouds")
    with pytest.raises(DataError, match="'clouds'; expected strips or sheets"):
        read_source(Path("strips"), "auto")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["."], ".: already exists; remove it or choose another folder"),
        (["out", "--balance", "odd"], "tlunet data synth: balance='odd': expected one of even"),
        (["out", "--size", "10x10"], "tlunet data synth: size=(10, 10): expected (height, width)"),
        (["out", "--size", "64"], "--size 64: expected height x width"),
        (["file/out"], "file/out: cannot be written"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_leaves_nothing(args: list[str], said: str, synth: Run) -> None:
    Path("file").write_text("in the way")
    code, _, err = synth(*args)
    assert code == 2
    assert err.startswith(said)
    assert err.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["file"]
