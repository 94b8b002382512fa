"""Batches on a GPU are those of the CPU, from wherever they are gathered."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tlunet.data.datamodule import DefectDataModule
from tlunet.data.residency import Resident, to_device
from tlunet.machine.device import Hardware

pytestmark = pytest.mark.gpu


def batches(data: DefectDataModule, device: torch.device) -> list[dict[str, Any]]:
    """One shuffled, flipped epoch, as a training step gets it, back on the host."""
    loader = data.train_dataloader()
    loader.sampler.set_epoch(3)
    found = []
    for batch in loader:
        there = {
            k: v.to(device, non_blocking=True) if isinstance(v, torch.Tensor) else v
            for k, v in batch.items()
        }
        batch = data.on_after_batch_transfer(there, 0)
        assert batch["image"].device.type == batch["mask"].device.type == device.type
        found.append({k: v.cpu() if torch.is_tensor(v) else v for k, v in batch.items()})
    return found


def test_resident_mapped_and_cpu_batches_are_equal(
    strip_data: Callable[..., DefectDataModule], machine: Hardware, device: torch.device
) -> None:
    plain = batches(strip_data(), torch.device("cpu"))
    mapped = strip_data(residency="memmap")
    resident = strip_data()
    resident._resident = to_device(resident.pack, device)
    for data in (mapped, resident):
        data.mask_format = machine.mask_format
        for ours, expected in zip(batches(data, device), plain, strict=True):
            assert ours["id"] == expected["id"]
            for key in ("index", "image", "mask", "label"):
                assert torch.equal(ours[key], expected[key]), key


def test_rows_beyond_2_gib_are_gathered(
    strip_data: Callable[..., DefectDataModule],
    machine: Hardware,
    device: torch.device,
    figures: Callable[..., None],
) -> None:
    is_gpu = machine.accelerator == "cuda"
    H, W, N = (256, 1600, 5400) if is_gpu else (32, 64, 100)
    columns = torch.arange(W, device=device)
    images = torch.empty(N, 1, H, W, dtype=torch.uint8, device=device)
    for row in range(N):  # each row has its own pattern
        images[row] = ((columns * (row % 7 + 1) + row) % 251).to(torch.uint8)
    data = strip_data()
    data._resident = Resident(images, images[:, 0] % 16)
    rows = torch.tensor([N - 1, 0, N // 2, N - 2], device=device)
    flips = torch.tensor([[False, False], [True, False], [False, True], [True, True]])
    batch = data.on_after_batch_transfer({"index": rows, "flip": flips.to(device)}, 0)
    for k, row in enumerate(rows.tolist()):
        line = ((columns * (row % 7 + 1) + row) % 251).to(torch.uint8)
        line = line.flip(0) if flips[k, 0] else line
        assert torch.equal(batch["image"][k, 0], line.expand(H, W)), row
        for m in range(4):
            assert torch.equal(batch["mask"][k, m], (line % 16 >> m & 1).bool().expand(H, W))
    figures(bytes=images.nbytes)
    assert not is_gpu or images.nbytes > 2**31
