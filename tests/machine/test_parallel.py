"""Worker processes end with their parent process."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tlunet.machine.parallel import threads

OPEN = """
import os, time
from tlunet.machine.parallel import processes

if __name__ == "__main__":
    with processes(1) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        time.sleep(60)
"""


def test_workers_end_where_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "open.py"
    script.write_text(OPEN)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        worker = int(parent.stdout.readline())
        os.kill(worker, 0)  # it exists
        parent.kill()
    for _ in range(500):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        if "Z (zombie)" in Path(f"/proc/{worker}/status").read_text():
            return  # ended, but not yet reaped
        time.sleep(0.02)
    pytest.fail(f"worker {worker} outlives its parent")


@pytest.mark.parametrize(
    ("most", "of", "expected"),
    [(None, 1, 6), (None, 4, 1), (None, 9, 1), ("2", 1, 2), ("4", 3, 2), ("64", 1, 6), ("0", 1, 6),
     ("2,1", 1, 6)],
)  # fmt: skip
def test_threads_are_a_part_of_the_cores_and_no_more_than_the_user_says(
    most: str | None, of: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tlunet.machine.parallel.cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if most:
        monkeypatch.setenv("OMP_NUM_THREADS", most)
    assert threads(of) == expected
