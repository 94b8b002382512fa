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
