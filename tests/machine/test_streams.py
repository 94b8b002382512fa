"""Printing never fails, and never changes what a program does."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tlunet.machine import console
from tlunet.machine.files import read_json

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from tlunet.machine.streams import make_patient
make_patient()
from tlunet.machine.console import banner, complain, progress, say
say("✓ 256×1600 → 钢 \\udcff")
banner("T×", "é…")
complain("× → 钢")
print("×" * 20_000)
with progress() as report:
    report("packing", 1, 2)
sys.exit(7)
"""


def run(redirection: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["/bin/sh", "-c", f'"$0" -c "$1" {redirection}', sys.executable, PROGRAM],
        env=os.environ | environment, capture_output=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("encoding", "line", "complaint"),
    [
        ("utf-8", "✓ 256×1600 → 钢 ?", "× → 钢"),
        ("latin-1", "+ 256×1600 -> ? ?", "× -> ?"),
        ("ascii", "+ 256x1600 -> ? ?", "x -> ?"),
        ("ascii:strict", "+ 256x1600 -> ? ?", "x -> ?"),
    ],
)
def test_what_an_encoding_lacks_is_replaced(encoding: str, line: str, complaint: str) -> None:
    done = run("", PYTHONIOENCODING=encoding)
    name = encoding.partition(":")[0]
    assert done.returncode == 7
    assert done.stdout.decode(name).splitlines()[0] == line
    assert done.stderr.decode(name) == f"{complaint}\n"


@pytest.mark.parametrize(
    ("redirection", "lost"),
    [
        (">/dev/full", "standard output: No space left on device; some lines are missing\n"),
        ("2>/dev/full", ""),
        (">/dev/full 2>/dev/full", ""),
        (">&-", ""),
        ("2>&-", ""),
        (">&- 2>&-", ""),
    ],
)
def test_a_stream_that_cannot_be_written_does_not_matter(redirection: str, lost: str) -> None:
    done = run(redirection, PYTHONIOENCODING="utf-8")
    assert done.returncode == 7
    said = "" if "2>" in redirection else "× → 钢\n"
    assert done.stderr.decode() == said + lost


def test_a_reader_may_leave() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr.decode()) == (7, "× → 钢\n")


class Stubborn:
    """A stream that cannot be written, as a notebook's or a launcher's may be."""

    encoding = "ascii"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def write(self, text: str) -> int:
        text.encode(self.encoding)
        raise self.error

    def flush(self) -> None:
        raise self.error


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "full"), ValueError("closed")])
def test_neither_does_one_that_is_not_ours(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", Stubborn(error))
    monkeypatch.setattr(sys, "stderr", Stubborn(error))
    monkeypatch.setattr(console, "console", console._Console())
    console.say("× 钢")
    console.banner("×", "钢")
    console.complain("× 钢")


def test_one_place_reads_the_systems_words() -> None:
    """Libraries' errors have none, and a message would say None."""
    files = [ROOT / "run.py", *(ROOT / "src").rglob("*.py")]
    found = [path.name for path in files if re.search(r"\berror\.strerror", path.read_text())]
    assert found == ["errors.py"]


@pytest.mark.slow
def test_a_cell_that_cannot_tell_is_finished(tiny: tuple[str, ...], tmp_path: Path) -> None:
    """In ASCII, with its log on a full disk."""
    with Path("/dev/full").open("w") as log:
        done = subprocess.run(
            [sys.executable, str(ROOT / "run.py"), *tiny], cwd=tmp_path, stdout=log,
            stderr=subprocess.PIPE, check=False,
            env=os.environ | {"PYTHONIOENCODING": "ascii", "CUDA_VISIBLE_DEVICES": ""},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    [status] = tmp_path.glob("runs/*/*/status.json")
    assert read_json(status)["state"] == "finished"
