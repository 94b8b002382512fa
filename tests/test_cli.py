"""Test the ``tlunet`` command line."""

import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from studies import make_truth, write_run
from tlunet import cli

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tlunet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: exit code, stdout, stderr."""

    def run(*args: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tlunet", *map(str, args)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two cells; their report is written without figures, except one that must not be copied."""

    def figures(*_: object) -> list[object]:
        (tmp_path / "study" / "figures").mkdir(exist_ok=True)
        return []

    monkeypatch.setattr("tlunet.report.sections.figures", figures)
    monkeypatch.setattr("tlunet.report.sections.pictures", lambda *_: [])
    for init in ("random", "imagenet"):
        write_run(tmp_path / "study", make_truth(60), init=init, dataset="severstal")
    return tmp_path / "study"


def test_the_version(tlunet: Run) -> None:
    code, out, _ = tlunet("--version")
    assert code == 0
    assert out.startswith(f"tlunet {version('tlunet')}")


def test_a_report_is_written_and_named(study: Path, tlunet: Run) -> None:
    code, out, err = tlunet("report", study)
    assert (code, err) == (0, "")
    assert out == f"report: {study / 'report.html'}\n"
    assert (study / "report.md").exists()
    assert not (study / "claims.csv").exists()


def test_claims_are_judged(study: Path, tlunet: Run, tmp_path: Path) -> None:
    claims = tmp_path / "mine.yaml"
    claims.write_text(
        "claims: [{id: c, says: s, kind: difference, metric: mla, b: {init: random},"
        " a: {encoder: resnet, init: imagenet, frac: 1.0}}]"
    )
    assert tlunet("report", study, "--claims", claims)[0] == 0
    assert (study / "claims.csv").exists()
    assert (study / "claims.yaml").read_text() == claims.read_text()


def test_a_record_leaves_pictures_of_images_out(
    study: Path, tlunet: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(_: object, __: object, draw: object, *___: object) -> list[object]:
        for name in ("figure_4", "figure_7"):
            draw.drawn.add(name)  # type: ignore[attr-defined]
            (study / "figures").mkdir(exist_ok=True)
            (study / "figures" / f"{name}.png").write_text(name)
        return []

    monkeypatch.setattr("tlunet.report.sections.figures", drawn)
    kept = tmp_path / "experiments" / "x"
    code, out, _ = tlunet("report", study, "--record", kept)
    assert code == 0
    kept_figures = {p.name for p in (kept / "figures").iterdir()}
    assert kept_figures == {"figure_4.png", "forest.png", "gain_by_class.png"}
    assert sorted(p.name for p in kept.iterdir() if p.is_file()) == [
        "answer.md", "comparisons.csv", "flags.csv", "results.csv", "scores.csv",
    ]  # fmt: skip
    assert out.endswith(f"recorded: 8 files in {kept}\n")


@pytest.mark.parametrize("verb", ["nowhere", "empty", "claims", "missing claims"])
def test_a_mistake_is_a_line_and_exit_code_2(
    study: Path, tlunet: Run, tmp_path: Path, verb: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.yaml").write_text("claims: [{id: c, says: s, kind: bigger}]")
    args, message = {
        "nowhere": ([tmp_path / "nowhere"], "no such folder"),
        "empty": ([tmp_path / "empty"], "no run folder in it"),
        "claims": ([study, "--claims", tmp_path / "bad.yaml"], "kind is 'bigger'; allowed"),
        "missing claims": ([study, "--claims", tmp_path / "no.yaml"], "cannot be read"),
    }[verb]
    code, out, err = tlunet("report", *args)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_the_help_groups_the_commands(tlunet: Run) -> None:
    code, out, _ = tlunet("--help")
    assert code == 0
    places = [
        out.index(f" {word} ")
        for word in ("Data", "data", "Study", "train", "status", "Model", "predict", "export")
    ]
    assert places == sorted(places)


def test_a_home_folder_in_an_option_is_expanded(
    study: Path, tlunet: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert tlunet("report", study, "--record=~/kept")[0] == 0
    assert (tmp_path / "home/kept/results.csv").exists()
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("args", [["report"], ["reprot", "x"], ["report", "x", "--clams", "y"]])
def test_a_wrong_command_is_exit_code_2(tlunet: Run, args: list[str]) -> None:
    code, _, err = tlunet(*args)
    assert code == 2
    assert "Traceback" not in err
