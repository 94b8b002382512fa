"""The stages of ``benchmarks/gpu.sh``: which ones, in which order, each under its own time limit.

    python benchmarks/gpu.py run [--cpu] [--stages a,b] [--minutes 9.5]   all stages, or some
    python benchmarks/gpu.py stage NAME                                  one stage, in this process
    python benchmarks/gpu.py requirements                                what is to be installed
    python benchmarks/gpu.py missing                                     exits with 1 if some is not

Until everything is installed, only the standard library is used here.
"""

import argparse
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TESTS = ["pytest", "hypothesis"]
ENCODERS = ("resnet18", "densenet121")
SIZES = ("64x400", "256x1600")


@dataclass(frozen=True)
class Stage:
    """One part of the record.

    Attributes:
        name: its first word is a function of ``gpu_stages.py``, the others are its arguments;
            ``correctness`` runs the tests in ``tests/gpu``.
        limit: seconds.
        needs_strips: whether it waits until the strips are drawn and packed.
    """

    name: str
    limit: int
    needs_strips: bool = False


#: The most telling first: a call that runs out of time continues with the rest the next time.
STAGES = [
    Stage("versions", 60),
    Stage("correctness", 170),
    *(Stage(f"profile {e} {s}", 60) for s in SIZES for e in ENCODERS),
    *(Stage(f"epoch {e}", 120, True) for e in ENCODERS),
    Stage("grid", 60, True),
    *(Stage(f"bench {e} {s}", 100, s == SIZES[1]) for s in SIZES for e in ENCODERS),
    *(Stage(f"compiled {e} {s}", 150) for s in SIZES for e in ENCODERS),
    *(Stage(f"tuned {e} {s}", 200, s == SIZES[1]) for s in SIZES for e in ENCODERS),
]
STRIPS = Stage("strips", 300)  # in the background
LEAST = 10  # seconds that must be left to begin a stage


def main(words: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("--cpu", action="store_true", help="tiny sizes, no GPU")
    run.add_argument("--stages", default="", help="comma-separated beginnings of their names")
    run.add_argument("--minutes", type=float, default=9.5, help="for everything, installing too")
    run.add_argument("--began", type=float, default=time.time(), help="when the call began")
    commands.add_parser("stage").add_argument("name", nargs="+")
    commands.add_parser("requirements")
    commands.add_parser("missing")
    args = parser.parse_args(words)
    if args.command == "requirements":
        print("\n".join(requirements()))
        return 0
    if args.command == "missing":
        return int(bool([r for r in requirements() if not is_installed(r)]))
    if args.command == "stage":
        import gpu_stages

        function, *arguments = " ".join(args.name).split()
        print("\n" + json.dumps(getattr(gpu_stages, function)(*arguments)))
        return 0
    return Call(args).run()


def requirements() -> list[str]:
    """What the project and its tests need, as ``pyproject.toml`` says."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *TESTS]


def is_installed(requirement: str) -> bool:
    """Whether a package is there, in the version required or a later one."""
    name, *least = re.split(r"[<>=,~]+", requirement)
    try:
        found = version(name)
    except PackageNotFoundError:
        return False
    return not least or _numbers(found) >= _numbers(least[0])


def _numbers(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", text)[:3]]


class Call:
    """One call: runs what no earlier call has passed, until its time is over."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.deadline = args.began + 60 * args.minutes
        self.wanted = [name for name in args.stages.split(",") if name]
        name = "gpu-cpu.jsonl" if args.cpu else "gpu.jsonl"
        self.kept, self.told = (Path(os.environ[k]) / name for k in ("WORK", "OUT"))
        self.code = code()
        self.files = list(dict.fromkeys(file.absolute() for file in (self.kept, self.told)))
        self.patience = 4 if args.cpu else 1  # a busy machine's cores are slower than a GPU
        # The tests append their own lines, at once.
        self.env = os.environ | {
            "TLUNET_GPU_RECORD": os.pathsep.join(map(str, self.files)),
            "TLUNET_GPU_CODE": self.code,
        }
        if args.cpu:
            self.env |= {
                "CUDA_VISIBLE_DEVICES": "",
                "TLUNET_GPU_TESTS": "cpu",
                "OMP_NUM_THREADS": "1",
            }
        self.strips: tuple[subprocess.Popen[str], float] | None = None
        self.is_failed = self.has_strips = False

    def run(self) -> int:
        """Run the stages; return 1 if one did not pass or was not reached."""
        before = self._before()
        passed = {line["stage"] for line in before if line["ok"] and line.get("code") == self.code}
        self.told.write_text("".join(json.dumps(line) + "\n" for line in before), encoding="utf-8")
        todo = [s for s in STAGES if self._is_wanted(s) and s.name not in passed]
        # Not looked up: if they are there, it takes seconds.
        if any(stage.needs_strips for stage in todo):
            self.strips = self._start(STRIPS), time.time()
        for stage in todo:
            if stage.needs_strips and not self._wait_for_strips():
                self._tell(stage.name, False, 0, {"error": "the strips are missing"})
                continue
            self._run(stage)
        if self.strips:
            _end(self.strips[0])
        return int(self.is_failed)

    def _before(self) -> list[dict[str, Any]]:
        """The lines of earlier calls, from $WORK or, on a new machine, from $OUT."""
        file = self.kept if self.kept.exists() else self.told
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        self.kept.write_text(text, encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def _is_wanted(self, stage: Stage) -> bool:
        return not self.wanted or any(stage.name.startswith(name) for name in self.wanted)

    def _start(self, stage: Stage) -> "subprocess.Popen[str]":
        command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "stage", stage.name]
        if stage.name == "correctness":
            # A warning of another torch must not cost the answer.
            options = ["-q", "-W", "default", "-m", "gpu", "tests/gpu"]
            command = [sys.executable, "-m", "pytest", *options]
        return subprocess.Popen(
            command, cwd=ROOT, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip

    def _run(self, stage: Stage) -> None:
        left = self.deadline - time.time()
        if left < LEAST:
            self._tell(
                stage.name, False, 0, {"error": "not reached: the time of this call is over"}
            )
            return
        began = time.time()
        limit = min(self.patience * stage.limit, left)
        self._finish(stage.name, self._start(stage), began, limit)

    def _wait_for_strips(self) -> bool:
        if self.strips:
            process, began = self.strips
            self.strips = None
            spent = time.time() - began
            limit = min(self.patience * STRIPS.limit - spent, self.deadline - time.time())
            self.has_strips = self._finish(STRIPS.name, process, began, max(limit, 1))
        return self.has_strips

    def _finish(
        self, name: str, process: "subprocess.Popen[str]", began: float, limit: float
    ) -> bool:
        """Wait for a stage, end it at its limit, and append its line."""
        try:
            said, _ = process.communicate(timeout=limit)
            error = said[-2000:] or f"exit code {process.returncode}" if process.returncode else ""
        except subprocess.TimeoutExpired:
            _end(process)
            said, error = process.communicate()[0], f"took longer than its {limit:.0f} s"
        seconds = time.time() - began
        if name == "correctness":
            tally = said.strip().splitlines()[-1:]
            figures: dict[str, Any] = {"tests": tally[0].strip("= ") if tally else "none"}
        else:
            figures = {} if error else json.loads(said[said.rindex("\n{") :].splitlines()[1])
        self._tell(name, not error, seconds, figures | ({"error": error} if error else {}))
        return not error

    def _tell(self, stage: str, ok: bool, seconds: float, figures: dict[str, Any]) -> None:
        line = {"stage": stage, "ok": ok, "seconds": round(seconds, 2), "code": self.code} | figures
        for file in self.files:
            with file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")
        self.is_failed |= not ok
        short = {k: v for k, v in figures.items() if k not in ("milliseconds", "error")}
        why = figures.get("error", "").strip().splitlines()[-1:]
        print(
            f"{'✓' if ok else '✗'} {stage}  {seconds:.1f} s  {short or ''} {why or ''}", flush=True
        )


def _end(process: "subprocess.Popen[str]") -> None:
    """End a stage and the processes it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def code() -> str:
    """Digest of the code whose stages these are: changed code is tested again."""
    files = [
        *ROOT.glob("src/**/*.py"),
        *ROOT.glob("tests/gpu/*.py"),
        *ROOT.glob("benchmarks/gpu*.py"),
    ]
    content = b"".join(file.read_bytes() for file in sorted(files))
    return hashlib.sha256(content).hexdigest()[:12]


if __name__ == "__main__":
    sys.exit(main())
