from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tlunet.data import residency
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import OnDisk
from tlunet.data.synthetic.generate import generate
from tlunet.errors import ConfigError

CPU = torch.device("cpu")  # any device can show that rows arrive complete and in order


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residency, "_kept", {})


def module(root: Path, cache: Path, **kwargs: object) -> DefectDataModule:
    data = DefectDataModule(OnDisk("severstal", root), cache, **kwargs)
    data.prepare_data()
    data.setup()
    return data


def test_every_row_arrives_whatever_the_chunk(
    strips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = module(strips, tmp_path).pack
    monkeypatch.setattr(residency, "CHUNK", 7)  # 24 = 3 · 7 + 3
    images, bits = residency.to_device(pack, CPU)
    assert np.array_equal(images[:, 0], pack.images)
    assert np.array_equal(bits, pack.masks)
    assert residency.to_device(pack, CPU).nbytes == pack.images.nbytes + pack.masks.nbytes


@pytest.fixture
def small_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Limit what packs and training can take together, as on a GPU of that many bytes."""

    def limit(total: int) -> None:
        monkeypatch.setattr(residency, "_free", lambda device: total - residency.resident_bytes())

    return limit


def test_cells_share_one_copy_and_another_pack_makes_it_go_only_if_needed(
    strips: Path, tmp_path: Path, small_gpu: Callable[[int], None]
) -> None:
    first, second = module(strips, tmp_path, frac=0.5), module(strips, tmp_path, seed=1)
    shared = residency.to_device(first.pack, CPU)
    assert residency.to_device(second.pack, CPU).images is shared.images
    generate(tmp_path / "other", n=16, size=(32, 64), seed=9, workers=1)
    other = module(tmp_path / "other", tmp_path).pack

    def kept() -> list[int]:
        return [len(resident.images) for resident in residency._kept.values()]

    total = first.pack.nbytes + other.nbytes
    small_gpu(total)
    residency.to_device(other, CPU)
    assert kept() == [24, 16]
    residency.to_device(first.pack, CPU)
    assert kept() == [16, 24]  # used last, evicted last
    residency.to_device(first.pack, CPU, beside=1)
    assert kept() == [24]  # training needs one byte more
    residency.to_device(other, CPU, beside=1)
    assert kept() == [16]


def test_auto_asks_how_much_is_free(
    strips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = module(strips, tmp_path)
    needed = data.pack.images.nbytes + data.pack.masks.nbytes
    cuda = torch.device("cuda", 0)
    for free, lives in ((2 * needed, False), (2 * needed + 1, True)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, 10 * needed))
        assert data.lives_on(cuda) is lives
    for reserved, lives in ((needed, True), (needed + 1, False)):  # as much as is left, or more
        data.reserved = reserved
        assert data.lives_on(cuda) is lives
    assert not data.lives_on(CPU)
    assert not module(strips, tmp_path, residency="memmap").lives_on(cuda)
    assert module(strips, tmp_path, residency="gpu").lives_on(cuda)
    with pytest.raises(ConfigError, match=r"data\.residency=gpu: there is no GPU"):
        module(strips, tmp_path, residency="gpu").lives_on(CPU)


def test_a_pack_makes_way_for_training(
    strips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = module(strips, tmp_path)
    size = residency.to_device(data.pack, CPU).nbytes
    assert residency.resident_bytes() == size == data.pack.nbytes
    # The memory that the resident pack uses counts as free.
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2 * size, 10 * size))
    data.reserved = 2 * size - 1
    assert data.lives_on(torch.device("cuda", 0))
    data.reserved = 2 * size
    assert not data.lives_on(torch.device("cuda", 0))
    for reserved, left in ((2 * size, size), (2 * size + 1, 0)):  # evicted only if it is in the way
        monkeypatch.setattr(residency, "_free", lambda device: 2 * size)
        data.reserved = reserved
        data.train_dataloader()  # on a CPU, the pack is not resident
        assert residency.resident_bytes() == left


def test_a_pack_that_was_asked_there_and_is_too_large(
    strips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    pack = module(strips, tmp_path).pack
    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(ConfigError, match=r"data\.residency=gpu: images and masks need 0\.0 GiB"):
        residency.to_device(pack, CPU)


def test_workers_only_where_they_help(strips: Path, tmp_path: Path) -> None:
    cuda = torch.device("cuda", 0)
    data = module(strips, tmp_path)
    assert data._workers(CPU, data.augment) == 0
    assert data._workers(cuda, data.augment) >= 1
    assert module(strips, tmp_path, workers=3)._workers(CPU, data.augment) == 3
    data._resident = residency.to_device(data.pack, CPU)
    assert data._workers(cuda, data.augment) == 0
