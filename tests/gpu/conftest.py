"""What the GPU tests share. ``TLUNET_GPU_TESTS=cpu`` runs them on the CPU, at tiny sizes."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tlunet.data.augment import Augment
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import OnDisk
from tlunet.machine.device import Hardware, choose

IS_CPU = os.environ.get("TLUNET_GPU_TESTS") == "cpu"
RECORDS = os.environ.get("TLUNET_GPU_RECORD", "")  # files: one JSON line per test


@pytest.fixture(scope="session")
def machine() -> Hardware:
    """The GPU in its own precision, or the CPU if that was asked for."""
    if IS_CPU:
        return choose("cpu", "32-true", threads=1)
    if not torch.cuda.is_available():
        pytest.skip("no GPU; TLUNET_GPU_TESTS=cpu runs these tests on the CPU")
    return choose("cuda")


@pytest.fixture(scope="session")
def device(machine: Hardware) -> torch.device:
    """The device of `machine`."""
    return machine.device


@pytest.fixture
def figures(record_property: Callable[[str, Any], None]) -> Callable[..., None]:
    """Record figures of a test: ``figures(seconds=1.5)``."""

    def record(**values: Any) -> None:
        for name, value in values.items():
            record_property(name, value)

    return record


@pytest.fixture
def strip_data(strips: Path, tmp_path: Path) -> Callable[..., DefectDataModule]:
    """Make datamodules on the 24 strips of 32×64."""

    def make(**changes: Any) -> DefectDataModule:
        options = {"batch_size": 4, "augment": Augment(), "seed": 5} | changes
        data = DefectDataModule(OnDisk("severstal", strips), tmp_path, **options)
        data.prepare_data()
        data.setup()
        return data

    return make


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Full float32: no TF32."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Append each test's outcome and figures to the record at once."""
    is_end = report.when == "call" or report.outcome != "passed"
    if not RECORDS or not is_end or "tests/gpu" not in report.nodeid:
        return
    line: dict[str, Any] = {
        "stage": f"correctness: {report.nodeid.rpartition('::')[2].removeprefix('test_')}",
        "ok": report.outcome == "passed",
        "seconds": round(report.duration, 3),
        "code": os.environ.get("TLUNET_GPU_CODE"),
        **dict(report.user_properties),
    }
    if report.outcome != "passed":
        line["error"] = str(report.longrepr)[-2000:]
    for name in RECORDS.split(os.pathsep):
        with Path(name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
