"""A failed cell reports its error, and nothing else is lost."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from tlunet.machine import memory as limits
from tlunet.machine.device import Hardware
from tlunet.study.training.memory import is_out_of_memory, step_bytes

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]
FAST = ("encoder.name=mobilenet_v2", "trainer=cpu")


def status(home: Path) -> dict[str, str]:
    [file] = home.glob("runs/*/*/status.json")
    return json.loads(file.read_text())


def test_a_loss_that_is_no_number(run_here: Run, tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = run_here(*tiny, *FAST, "optimizer.lr=1e30", "epochs=3", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    error = status(tmp_path)["error"]
    assert "the weights have diverged" in error
    assert "epoch 1" in error
    assert "optimizer.lr" in error
    assert "Traceback" not in done.stdout + done.stderr


LIMITED = """
import resource, runpy, sys
from tlunet.study.training import memory
look = memory.free_memory
def limit_then_look(accelerator):
    used = int(open("/proc/self/status").read().partition("VmSize:")[2].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (used + (1200 << 20), resource.RLIM_INFINITY))
    return look(accelerator)
memory.free_memory = limit_then_look
sys.argv = ["run.py", *sys.argv[1:]]
runpy.run_path({path!r}, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be …"), True),
        (RuntimeError("CUDA driver error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), True),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate "
                "memory: you tried to allocate 8 bytes"
            ),
            True,
        ),
        (MemoryError(), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_each_library_has_its_words_for_a_full_memory(error: Exception, is_memory: bool) -> None:
    assert is_out_of_memory(error) is is_memory


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's address space limit")
def test_out_of_memory_names_a_batch_size_that_fits(tiny: tuple[str, ...], tmp_path: Path) -> None:
    line = [*tiny, *FAST, "data.size=[256,256]", "batch_size=24"]
    script = LIMITED.format(path=str(ROOT / "run.py"))
    done = subprocess.run(
        [sys.executable, "-c", script, *line],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "MALLOC_ARENA_MAX": "1"},
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    error = status(tmp_path)["error"]
    assert "out of memory at batch_size=24" in error
    assert "encoder activations are recomputed" in done.stdout
    fits = int(error.partition("estimate: batch_size=")[2].split()[0])
    again = subprocess.run(
        [sys.executable, "-c", script, *line, f"batch_size={fits}"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "MALLOC_ARENA_MAX": "1"},
    )  # fmt: skip
    assert again.returncode == 0, again.stdout + again.stderr


@pytest.mark.parametrize("encoder", ["resnet18", "mit_b0", "tu-convnext_tiny"])
@pytest.mark.parametrize("arch", ["unet", "fpn"])
def test_the_memory_of_a_step_is_known_beforehand(encoder: str, arch: str) -> None:
    config = {"encoder": {"name": encoder}, "arch": {"name": arch}}
    data = SimpleNamespace(pack=SimpleNamespace(classes=["a", "b"]), train_size=(32, 64))

    def step(batch_size: int, machine: Hardware) -> int:
        cell = SimpleNamespace(config=config, data=data, hardware=machine)
        return step_bytes(cell, batch_size)

    alone = Hardware("cpu", "32-true", "a CPU", threads=1)
    one, four = step(1, alone), step(4, alone)
    assert one > 2**20
    assert 1.2 * one < four <= 4 * one  # the weights take some of it
    # Two processes: each has its own GPU, but on CPUs they share the machine's memory.
    assert step(4, replace(alone, devices=2)) == four
    assert step(4, replace(alone, nodes=2)) == step(2, alone)
    assert step(7, replace(alone, accelerator="cuda", devices=2)) == four


def test_limits_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 150\nactive_file 20\n")
    monkeypatch.setattr(limits, "CGROUPS", tmp_path)
    assert 450 in list(limits.memory_left())
    (tmp_path / "memory.max").write_text("max\n")
    assert 450 not in list(limits.memory_left())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 20 MB: two checkpoints of this network do not fit on it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("not allowed to mount a small disk")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.slow
def test_a_full_disk_then_a_larger_one(
    run_here: Run, tiny: tuple[str, ...], tmp_path: Path, small_disk: Path
) -> None:
    line = (*tiny, *FAST, f"paths.runs={small_disk}", "epochs=2")
    done = run_here(*line, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert "No space left on device" in said
    assert "free some space" in said
    assert "Traceback" not in said
    subprocess.run(["mount", "-o", "remount,size=400m", str(small_disk)], check=True)
    done = run_here(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    [folder] = small_disk.glob("synthetic/*/")
    assert pd.read_csv(folder / "history.csv")["epoch"].tolist() == [0, 1]
    assert not list(folder.glob(".*.*"))


def test_a_read_only_folder_is_named_before_anything_runs(
    run_here: Run, tiny: tuple[str, ...], tmp_path: Path, small_disk: Path
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for key in ("paths.runs", "paths.data"):
        done = run_here(*tiny, *FAST, f"{key}={small_disk}/new", cwd=tmp_path)
        assert done.returncode == 2, done.stdout + done.stderr
        [line] = done.stderr.splitlines()
        assert str(small_disk) in line
        assert key in line, line
        assert "Read-only file system" in line


@pytest.mark.slow
@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_a_damaged_checkpoint_is_set_aside(
    run_here: Run, tiny: tuple[str, ...], tmp_path: Path, name: str
) -> None:
    line = (*tiny, *FAST, "seed=3")
    assert run_here(*line, cwd=tmp_path).returncode == 0
    [folder] = tmp_path.glob("runs/synthetic/*/")
    scores = (folder / "metrics.json").read_text()
    state = json.loads((folder / "status.json").read_text()) | {"state": "running"}
    (folder / "status.json").write_text(json.dumps(state))  # as if killed at the end
    os.truncate(folder / name, (folder / name).stat().st_size // 2)
    done = run_here(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{name} cannot be read" in done.stdout
    assert "starts from scratch" in done.stdout
    assert (folder / "last.damaged").exists()
    assert (folder / "metrics.json").read_text() == scores
    assert torch.load(folder / "last.ckpt", weights_only=True)["epoch"] == 0
