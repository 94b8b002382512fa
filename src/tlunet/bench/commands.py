"""Times whole commands in separate processes: building a pack, and starting up."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tlunet.bench import sides
from tlunet.data.pack.pack import open_pack
from tlunet.data.readers.severstal import read
from tlunet.machine import memory


def pack_building(strips: Path) -> dict[str, Any]:
    """Measure images per second and peak memory of packing strips, in a separate process.

    Args:
        strips: folder in Severstal's layout; the pack is built in a temporary folder.
    """
    command = [sys.executable, "-c", _PACK, str(strips)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


_PACK = "import sys; from tlunet.bench.commands import _pack; _pack(sys.argv[1])"


def _pack(home: str) -> None:
    source = read(Path(home))
    memory.forget_peak_memory("cpu")
    before = memory.peak_memory("cpu")
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        pack = open_pack(source, Path(folder))
        seconds = time.perf_counter() - began
    peak = memory.peak_memory("cpu")
    facts = {"images": len(pack), "images_per_second": len(pack) / seconds}
    print(json.dumps(facts | {"peak_memory": peak, "memory_before": before}))


def start_up(
    commands: Mapping[str, Sequence[str]] | None = None, repeats: int = 3
) -> dict[str, float]:
    """Measure median seconds of commands that should respond immediately.

    Args:
        commands: name → arguments of Python; by default those of :func:`prompt_commands`.
        repeats: timed runs of each, after a first run that reads its files from disk.
    """
    root = sides.RECIPE.parents[1]
    found = {}
    for name, words in (prompt_commands(root) if commands is None else commands).items():
        seconds = []
        for _ in range(repeats + 1):
            began = time.perf_counter()
            subprocess.run([sys.executable, *words], cwd=root, capture_output=True, check=False)
            seconds.append(time.perf_counter() - began)
        found[name] = statistics.median(seconds[1:])
    return found


def prompt_commands(root: Path) -> dict[str, list[str]]:
    """Commands that should respond immediately; ``run.py`` only if ``root`` is a checkout."""
    tlunet = str(Path(sys.executable).with_name("tlunet"))
    commands = {
        "tlunet --help": [tlunet, "--help"],
        "tlunet status STUDY": [tlunet, "status", "runs/synthetic"],
    }
    if (root / "run.py").is_file():
        commands |= {
            "python run.py --help": ["run.py", "--help"],
            "python run.py epoch=3 (a wrong key)": ["run.py", "epoch=3"],
        }
    return commands
