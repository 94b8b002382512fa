import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from specks import SMALL, write_specks
from tlunet.data import rle
from tlunet.data.bits import resize_mask
from tlunet.data.grouping import duplicates
from tlunet.data.pack import build as packing
from tlunet.data.pack import place as decoding
from tlunet.data.pack.pack import Pack, open_pack
from tlunet.data.readers import folder, severstal
from tlunet.data.readers.pixels import read_image, read_mask
from tlunet.errors import ConfigError, DataError


def test_pack_holds_the_images_and_masks(strips: Path, tmp_path: Path) -> None:
    source = severstal.read(strips)
    pack = open_pack(source, tmp_path)
    assert pack.images.shape == pack.masks.shape == (24, 32, 64)
    assert pack.masks.dtype == np.uint8
    for i, record in enumerate(source.records):
        assert pack.index["image_id"][i] == record.image_id
        assert np.array_equal(pack.images[i], read_image(record.image))
        bits = read_mask(record, (32, 64), 4)
        assert np.array_equal(pack.masks[i], bits)
        present = [bool((bits & (1 << m)).any()) for m in range(4)]
        assert pack.labels[i].tolist() == present
    rows = np.arange(5, 11)
    mean, std = pack.mean_std(rows)
    pixels = np.asarray(pack.images[rows], float)
    assert (mean[0], std[0]) == pytest.approx((pixels.mean(), pixels.std()))


def test_another_process_gets_the_folder_not_the_pixels(strips: Path, tmp_path: Path) -> None:
    pack = open_pack(severstal.read(strips), tmp_path)
    sent = pickle.dumps(pack)
    assert len(sent) < 1000
    there = pickle.loads(sent)
    assert isinstance(there.images, np.memmap)
    assert np.array_equal(there.images, pack.images)
    assert there.fingerprint == pack.fingerprint


def test_pack_is_reused_and_rebuilt_when_a_file_changes(strips: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(strips, root)
    calls: list[int] = []

    def report(what: str, done: int, total: int) -> None:
        calls.append(done)

    first = open_pack(severstal.read(root), tmp_path / "packs", progress=report)
    assert len(calls) == 24
    again = open_pack(severstal.read(root), tmp_path / "packs", progress=report)
    assert len(calls) == 24
    assert again.fingerprint == first.fingerprint
    victim = next((root / "train_images").iterdir())
    Image.new("L", (64, 32)).save(victim)
    changed = open_pack(severstal.read(root), tmp_path / "packs", progress=report)
    assert len(calls) == 48
    assert changed.fingerprint != first.fingerprint


def test_another_image_of_equal_size_and_time_is_noticed(tmp_path: Path) -> None:
    """What an archive or a synchronisation leaves: only the time of the change tells them apart."""
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    image = tmp_path / "images/a.bmp"
    Image.new("L", (8, 8), 1).save(image)
    Image.new("L", (8, 8), 1).save(tmp_path / "masks/a.png")
    source = folder.read(tmp_path, classes=["x"])
    before, stat = open_pack(source, tmp_path / "packs"), image.stat()
    Image.new("L", (8, 8), 2).save(image)
    os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (image.stat().st_size, image.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    after = open_pack(source, tmp_path / "packs")
    assert (before.images[0, 0, 0], after.images[0, 0, 0]) == (1, 2)
    assert after.fingerprint != before.fingerprint


def test_a_moved_folder_is_not_packed_again(strips: Path, tmp_path: Path) -> None:
    shutil.copytree(strips, tmp_path / "here")
    before = open_pack(severstal.read(tmp_path / "here"), tmp_path / "packs")
    (tmp_path / "here").rename(tmp_path / "there")
    assert open_pack(severstal.read(tmp_path / "there"), tmp_path / "packs").folder == before.folder


def test_fingerprint_does_not_depend_on_where_the_data_lie(strips: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(strips, copy, copy_function=shutil.copy)  # with other times
    packs = [open_pack(severstal.read(r), tmp_path / "packs") for r in (strips, copy)]
    assert packs[0].fingerprint == packs[1].fingerprint
    assert packs[0].folder != packs[1].folder


def test_all_faults_are_listed_in_one_pass_and_nothing_is_left(
    strips: Path, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(strips, root)
    names = sorted(p.name for p in (root / "train_images").iterdir())
    truncated, other_size, odd_runs = names[:3]
    path = root / "train_images" / truncated
    path.write_bytes(path.read_bytes()[:200])
    Image.new("L", (50, 40)).save(root / "train_images" / other_size)
    table = (root / "train.csv").read_text().splitlines()
    table = [line for line in table if not line.startswith((truncated, other_size, odd_runs))]
    (root / "train.csv").write_text("\n".join([*table, f"{odd_runs},1,5 3 9", f"{odd_runs},9,1 1"]))

    with pytest.raises(DataError) as caught:  # the problems of the listing and of the files
        open_pack(severstal.read(root), tmp_path / "packs")
    text = str(caught.value)
    assert "class '9'; expected 1 to 4" in text
    assert f"{truncated}: cannot be read as an image" in text
    (root / "train.csv").write_text("\n".join([*table, f"{odd_runs},1,5 3 9"]))
    with pytest.raises(DataError) as caught:
        open_pack(severstal.read(root), tmp_path / "packs")
    assert len(caught.value.lines) == 3
    text = str(caught.value)
    assert f"{truncated}: cannot be read as an image" in text
    assert f"{other_size}: image of 40×50 (height × width), most are 32×64" in text
    assert "data.size=[32,64]" in text
    assert f"train.csv row {len(table) + 1}: " in text
    assert not list((tmp_path / "packs").glob("severstal-*/"))

    pack = open_pack(severstal.read(root), tmp_path / "packs", on_error="skip")
    assert len(pack) == 21
    assert len(pack.left_out) == 3
    assert not set(names[:3]) & set(pack.index["image_id"])


def test_resizing_brings_all_to_one_size(tmp_path: Path) -> None:
    for name, size in {"a": (64, 32), "b": (128, 96)}.items():
        for part, suffix in (("images", "jpg"), ("masks", "png")):
            (tmp_path / part).mkdir(exist_ok=True)
            image = Image.new("L", size, 0)
            image.paste(2 if part == "masks" else 200, (0, 0, size[0] // 2, size[1]))
            image.save(tmp_path / part / f"{name}.{suffix}")
    source = folder.read(tmp_path, classes=["x", "left"])
    with pytest.raises(DataError, match="resizes all"):
        open_pack(source, tmp_path / "packs")
    pack = open_pack(source, tmp_path / "packs", size=(48, 40))
    assert pack.size == (48, 40)
    for mask in pack.masks:  # the left half stays the left half, ids stay ids
        assert (mask[:, :20] == 0b10).all()
        assert (mask[:, 20:] == 0).all()
    assert pack.index["height"].tolist() == [32, 96]


def test_labels_are_those_of_the_native_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, group = [], duplicates.group
    monkeypatch.setattr(duplicates, "group", lambda t: (found.append(np.array(t)), group(t))[1])
    source = severstal.read(write_specks(tmp_path / "data"))
    small, native = (open_pack(source, tmp_path, size=size) for size in (SMALL, None))
    assert small.labels.sum(0).tolist() == native.labels.sum(0).tolist() == [8, 8, 0, 0]
    assert small.mask_labels.sum(0).tolist() == [8, 0, 0, 0]
    assert np.array_equal(native.mask_labels, native.labels)
    assert not np.any(small.masks & 0b10)
    assert np.array_equal(*found)  # thumbnails of the images as stored


def test_real_masks_that_vanish(real: Path) -> None:
    """Masks of 900 defective strips at the default size of the synthetic strips."""
    table = pd.read_csv(real / "severstal_sample" / "rle_900.csv")
    lost = [
        not resize_mask(rle.decode(runs, (256, 1600)), (32, 64)).any()
        for runs in table["EncodedPixels"]
    ]
    assert table["ClassId"].value_counts().sort_index().tolist() == [180, 60, 750, 296]
    assert table.assign(lost=lost).groupby("ClassId")["lost"].sum().tolist() == [5, 12, 21, 0]


def test_one_colour_image_keeps_all_in_colour(strips: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(strips, root)
    last = sorted((root / "train_images").iterdir())[-1]
    Image.new("RGB", (64, 32), (250, 10, 10)).save(last)
    pack = open_pack(severstal.read(root), tmp_path / "packs")
    assert pack.images.shape == (24, 32, 64, 3)
    assert (pack.images[0][..., 0] == pack.images[0][..., 1]).all()
    red, green, _ = pack.mean_std(np.arange(24))[0]
    assert red > green


@pytest.mark.parametrize(("classes", "kind"), [(8, "uint8"), (9, "uint16"), (17, "uint32")])
def test_bit_fields_grow_with_the_classes(tmp_path: Path, classes: int, kind: str) -> None:
    ids = np.full((4, 5), classes, np.uint8)
    ids[0] = 1
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        Image.fromarray(ids).save(tmp_path / part / "a.png")
    pack = open_pack(folder.read(tmp_path, classes=[f"c{m}" for m in range(classes)]), tmp_path)
    assert pack.masks.dtype == kind
    assert pack.masks[0, 1, 0] == 1 << (classes - 1)
    assert pack.labels[0].nonzero()[0].tolist() == [0, classes - 1]


def test_more_classes_than_bits(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "images/a.png")
    with pytest.raises(ConfigError, match="33 classes; at most 32"):
        open_pack(folder.read(tmp_path, classes=[str(m) for m in range(33)]), tmp_path)


def test_the_real_strips(real: Path, tmp_path: Path) -> None:
    pack = open_pack(severstal.read(real / "severstal_sample"), tmp_path)
    assert pack.images.shape == (25, 256, 1600)
    assert pack.labels.sum(0).tolist() == [2, 0, 6, 4]


# --- interrupted ------------------------------------------------------------------------------

BUILD = """
import sys, time
from pathlib import Path
from tlunet.data.pack import build
from tlunet.data.pack.pack import open_pack
from tlunet.data.readers import severstal

def progress(what, done, total):
    print(done, flush=True)
    time.sleep(0.01)

if __name__ == "__main__":
    build.MOST, build.PROCESSES_FROM = 2, float(sys.argv[3])
    open_pack(severstal.read(Path(sys.argv[1])), Path(sys.argv[2]), progress=progress)
"""


def contents(pack: Pack) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in pack.folder.iterdir()}


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images decoded by this process, two per batch."""
    names: list[str] = []
    decode = decoding.decode
    monkeypatch.setattr(packing, "MOST", 2)
    monkeypatch.setattr(
        decoding,
        "decode",
        lambda record, *rest: (
            names.append(record.image_id),
            decode(record, *rest),
        )[1],
    )
    return names


def test_killed_at_any_moment_and_built_again(strips: Path, tmp_path: Path) -> None:
    source, cache = severstal.read(strips), tmp_path / "packs"
    whole = contents(open_pack(source, tmp_path / "undisturbed"))
    script = tmp_path / "build.py"
    script.write_text(BUILD)
    random = np.random.default_rng()
    for processes_from in ("inf", "0"):  # threads, processes
        arguments = [sys.executable, script, strips, cache, processes_from]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as build:
            assert build.stdout
            for _ in range(random.integers(1, 5)):
                build.stdout.readline()
            time.sleep(random.uniform(0, 0.02))
            build.kill()
        assert list(cache.glob("*.part"))
        assert not list(cache.glob("*/pack.json"))
    assert contents(open_pack(source, cache)) == whole
    assert not list(cache.glob("*.part"))


def test_an_interrupted_build_leaves_nothing(strips: Path, tmp_path: Path) -> None:
    def progress(what: str, done: int, total: int) -> None:
        if done == 17:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_pack(severstal.read(strips), tmp_path, progress=progress)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_a_few_batches_are_held_and_no_more(
    strips: Path, tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "cores", lambda: 1)
    most = 0

    def progress(what: str, done: int, total: int) -> None:
        nonlocal most
        if done % 8 == 1:
            time.sleep(0.1)  # the workers run as far ahead as they may
        most = max(most, len(decoded) - done)

    open_pack(severstal.read(strips), tmp_path, progress=progress)
    assert 2 <= most <= 8  # two batches of two wait, one is in progress, one is being consumed
