import shutil
from pathlib import Path
from types import SimpleNamespace

import albumentations as A
import numpy as np
import pytest
import torch
from PIL import Image

from specks import SMALL, write_specks
from tlunet.data.augment import Augment
from tlunet.data.batches import pack_bits, unpack_bits
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import OnDisk, find_dataset
from tlunet.data.residency import to_device
from tlunet.data.split import fingerprint
from tlunet.errors import ConfigError, DataError


def module(root: Path, cache: Path, **kwargs: object) -> DefectDataModule:
    data = DefectDataModule(OnDisk("severstal", root), cache, **({"batch_size": 4} | kwargs))
    data.prepare_data()
    data.setup()
    return data


def epoch(data: DefectDataModule, subset: str = "train", number: int = 0) -> list[dict]:
    return list(data.batches(subset, number))


def test_batches_are_as_the_contract_says(strips: Path, tmp_path: Path) -> None:
    data = module(strips, tmp_path)
    batch = epoch(data, "val")[0]
    B = len(batch["id"])
    assert batch["image"].shape == (B, 1, 32, 64)
    assert batch["image"].dtype == torch.uint8
    assert batch["mask"].shape == (B, 4, 32, 64)
    assert batch["mask"].dtype == batch["label"].dtype == torch.bool
    for k, row in enumerate(batch["index"].tolist()):
        assert data.pack.index["image_id"][row] == batch["id"][k]
        assert np.array_equal(batch["image"][k, 0], data.pack.images[row])
        assert np.array_equal(batch["label"][k], data.pack.labels[row])


@pytest.fixture(scope="module")
def specks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_specks(tmp_path_factory.mktemp("specks") / "data")


OUT_OF_SIGHT = A.Compose([A.Affine(translate_percent={"x": (1.5, 1.5)}, p=1.0)])
SHIFTED = A.Compose([A.Affine(translate_percent={"x": (0.1, 0.1)}, p=1.0)])


@pytest.mark.parametrize("path", ["memory-mapped", "resident", "workers", "shifted"])
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")
def test_a_label_is_kept_where_the_mask_vanishes(specks: Path, tmp_path: Path, path: str) -> None:
    augment = Augment(transform=SHIFTED if path == "shifted" else None)
    workers = 2 if path == "workers" else 0
    data = module(specks, tmp_path, size=SMALL, augment=augment, workers=workers)
    if path == "resident":
        data._resident = to_device(data.pack, torch.device("cpu"))
    for batch in epoch(data):
        numbers = np.array([int(name[:2]) for name in batch["id"]])
        assert batch["label"][:, 0].tolist() == (numbers < 8).tolist()
        assert batch["label"][:, 1].tolist() == (numbers % 2 == 0).tolist()
        assert not batch["mask"][:, 1].any()


def test_a_defect_moved_out_of_the_picture_loses_its_label(specks: Path, tmp_path: Path) -> None:
    data = module(specks, tmp_path, size=SMALL, augment=Augment(transform=OUT_OF_SIGHT))
    for batch in epoch(data):
        assert not batch["mask"].any()
        assert not batch["label"][:, 0].any()
        kept = [int(name[:2]) % 2 == 0 for name in batch["id"]]  # already absent before
        assert batch["label"][:, 1].tolist() == kept
    for batch in epoch(data, "val"):
        assert torch.equal(batch["label"], torch.from_numpy(data.pack.labels[batch["index"]]))


def test_the_split_does_not_depend_on_the_size(specks: Path, tmp_path: Path) -> None:
    small, native = (module(specks, tmp_path, size=size) for size in (SMALL, None))
    assert fingerprint(small.split) == fingerprint(native.split)
    assert small.split.equals(native.split)
    assert small.pack.index["group"].tolist() == [*range(8), 8, 8, 10, 10, 12, 12, 14, 14]
    chosen = module(specks, tmp_path, size=SMALL, subset="defective")
    numbers = sorted(int(name[:2]) for name in chosen.split["image_id"])
    assert numbers == [*range(8), 8, 10, 12, 14]


def test_every_image_of_a_part_once_an_epoch_and_no_other(strips: Path, tmp_path: Path) -> None:
    data = module(strips, tmp_path, frac=0.5)
    for subset in ("train", "val", "test"):
        for number in (0, 1):
            seen = [i for batch in epoch(data, subset, number) for i in batch["id"]]
            wanted = data.split.query("subset == @subset")["image_id"]
            assert sorted(seen) == sorted(wanted)
    assert len(data.rows["train"]) == len(data.rows["unused"])


def test_order_is_a_function_of_seed_and_epoch(strips: Path, tmp_path: Path) -> None:
    def order(seed: int, number: int) -> list[str]:
        data = module(strips, tmp_path, seed=seed)
        return [i for batch in epoch(data, "train", number) for i in batch["id"]]

    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)


def test_a_pack_on_the_device_gives_the_same_batches(strips: Path, tmp_path: Path) -> None:
    plain = epoch(module(strips, tmp_path, augment=Augment()), "train", 5)
    resident = module(strips, tmp_path, augment=Augment(), residency="gpu")
    # The code path for accelerators, as far as a CPU can test it.
    resident._resident = to_device(resident.pack, torch.device("cpu"))
    for ours, theirs in zip(epoch(resident, "train", 5), plain, strict=True):
        assert ours["id"] == theirs["id"]
        for key in ("image", "mask", "label", "index"):
            assert torch.equal(ours[key], theirs[key])


def test_masks_come_in_the_layout_of_the_logits(strips: Path, tmp_path: Path) -> None:
    data = DefectDataModule(OnDisk("severstal", strips), tmp_path, batch_size=4)
    data.prepare_data()
    data.setup()
    plain = next(data.batches("val"))["mask"]
    data.mask_format = torch.channels_last
    mask = next(data.batches("val"))["mask"]
    assert torch.equal(mask, plain)
    assert plain.is_contiguous()
    assert mask.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("classes", [1, 4, 8, 9, 16, 17, 32])
def test_masks_and_bit_fields_are_each_others_inverse(classes: int) -> None:
    masks = torch.rand(2, classes, 3, 5) > 0.5
    bits = pack_bits(masks)
    assert bits.dtype == (
        torch.uint8 if classes <= 8 else torch.int32 if classes <= 16 else torch.int64
    )
    for layout in (torch.contiguous_format, torch.channels_last):
        assert torch.equal(unpack_bits(bits, classes, layout), masks)


def test_image_and_mask_are_flipped_together(strips: Path, tmp_path: Path) -> None:
    data = module(strips, tmp_path, augment=Augment(1, 0))
    batch = epoch(data)[0]
    for k, row in enumerate(batch["index"].tolist()):
        assert np.array_equal(batch["image"][k, 0], data.pack.images[row][:, ::-1])
        bits = torch.from_numpy(np.array(data.pack.masks[row][:, ::-1]))
        assert torch.equal(batch["mask"][k], unpack_bits(bits[None], 4)[0])


@pytest.mark.parametrize(
    "pipeline",
    [None, A.Compose([A.Affine(rotate=(-9, 9), p=1.0), A.RandomBrightnessContrast(p=1.0)])],
)
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")
def test_workers_do_not_change_the_samples(
    strips: Path, tmp_path: Path, pipeline: A.Compose | None
) -> None:
    augment = Augment(transform=pipeline)
    alone, helped = (
        epoch(module(strips, tmp_path, augment=augment, workers=w), "train", 2) for w in (0, 2)
    )
    for ours, theirs in zip(alone, helped, strict=True):
        assert ours["id"] == theirs["id"]
        assert torch.equal(ours["image"], theirs["image"])
        assert torch.equal(ours["mask"], theirs["mask"])


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")
def test_workers_that_live_on_know_the_epoch(strips: Path, tmp_path: Path) -> None:
    """A trainer uses one loader for all epochs, and starts at a later one after a resume."""
    found = {}
    for workers in (0, 2):
        loader = module(strips, tmp_path, augment=Augment(), workers=workers).train_dataloader()
        for number in (3, 0, 1):
            loader.sampler.set_epoch(number)
            found[workers, number] = list(loader)
    for number in (3, 0, 1):
        for ours, theirs in zip(found[2, number], found[0, number], strict=True):
            assert ours["id"] == theirs["id"]
            assert torch.equal(ours["flip"], theirs["flip"])
            assert torch.equal(ours["image"], theirs["image"])
    assert found[2, 0][0]["id"] != found[2, 1][0]["id"]


def test_normalisation_is_the_same_for_every_fraction(strips: Path, tmp_path: Path) -> None:
    whole, half = (module(strips, tmp_path, frac=f) for f in (1.0, 0.5))
    assert (whole.mean, whole.std) == (half.mean, half.std)
    rows = np.sort(whole.rows["train"])
    assert whole.mean[0] == pytest.approx(np.asarray(whole.pack.images[rows], float).mean())


def test_a_last_batch_of_one_joins_the_one_before(strips: Path, tmp_path: Path) -> None:
    data = module(strips, tmp_path, batch_size=17)
    assert len(data.rows["train"]) == 18
    assert [len(batch["id"]) for batch in epoch(data)] == [18]
    assert sum(len(b["id"]) for b in epoch(module(strips, tmp_path, batch_size=1))) == 18


def test_subset_defective_leaves_the_others_out(strips: Path, tmp_path: Path) -> None:
    data = module(strips, tmp_path, subset="defective")
    chosen = np.concatenate(list(data.rows.values()))
    assert data.pack.labels[chosen].any(1).all()
    assert len(chosen) == data.pack.labels.any(1).sum() < 24


def test_auto_takes_severstal_where_it_is(strips: Path, tmp_path: Path) -> None:
    assert find_dataset("auto", cache=tmp_path).name == "synthetic"
    shutil.copytree(strips, tmp_path / "severstal")
    assert find_dataset("auto", cache=tmp_path) == OnDisk("severstal", tmp_path / "severstal")
    assert find_dataset("folder", "steel").name == "folder"


def test_auto_takes_the_layout_of_a_root(tmp_path: Path) -> None:
    (tmp_path / "steel" / "images").mkdir(parents=True)
    (tmp_path / "steel" / "masks").mkdir()
    found = find_dataset("auto", tmp_path / "steel", classes=["dent"])
    assert found == OnDisk("folder", tmp_path / "steel", ("dent",))
    with pytest.raises(DataError, match="contains no known data set layout"):
        find_dataset("auto", tmp_path / "steel" / "images")


def test_strips_are_not_drawn_among_other_files(tmp_path: Path) -> None:
    (tmp_path / "steel" / "images").mkdir(parents=True)
    with pytest.raises(
        ConfigError, match=r"data.root=.*steel: contains images, and data=synthetic"
    ):
        find_dataset("synthetic", tmp_path / "steel", n=8).read((32, 64))
    assert [path.name for path in (tmp_path / "steel").iterdir()] == ["images"]
    for seed in (0, 1):  # beside strips that were drawn there
        assert find_dataset("synthetic", tmp_path / "own", n=8, seed=seed).read((32, 64)).records


@pytest.mark.parametrize("name", ["severstal", "neu_seg", "synthetic", "auto"])
def test_class_names_are_for_folders(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.classes=\[a,b\]: data=\w+ has classes of its own"):
        find_dataset(name, cache=tmp_path, classes=["a", "b"])


def test_what_is_not_possible_is_said(strips: Path, tmp_path: Path) -> None:
    misspelt = DefectDataModule(OnDisk("sevrstal", strips), tmp_path)
    with pytest.raises(ConfigError, match="expected auto, synthetic, severstal"):
        misspelt.prepare_data()
    with pytest.raises(DataError, match="official"):
        module(strips, tmp_path, split="official")
    on_gpu = module(strips, tmp_path, residency="gpu")
    with pytest.raises(ConfigError, match=r"data\.residency=gpu"):
        on_gpu.train_dataloader()


@pytest.mark.slow
def test_official_part_of_neu_seg(real: Path, tmp_path: Path) -> None:
    data = DefectDataModule(OnDisk("neu_seg", real / "neu_seg"), tmp_path, split="official")
    data.prepare_data()
    data.setup()
    sizes = {subset: len(rows) for subset, rows in data.rows.items()}
    assert sizes["test"] == 840
    assert sizes["unused"] == 2466  # rotated copies of test images
    assert abs(sizes["val"] - (3630 - sizes["unused"]) / 8) < 4  # groups of four stay together
    assert sum(sizes.values()) == 4470
    assert not set(SimpleNamespace(**data.rows).test) & set(data.rows["train"])
    test_groups = data.split.query("subset == 'test'")["group"]
    kept = data.split.query("subset in ['train', 'val']")["group"]
    assert not set(test_groups) & set(kept)


def test_twenty_classes(tmp_path: Path) -> None:
    """More than fit in 16 bits: from masks to the tensors of a batch."""
    rng = np.random.default_rng(0)
    names = tuple(f"c{m}" for m in range(1, 21))
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for k in range(40):
        ids = np.zeros((32, 64), np.uint8)
        ids[8:20, 10:40] = k % 20 + 1
        Image.fromarray(rng.integers(0, 255, (32, 64), np.uint8)).save(tmp_path / f"images/{k}.png")
        Image.fromarray(ids).save(tmp_path / f"masks/{k}.png")
    data = DefectDataModule(OnDisk("folder", tmp_path, names), tmp_path, augment=Augment(0, 0))
    data.prepare_data()
    data.setup()
    assert data.pack.masks.dtype == np.uint32
    for batch in data.batches("train"):
        for k, name in enumerate(batch["id"]):
            m = int(name.removesuffix(".png")) % 20
            assert batch["label"][k].nonzero().flatten().tolist() == [m]
            assert batch["mask"][k].sum((1, 2)).tolist() == [360 * (c == m) for c in range(20)]
            assert batch["mask"][k, m, 8:20, 10:40].all()
