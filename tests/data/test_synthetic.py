"""Synthetic strips: deterministic, according to plan, written atomically."""

import csv
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from tlunet.data import rle
from tlunet.data.readers import severstal
from tlunet.data.synthetic.generate import (
    BALANCES,
    CLASS_NAMES,
    NOTE,
    _name,
    draw,
    generate,
    plan_classes,
)
from tlunet.errors import DataError

SMALL = (32, 160)
FAMILIES = tuple(CLASS_NAMES)


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


# draw


@pytest.mark.parametrize("family", FAMILIES)
def test_draw_depends_on_its_arguments_alone(family):
    def one(index=3, seed=7):
        image, masks = draw(index, size=SMALL, seed=seed, classes=(1, 3), family=family)
        return image.tobytes() + masks.tobytes()

    first = one()
    np.random.default_rng().random(5)
    assert one() == first
    assert one(seed=8) != first
    assert one(index=4) != first


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [(16, 64), SMALL, (64, 400)])
def test_every_class_asked_for_is_there_and_no_other(family, size):
    for index in range(12):
        classes = plan_classes(20, seed=1)[index]
        image, masks = draw(index, size=size, seed=0, classes=classes, family=family)
        assert image.shape == size
        assert image.dtype == np.uint8
        assert masks.shape == (4, *size)
        assert masks.dtype == bool
        assert tuple(np.flatnonzero(masks.any((1, 2))) + 1) == classes


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("class_id", [1, 2, 3, 4])
def test_the_mask_lies_generously_around_what_changed(family, class_id):
    shares, contrast = [], []
    for index in range(8):
        plain, _ = draw(index, size=(64, 400), seed=2, classes=(), family=family)
        image, masks = draw(index, size=(64, 400), seed=2, classes=(class_id,), family=family)
        mask = masks[class_id - 1]
        change = np.abs(image.astype(int) - plain)  # surface and sensor noise are the same
        clear = change > 8
        shares.append(clear[mask].sum() / max(clear.sum(), 1))
        contrast.append(np.percentile(change[mask] / (plain[mask] + 10.0), 90))
        # As an annotator's outline: nothing thinner than three pixels.
        assert ndimage.binary_opening(mask, np.ones((3, 3))).sum() > 0.9 * mask.sum()
    assert min(shares) > (0.8 if family == "strips" else 0.55)  # blobs have soft edges
    assert np.median(contrast) > 0.2  # clearly visible


def test_the_shape_of_a_defect_does_not_depend_on_the_others():
    for class_id in (1, 2, 3, 4):
        alone = draw(5, size=SMALL, seed=0, classes=(class_id,))[1][class_id - 1]
        among = draw(5, size=SMALL, seed=0, classes=(1, 2, 3, 4))[1][class_id - 1]
        np.testing.assert_array_equal(alone, among)


@pytest.mark.parametrize("size", [(32, 64), (256, 1600)])
def test_pits_show_on_dark_patches(size):
    """Where a patch darkens the steel, pits on it are bright; dark ones would be invisible."""
    contrast = []
    for index in range(40):
        patch, masks = draw(index, size=size, seed=0, classes=(4,))
        both, both_masks = draw(index, size=size, seed=0, classes=(1, 4))
        inside = masks[3] & both_masks[0] & (patch < 50)
        if inside.sum() > 20:
            change = np.abs(both[inside].astype(float) - patch[inside])
            contrast.append(np.percentile(change, 90))
    assert len(contrast) >= 5
    assert np.median(contrast) > 25  # grey levels


def test_strips_sometimes_end_and_no_defect_lies_beside_them():
    ends = 0
    for index in range(40):
        plain, _ = draw(index, size=SMALL, seed=4, classes=())
        _, masks = draw(index, size=SMALL, seed=4, classes=(1, 2, 3, 4))
        beside = (plain < 20).all(0)  # dark columns
        ends += bool(beside.any())
        assert not masks[:, :, beside].any()
    assert 2 <= ends <= 14  # one in six: 6.7 expected


def test_areas_beside_the_real_ones():
    median = {}
    for class_id in (1, 2, 3, 4):
        areas = [
            draw(i, size=(256, 1600), seed=3, classes=(class_id,))[1][class_id - 1].mean()
            for i in range(8)
        ]
        median[class_id] = np.median(areas)
    # Severstal's medians are 0.7, 0.7, 2.5 and 6.2%. Pits and fine lines are drawn several times
    # as often as there, so that they can be learned within minutes.
    assert median[3] < median[4]
    for class_id, real, least, most in [
        (1, 0.007, 3, 6), (2, 0.007, 3, 7), (3, 0.025, 0.7, 2), (4, 0.062, 0.7, 2)
    ]:  # fmt: skip
        assert least < median[class_id] / real < most


@pytest.mark.skipif("TLUNET_REAL_DATA" not in os.environ, reason="TLUNET_REAL_DATA is not set")
def test_strips_lie_where_real_images_lie():
    sample = Path(os.environ["TLUNET_REAL_DATA"], "severstal_sample", "train_images")
    real = [np.asarray(Image.open(p).convert("L")) for p in sorted(sample.iterdir())[:12]]
    ours = [draw(i, size=(256, 1600), seed=6, classes=())[0] for i in range(5)]

    def noise(image):  # between neighbours along a row, robust
        return np.median(np.abs(np.diff(image.astype(int), axis=1)))

    for measure in (np.mean, noise):
        low, high = np.percentile([measure(i) for i in real], [0, 100])
        assert low <= np.median([measure(i) for i in ours]) <= high


def test_the_families_differ_in_texture():
    """Streaks are vertical: pixels are more similar to those above than to those at the side."""

    def streaks(family):
        values = []
        for index in range(12):
            image, _ = draw(index, size=(64, 400), seed=0, classes=(), family=family)
            inner = image[:, 160:240].astype(float)  # no strip ends here
            detail = inner - ndimage.gaussian_filter(inner, 8)  # without the light
            above, beside = (
                np.corrcoef(one.ravel(), two.ravel())[0, 1]
                for one, two in ((detail[6:], detail[:-6]), (detail[:, 6:], detail[:, :-6]))
            )
            values.append(above - beside)
        return np.median(values)

    assert streaks("strips") > 0.12
    assert abs(streaks("sheets")) < 0.06


def test_the_families_differ_in_defects_and_names():
    assert not set(CLASS_NAMES["strips"]) & set(CLASS_NAMES["sheets"])
    upright = {}
    for family in FAMILIES:
        boxes = []
        for index in range(12):
            mask = draw(index, size=(64, 400), seed=1, classes=(2,), family=family)[1][1]
            for rows, columns in ndimage.find_objects(ndimage.label(mask)[0]):
                boxes.append((rows.stop - rows.start) / (columns.stop - columns.start))
        upright[family] = np.median(boxes)
    assert upright["strips"] > 1.5 * upright["sheets"]


# plan_classes


@pytest.mark.parametrize("n", [192, 200, 208, 216, 256, 320, 512])
def test_even_gives_eight_test_images_of_every_class(n):
    counts = Counter(plan_classes(n, seed=0))
    assert sum(counts.values()) == n
    assert 0.16 <= counts[()] / n <= 0.18
    assert max(map(len, counts)) == 2  # a third or fourth class would cover other classes
    for class_id in (1, 2, 3, 4):
        share = sum(c for classes, c in counts.items() if class_id in classes) / n
        assert 0.32 <= share <= 0.35
        # A stratified subset keeps at least floor(12.5%) of the images of each set.
        assert sum(c // 8 for classes, c in counts.items() if class_id in classes) >= 8


def test_severstal_shares_are_the_published_ones():
    counts = Counter(plan_classes(12568, seed=0, balance="severstal"))
    assert counts == BALANCES["severstal"]
    by_class = [sum(c for classes, c in counts.items() if k in classes) for k in (1, 2, 3, 4)]
    assert by_class == [897, 247, 5150, 801]
    tenth = Counter(plan_classes(1257, seed=0, balance="severstal"))
    assert all(abs(tenth[s] - c / 10) < 1 for s, c in counts.items())


@pytest.mark.skipif("TLUNET_REAL_DATA" not in os.environ, reason="TLUNET_REAL_DATA is not set")
def test_severstal_shares_are_those_of_the_real_labels():
    table = Path(os.environ["TLUNET_REAL_DATA"], "severstal_sample", "labels_12568.csv")
    with table.open() as file:
        sets = Counter(
            tuple(k for k in (1, 2, 3, 4) if row[str(k)] == "1") for row in csv.DictReader(file)
        )
    assert sets == BALANCES["severstal"]


def test_the_seed_orders_the_plan_and_nothing_else():
    one, two = plan_classes(160, seed=1), plan_classes(160, seed=2)
    assert one == plan_classes(160, seed=1)
    assert one != two
    assert Counter(one) == Counter(two)


# generate


def test_the_reader_finds_what_was_drawn(tmp_path):
    root, n = tmp_path / "new" / "strips", 20
    seen = []
    generate(root, n=n, size=SMALL, seed=5, progress=seen.append)
    assert seen == list(range(1, n + 1))
    assert [p.name for p in root.parent.iterdir()] == ["strips"]
    assert root.stat().st_mode & 0o777 == root.parent.stat().st_mode & 0o777

    source = severstal.read(root)
    assert not source.problems
    assert [r.image_id for r in source.records] == sorted({r.image_id for r in source.records})
    assert len(source.records) == n
    assert all(len(r.image_id) == 13 and int(r.image_id[:9], 16) >= 0 for r in source.records)

    plan = plan_classes(n, seed=5)
    order = []
    by_name = {r.image_id: r for r in source.records}
    for index in range(n):
        record = by_name[_name(5, "strips", index)]
        order.append(record.image_id)
        image, masks = draw(index, size=SMALL, seed=5, classes=plan[index])
        written = np.asarray(Image.open(record.image))
        assert written.shape == SMALL
        assert np.abs(written.astype(int) - image).mean() < 6  # JPEG
        assert tuple(class_id for class_id, *_ in record.runs) == plan[index]
        for class_id, runs, *_ in record.runs:
            np.testing.assert_array_equal(rle.decode(runs, SMALL), masks[class_id - 1])
    assert order != sorted(order)  # the listing is not in the order of drawing


def test_bytes_do_not_depend_on_the_number_of_workers(tmp_path):
    for workers in (1, 2):
        generate(
            tmp_path / str(workers), n=20, size=SMALL, seed=1, family="sheets", workers=workers
        )
    assert files(tmp_path / "1") == files(tmp_path / "2")
    generate(tmp_path / "other", n=20, size=SMALL, seed=2, family="sheets")
    assert not files(tmp_path / "other").keys() - {"train.csv", NOTE} & files(tmp_path / "1").keys()


def test_names_never_collide():
    names = {_name(3, "strips", index) for index in range(12_568)}
    assert len(names) == 12_568
    assert {len(name) for name in names} == {13}


def test_a_crash_leaves_nothing_and_the_next_run_works(tmp_path):
    root = tmp_path / "strips"

    def crash(done):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(root, n=6, size=SMALL, seed=0, progress=crash)
    assert list(tmp_path.iterdir()) == []
    generate(root, n=6, size=SMALL, seed=0)
    assert len(list((root / "train_images").iterdir())) == 6


def test_an_existing_folder_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(DataError, match="mine: already exists; remove it"):
        generate(tmp_path / "mine", n=2, size=SMALL, seed=0)
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize("same", [True, False])
def test_of_two_processes_at_once_the_first_wins(tmp_path, same):
    root = tmp_path / "strips"

    def other(done):
        if done == 4:
            generate(root, n=4, size=SMALL, seed=0 if same else 1)

    if same:
        generate(root, n=4, size=SMALL, seed=0, progress=other)
    else:
        with pytest.raises(OSError, match="not empty"):
            generate(root, n=4, size=SMALL, seed=0, progress=other)
    assert [p.name for p in tmp_path.iterdir()] == ["strips"]
    assert len(list((root / "train_images").iterdir())) == 4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n": 0}, "n=0: expected 1 or more"),
        ({"size": (8, 160)}, r"size=\(8, 160\): expected .* at least \(16, 64\)"),
        ({"seed": -1}, "seed=-1: expected 0 or more"),
        ({"balance": "fair"}, "balance='fair': expected one of even, severstal"),
        ({"family": "rails"}, "family='rails': expected one of strips, sheets"),
        ({"workers": 0}, "workers=0: expected 1 or more"),
    ],
)
def test_bad_arguments_name_what_is_allowed(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        generate(tmp_path / "x", **{"n": 2, "size": SMALL, "seed": 0, **wrong})
    assert list(tmp_path.iterdir()) == []


def test_bad_classes_and_indices_are_refused():
    with pytest.raises(ValueError, match=r"classes=\[0, 5\]: expected class ids from 1, 2, 3, 4"):
        draw(0, size=SMALL, seed=0, classes=(5, 0))
    with pytest.raises(ValueError, match="index=-1: expected 0 or more"):
        draw(-1, size=SMALL, seed=0, classes=())
