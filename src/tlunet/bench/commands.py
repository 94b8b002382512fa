"""Times whole commands in separate processes: building a pack, and starting up."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from tlunet.bench import sides
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.pack.pack import open_pack
from tlunet.data.readers.severstal import read
from tlunet.errors import UserError
from tlunet.machine import memory
from tlunet.machine.device import Hardware


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


class Prompt(NamedTuple):
    """A command that should respond immediately."""

    words: Sequence[str]  # arguments of Python
    code: int = 0  # that it exits with


def start_up(
    commands: Mapping[str, Prompt] | None = None,
    repeats: int = 3,
    study: Path | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, float]:
    """Measure median seconds of commands that should respond immediately.

    Args:
        commands: by name; by default those of :func:`prompt_commands`.
        repeats: timed runs of each, after a first run that reads its files from disk.
        study: a study folder for ``tlunet status``.
        say: called with a message for each command that fails; it is not measured.
    """
    root = sides.RECIPE.parents[1]
    found = {}
    for name, (words, code) in (commands or prompt_commands(root, study)).items():
        seconds, codes = [], set()
        for _ in range(repeats + 1):
            began = time.perf_counter()
            done = subprocess.run([sys.executable, *words], cwd=root, capture_output=True)
            seconds.append(time.perf_counter() - began)
            codes.add(done.returncode)
        if codes == {code}:
            found[name] = statistics.median(seconds[1:])
        else:
            say(f"{name}: exit code {max(codes)}, expected {code}; not measured")
    return found


def prompt_commands(root: Path, study: Path | None = None) -> dict[str, Prompt]:
    """Commands that should respond immediately; ``run.py`` only if ``root`` is a checkout."""
    tlunet = ["-m", "tlunet.cli"]
    commands = {"tlunet --help": Prompt([*tlunet, "--help"])}
    if study:
        commands["tlunet status STUDY"] = Prompt([*tlunet, "status", str(study)])
    if (root / "run.py").is_file():
        commands |= {
            "python run.py --help": Prompt(["run.py", "--help"]),
            "python run.py epoch=3 (a wrong key)": Prompt(["run.py", "epoch=3"], code=2),
        }
    return commands


def real_cell(
    data: DefectDataModule, encoder: str, machine: Hardware, runs: Path, epochs: int = 2
) -> dict[str, Any] | None:
    """Measure one real cell, ``python run.py``: with callbacks, checkpoints and epoch ends.

    Args:
        data: datamodule on the strips; its pack is used.
        encoder: name of the encoder.
        machine: device, precision and threads.
        runs: folder for the study ``bench``, with the cell's run folder.
        epochs: the last one is free of compilation and first steps.

    Returns:
        Seconds of the command and of each epoch, training images per second of each epoch, and the
        fraction of the last epoch that is not training. ``None`` outside a checkout.

    Raises:
        UserError: the cell failed.
    """
    root = sides.RECIPE.parents[1]
    if not (root / "run.py").is_file():
        return None
    words = (
        f"encoder.name={encoder}", "init=random", "data=severstal",
        f"data.root={data.dataset.root}",
        f"paths.data={data.cache.resolve()}", f"paths.runs={runs}", "study=bench", "logger=csv",
        f"epochs={epochs}", "early_stopping.patience=null", f"batch_size={data.batch_size}",
        f"trainer.accelerator={machine.accelerator}", f"trainer.precision={machine.precision}",
        f"trainer.threads={machine.threads}",
    )  # fmt: skip
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "run.py", *words], cwd=root, capture_output=True, text=True
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise UserError(f"python run.py {' '.join(words)}: {(done.stderr or done.stdout).strip()}")
    [history] = runs.glob("bench/*/history.csv")
    rows = pd.read_csv(history)
    training = len(data.rows["train"]) / rows["images_per_second"]
    return {
        "epochs": epochs,
        "images": len(data.rows["train"]),
        "seconds": seconds,
        "epoch_seconds": rows["seconds"].tolist(),
        "images_per_second": rows["images_per_second"].tolist(),
        "waiting": rows["waiting_share"].tolist(),
        "beside_training": 1 - float((training / rows["seconds"]).iloc[-1]),
    }
