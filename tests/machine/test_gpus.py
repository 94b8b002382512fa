"""GPU claims, with fake GPUs and real processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tlunet.errors import ConfigError
from tlunet.machine import gpus

LIST = """GPU 0: NVIDIA A100 (UUID: GPU-aaaa)
GPU 1: NVIDIA A100 (UUID: GPU-abbb)
GPU 2: NVIDIA H200 (UUID: GPU-cccc)
  MIG 3g.71gb     Device  0: (UUID: MIG-c1)
  MIG 3g.71gb     Device  1: (UUID: MIG-c2)
"""
HOLD = """
import sys
from tlunet.machine import gpus
with gpus.claim(int(sys.argv[1]), say=lambda text: print(text, flush=True), pause=0.02) as mine:
    print(*mine, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Three GPUs, the last with two MIG slices, and a folder for the locks."""
    smi = tmp_path / "bin/nvidia-smi"
    smi.parent.mkdir()
    smi.write_text(f"#!/bin/sh\ncat <<'END'\n{LIST}END\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{smi.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("variable", "found"),
    [
        (None, ["GPU-aaaa", "GPU-abbb", "MIG-c1", "MIG-c2"]),
        ("", []),
        ("1,0", ["GPU-abbb", "GPU-aaaa"]),
        ("GPU-ab, MIG-c2", ["GPU-abbb", "MIG-c2"]),
        ("0,7,1", ["GPU-aaaa"]),  # everything after an invalid one is invisible
        ("-1", []),
        ("GPU-a", []),  # prefix of two GPUs
    ],
)
def test_what_cuda_would_see(
    machine: pytest.MonkeyPatch, variable: str | None, found: list[str]
) -> None:
    if variable is not None:
        machine.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert gpus.visible() == found
    assert gpus.count() == max(1, len(found))
    assert gpus.a_cell() == bool(found)


def test_without_a_gpu_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with gpus.claim() as mine:
        assert mine == []
    assert gpus.count() == 1


def hold(number: int = 1) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(number)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_no_gpu_has_two_holders_and_a_killed_ones_is_free(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    holders = [hold(), hold(), hold()]
    said = {holder.stdout.fileno(): holder for holder in holders}
    first = {h: h.stdout.readline().strip() for h in said.values()}
    waiting = [h for h in holders if first[h].startswith("waiting for 1 of 2 GPUs")]
    assert len(waiting) == 1
    running = [h for h in holders if h not in waiting]
    assert sorted(first[h] for h in running) == ["GPU-aaaa", "GPU-abbb"]
    running[0].send_signal(signal.SIGKILL)
    assert waiting[0].stdout.readline().strip() == first[running[0]]
    for holder in holders:
        holder.communicate()


def test_several_are_taken_at_once_or_not_at_all(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    one, both = hold(), None
    assert one.stdout.readline().strip() == "GPU-aaaa"
    both = hold(2)
    assert both.stdout.readline().startswith("waiting for 2 of 2 GPUs")
    other = hold()  # waiting for two GPUs does not hold the free one
    said = other.stdout.readline().strip()
    if said != "GPU-abbb":  # asked just while the other one tried both
        assert said.startswith("waiting for 1 of 2 GPUs: in use by your other cells")
        assert other.stdout.readline().strip() == "GPU-abbb"
    one.communicate()
    other.communicate()
    assert both.stdout.readline().strip() == "GPU-aaaa GPU-abbb"
    both.communicate()


def test_the_claim_is_all_that_cuda_will_see(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    machine.setenv("CUDA_VISIBLE_DEVICES", "2,1")  # two whole GPUs and two slices
    with gpus.claim() as mine:
        assert mine == [os.environ["CUDA_VISIBLE_DEVICES"]] == ["MIG-c1"]
        assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"  # as in the list of nvidia-smi
    with gpus.claim() as again:  # CUDA in this process is limited to that GPU
        assert again == mine


def test_a_folder_that_cannot_be_had_is_a_mistake(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("TMPDIR", "/proc")
    machine.setattr("tempfile.gettempdir", lambda: "/proc")
    with pytest.raises(ConfigError, match=r"/proc/tlunet-.*TMPDIR"), gpus.claim():
        pass
