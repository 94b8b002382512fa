import os
import sys

import pytest
import torch

from tlunet.errors import ConfigError
from tlunet.machine import device, memory


def test_the_cpu_gets_the_precision_it_is_good_at(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_bf16, precision in ((True, "bf16-mixed"), (False, "32-true")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has_bf16: has)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert device.choose("cpu").precision == precision
    assert device.choose("cpu", "bf16-mixed").precision == "bf16-mixed"


def test_threads_are_set_in_one_place() -> None:
    before = torch.get_num_threads()
    try:
        assert device.choose("cpu", threads=1).threads == 1
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_gpu_that_was_asked_for_is_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for accelerator in ("cuda", "mps"):
        with pytest.raises(ConfigError, match=f"trainer.accelerator={accelerator}: .* finds none"):
            device.choose(accelerator)
    assert device.choose("auto").accelerator == "cpu"


@pytest.mark.parametrize(
    ("accelerator", "precision", "capability", "is_last"),
    [
        ("cuda", "bf16-mixed", 9, True),
        ("cuda", "32-true", 8, True),
        ("cuda", "32-true", 7, False),  # V100, T4: no matrix units for float32
        ("cuda", "bf16-mixed", 7, True),
        ("cpu", "bf16-mixed", 0, True),
        ("cpu", "32-true", 0, False),
    ],
)
def test_channels_last_where_matrix_units_use_it(
    accelerator: str, precision: str, capability: int, is_last: bool
) -> None:
    machine = device.Hardware(accelerator, precision, "", 1, capability=capability)
    assert machine.is_channels_last is is_last
    assert (machine.memory_format == torch.channels_last) is is_last
    on_the_gpu = is_last and accelerator == "cuda"
    assert (machine.mask_format == torch.channels_last) is on_the_gpu


def test_the_gpu_is_asked_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    for name, answer in {
        "is_available": True, "device_count": 1, "get_device_name": "NVIDIA T4",
        "get_device_capability": (7, 5), "is_bf16_supported": False,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, lambda answer=answer, **kwargs: answer)
    found = device.choose()
    assert (found.accelerator, found.precision, found.capability) == ("cuda", "32-true", 7)
    assert not found.is_channels_last
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"  # numbers are nvidia-smi's


def test_peak_memory_is_in_bytes() -> None:
    assert 50e6 < memory.peak_memory("cpu") < 1e12


@pytest.mark.skipif(sys.platform != "linux", reason="the peak can be reset on Linux only")
def test_each_cell_has_its_own_peak() -> None:
    block = torch.ones(100_000_000)
    high = memory.peak_memory("cpu")
    del block
    memory.free_memory("cpu")  # returns freed memory to the system
    memory.forget_peak_memory("cpu")
    assert memory.peak_memory("cpu") < high - 300e6
