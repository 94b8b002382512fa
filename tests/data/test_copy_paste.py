"""Defects cut out of training images and pasted into others."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlunet.data.augment import Augment
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import OnDisk
from tlunet.data.sampling.copy_paste import (
    MARGIN,
    CopyPaste,
    Piece,
    cut_out,
    find_defects,
    paste_at,
)
from tlunet.errors import ConfigError


def module(root: Path, cache: Path, augment: Augment, **kwargs: object) -> DefectDataModule:
    data = DefectDataModule(OnDisk("severstal", root), cache, augment=augment, **kwargs)
    data.prepare_data()
    data.setup()
    return data


@pytest.fixture(scope="module")
def data(strips: Path, tmp_path_factory: pytest.TempPathFactory) -> DefectDataModule:
    return module(strips, tmp_path_factory.mktemp("packs"), CopyPaste(0, 0, 1.0), frac=0.5)


def test_each_defect_is_found_once_and_cut_out_whole(data: DefectDataModule) -> None:
    rows = data.rows["train"]
    for m in range(4):
        defects = find_defects(data.pack, rows, m)
        assert {d.row for d in defects} == set(rows[data.pack.mask_labels[rows, m]].tolist())
        covered = np.zeros_like(data.pack.masks)
        for defect in defects:
            piece = cut_out(data.pack, defect)
            top, left, bottom, right = defect.box
            assert piece.shape.any(1).sum() == bottom - top
            assert piece.shape.any(0).sum() == right - left
            assert (piece.bits[piece.shape] >> m & 1).all()
            above, beside = max(0, top - MARGIN), max(0, left - MARGIN)
            height, width = piece.shape.shape
            covered[defect.row, above : above + height, beside : beside + width] += piece.shape
        assert np.array_equal(covered[rows], data.pack.masks[rows] >> m & 1)  # none is missed


def test_a_piece_is_as_bright_as_its_new_place() -> None:
    image, bits = np.full((9, 9), 100, np.uint8), np.zeros((9, 9), np.uint8)
    shape = np.zeros((9, 9), bool)
    shape[3:6, 3:6] = True
    image[shape], bits[shape] = 120, 2
    below, none = np.full((20, 30), 150, np.uint8), np.zeros((20, 30), np.uint8)
    below[0, 0], none[10, 10], none[0, 0] = 9, 5, 1
    pasted, masks = paste_at(Piece(image, bits, shape), (6, 7), below, none)
    assert pasted[9:12, 10:13].tolist() == [[180] * 3] * 3  # a fifth brighter than around it
    changed = pasted != below
    assert changed[9:12, 10:13].all()
    assert changed.sum() == 9  # same brightness around it: no seam
    assert masks[9:12, 10:13].tolist() == [[2] * 3] * 3  # what was there is hidden
    assert masks[0, 0] == 1
    assert np.count_nonzero(masks) == 10
    assert (below[1:] == 150).all()  # the originals are left alone
    assert none[10, 10] == 5


def test_the_edge_is_feathered_over_two_pixels() -> None:
    image, bits = np.tile(np.uint8([[40], [60]]), (6, 12)), np.zeros((12, 12), np.uint8)
    shape = np.zeros((12, 12), bool)
    shape[4:8, 4:8] = True
    pasted, _ = paste_at(
        Piece(image, bits, shape), (0, 0), np.full((12, 12), 50, np.uint8), np.zeros_like(bits)
    )
    change = np.abs(pasted.astype(int) - 50)
    assert change[4:8, 4:8].tolist() == [[10] * 4] * 4
    assert 0 < change[5, 3] < 10
    assert change[5, 2] < change[5, 3]
    assert (change[:2] <= 0).all()


def test_on_a_defect_the_rest_of_the_image_says_how_bright() -> None:
    piece = Piece(np.full((4, 4), 100, np.uint8), np.zeros((4, 4), np.uint8), np.ones((4, 4), bool))
    image, bits = np.full((8, 8), 150, np.uint8), np.zeros((8, 8), np.uint8)
    image[:4, :4], bits[:4, :4] = 20, 1
    pasted, _ = paste_at(piece, (0, 0), image, bits)
    assert (pasted == 150).all()
    colour = Piece(np.full((4, 4, 3), 100, np.uint8), piece.bits, piece.shape)
    pasted, _ = paste_at(colour, (0, 0), np.repeat(image[..., None], 3, 2), bits)
    assert (pasted == 150).all()
    dark, _ = paste_at(piece, (4, 4), np.full((8, 8), 5, np.uint8), bits)
    assert dark[4:, 4:].tolist() == [[50] * 4] * 4  # no darker than by half


@given(st.integers(0, 100), st.integers(0, 100))
def test_what_does_not_fit_is_cut_off(height: int, width: int) -> None:
    from tlunet.data.sampling.copy_paste import _place

    shape = np.ones((height + 1, width + 1), bool)
    piece = Piece(shape.astype(np.uint8), shape.astype(np.uint8), shape)
    placed, (top, left) = _place(piece, (32, 48), np.random.default_rng(height + width))
    assert top + placed.shape.shape[0] <= 32
    assert left + placed.shape.shape[1] <= 48
    paste_at(placed, (top, left), np.zeros((32, 48), np.uint8), np.zeros((32, 48), np.uint8))


def test_rare_classes_are_drawn_more_often(data: DefectDataModule) -> None:
    augment = CopyPaste(0, 0, 1.0)
    augment.learn_from(data.pack, data.rows["train"])
    images = data.pack.mask_labels[data.rows["train"]].sum(0)
    weights = np.array([1 / np.sqrt(n) for n in images if n])
    assert augment._chances == pytest.approx(weights / weights.sum())


def test_masks_and_labels_follow(data: DefectDataModule) -> None:
    gained = 0
    for batch in data.batches("train"):
        present = batch["mask"].flatten(2).any(2).numpy()
        vanished = data.pack.labels & ~data.pack.mask_labels
        rows = batch["index"].numpy()
        assert np.array_equal(batch["label"].numpy(), present | vanished[rows])
        gained += int((present & ~data.pack.mask_labels[rows]).sum())
    assert gained > 0
    for batch in data.batches("val"):
        assert np.array_equal(batch["image"][:, 0], data.pack.images[batch["index"]])


def test_draws_follow_seed_epoch_and_image(strips: Path, tmp_path: Path) -> None:
    def images(workers: int, epoch: int, seed: int = 0, batch_size: int = 4) -> dict[str, bytes]:
        data = module(strips, tmp_path, CopyPaste(), workers=workers, seed=seed,
                      batch_size=batch_size)  # fmt: skip
        batches = list(data.batches("train", epoch))
        return {
            name: image.numpy().tobytes()
            for batch in batches
            for name, image in zip(batch["id"], batch["image"], strict=True)
        }

    first = images(0, 1)
    assert images(0, 1, batch_size=3) == first
    assert images(0, 2) != first
    assert images(0, 1, seed=1) != first


def test_only_training_images_of_the_fraction_are_cut_from(strips: Path, tmp_path: Path) -> None:
    data = module(strips, tmp_path, CopyPaste(0, 0, 1.0), frac=0.5, rest_batch_size=2)
    before = [batch["image"] for batch in data.batches("train")]
    other = module(strips, tmp_path, CopyPaste(0, 0, 1.0), frac=0.5, rest_batch_size=2)
    unseen = np.setdiff1d(np.arange(len(other.pack)), other.rows["train"])
    other.pack.masks = other.pack.masks.copy()
    other.pack.masks[unseen] = 15
    other.pack.images = other.pack.images.copy()
    other.pack.images[unseen] = 0
    after = list(other.batches("train"))
    assert all((a == b["image"]).all() for a, b in zip(before, after, strict=True))
    assert all((b["rest"]["image"] == 0).all() for b in after)  # nothing is pasted there


def test_wrong_values_are_told_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"augment.paste=2: expected a probability from 0 to 1"):
        CopyPaste(paste=2)
