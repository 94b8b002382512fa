"""Worker processes end with their parent process."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
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
    ("given", "spins"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_threads_that_wait_give_their_core_away(given: dict[str, str], spins: str | None) -> None:
    """Also in the processes that the command line starts, and before torch is imported."""
    code = (
        "import os, sys, runpy; sys.argv = ['run.py', '--help']\n"
        "try: runpy.run_path('run.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules, file=sys.stderr)"
    )
    env = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env | given, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stderr.split() == [str(spins), "False"]
