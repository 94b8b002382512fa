"""``benchmarks/gpu.sh``: stages under their limits, a line each at once, and a second call."""

import importlib.util
import json
import re
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PASSES = "print('a warning'); print(); print('{\"figure\": 1.5}')"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_script", ROOT / "benchmarks" / "gpu.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_script"] = module
    spec.loader.exec_module(module)
    return module


class Runs:
    """Calls of the script whose stages run these programs."""

    def __init__(self, script: ModuleType, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.script, self.out, self.started = script, home / "out", []
        for name in ("OUT", "WORK"):
            (home / name.lower()).mkdir()
            patch.setenv(name, str(home / name.lower()))
        patch.setattr(script, "code", lambda: self.code)
        patch.setattr(script.Call, "_start", self._start)
        self.code, self.programs = "one", {}

    def _start(self, stage: Any) -> "subprocess.Popen[str]":
        self.started.append(stage.name)
        return subprocess.Popen(
            [sys.executable, "-c", self.programs[stage.name]], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def call(self, minutes: float = 9.5, stages: str = "") -> int:
        self.started.clear()
        given = Namespace(began=time.time(), minutes=minutes, stages=stages, cpu=False)
        return int(self.script.Call(given).run())

    def lines(self) -> dict[str, dict[str, Any]]:
        text = (self.out / "gpu.jsonl").read_text()
        return {line["stage"]: line for line in map(json.loads, text.splitlines())}


@pytest.fixture
def runs(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(script, tmp_path, monkeypatch)


def test_a_second_call_repeats_only_what_did_not_pass(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = [runs.script.Stage(name, 60) for name in ("versions", "bench a", "bench b")]
    monkeypatch.setattr(runs.script, "STAGES", stages)
    runs.programs = {"versions": PASSES, "bench a": "raise SystemExit('broken')", "bench b": PASSES}
    assert runs.call() == 1
    lines = runs.lines()
    assert {name: line["ok"] for name, line in lines.items()} == {
        "versions": True, "bench a": False, "bench b": True,
    }  # fmt: skip
    assert lines["versions"]["figure"] == 1.5
    assert lines["bench a"]["error"].strip() == "broken"
    runs.programs["bench a"] = PASSES
    assert runs.call() == 0
    assert runs.started == ["bench a"]
    assert all(line["ok"] for line in runs.lines().values())
    assert runs.call() == 0
    assert runs.started == []
    runs.code = "two"  # the code was changed
    assert runs.call(stages="bench") == 0
    assert runs.started == ["bench a", "bench b"]


def test_each_stage_has_a_limit_and_the_call_has_one(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = [runs.script.Stage("bench a", 1), runs.script.Stage("bench b", 60)]
    monkeypatch.setattr(runs.script, "STAGES", stages)
    runs.programs = {"bench a": "import time; time.sleep(60)", "bench b": PASSES}
    monkeypatch.setattr(runs.script, "LEAST", 0.5)
    began = time.monotonic()
    assert runs.call() == 1
    assert time.monotonic() - began < 30
    assert runs.lines()["bench a"]["error"] == "took longer than its 1 s"
    assert runs.lines()["bench b"]["ok"]
    assert runs.call(minutes=0) == 1
    assert runs.started == []
    assert "not reached" in runs.lines()["bench a"]["error"]


@pytest.mark.parametrize(("program", "ok"), [(PASSES, True), ("raise SystemExit(1)", False)])
def test_strips_are_drawn_beside_and_waited_for(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, program: str, ok: bool
) -> None:
    stages = [runs.script.Stage("versions", 60), runs.script.Stage("epoch a", 60, True)]
    monkeypatch.setattr(runs.script, "STAGES", stages)
    runs.programs = {"strips": program, "versions": PASSES, "epoch a": PASSES}
    assert runs.call() == (not ok)
    assert runs.started == ["strips", "versions"] + ["epoch a"] * ok
    assert {name: line["ok"] for name, line in runs.lines().items()} == {
        "versions": True, "strips": ok, "epoch a": ok,
    }  # fmt: skip


def test_every_stage_is_a_function(script: ModuleType) -> None:
    text = (ROOT / "benchmarks" / "gpu_stages.py").read_text()
    functions = dict(re.findall(r"^def ([a-z]+)\(([^)]*)\)", text, re.M))
    for stage in [*script.STAGES, script.STRIPS]:
        name, *arguments = stage.name.split()
        if name != "correctness":
            assert len(re.findall(": str", functions[name])) == len(arguments), stage.name
    names = [stage.name for stage in script.STAGES]
    assert len(set(names)) == len(names)


def test_what_is_to_be_installed(script: ModuleType) -> None:
    wanted = script.requirements()
    assert "hydra-core>=1.3,<1.4" in wanted
    assert "pytest" in wanted
    assert all(script.is_installed(one) for one in wanted)
    assert not script.is_installed("torch>=99.1")
    assert not script.is_installed("no-such-package")
