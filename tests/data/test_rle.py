"""Run-length encoding: hand-computed tables, random masks, real masks, every error."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from tlunet.data.rle import decode, encode

# Pixels of a 3 × 4 image:  1 4 7 10 / 2 5 8 11 / 3 6 9 12.
TABLE = [
    ("", ["....", "....", "...."]),
    ("1 1", ["#...", "....", "...."]),
    ("2 1", ["....", "#...", "...."]),
    ("4 1", [".#..", "....", "...."]),
    ("12 1", ["....", "....", "...#"]),
    ("3 2", [".#..", "....", "#..."]),
    ("5 4", ["..#.", ".##.", ".#.."]),
    ("1 12", ["####", "####", "####"]),
    ("1 1 3 1 10 3", ["#..#", "...#", "#..#"]),
]


def _mask(rows: list[str]) -> np.ndarray:
    return np.array([[pixel == "#" for pixel in row] for row in rows])


@pytest.mark.parametrize(("runs", "rows"), TABLE)
def test_table(runs: str, rows: list[str]) -> None:
    mask = decode(runs, (3, 4))
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, _mask(rows))
    assert encode(_mask(rows)) == runs
    assert encode(_mask(rows).astype(np.uint8) * 255) == runs


def test_touching_runs_are_legal_and_written_as_one() -> None:
    np.testing.assert_array_equal(decode("2 2 4 1", (3, 4)), decode("2 3", (3, 4)))
    assert encode(decode("2 2 4 1", (3, 4))) == "2 3"


def test_spaces_do_not_matter() -> None:
    np.testing.assert_array_equal(decode("  2  2\n", (3, 4)), decode("2 2", (3, 4)))


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_round_trip(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(decode(encode(mask), mask.shape), mask)


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=6)))
def test_agrees_with_a_loop(mask: np.ndarray) -> None:
    height, width = mask.shape
    runs: list[list[int]] = []
    for pixel in range(height * width):
        if mask[pixel % height, pixel // height]:
            if runs and sum(runs[-1]) == pixel + 1:
                runs[-1][1] += 1
            else:
                runs.append([pixel + 1, 1])
    assert encode(mask) == " ".join(f"{start} {length}" for start, length in runs)


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ("1 2 3", r"3 values, an odd number \(the last is 3\)"),
        ("1 x", "value 2 is 'x': expected an integer"),
        ("1.5 2", "value 1 is '1.5': expected an integer"),
        ("1 nan", "value 2 is 'nan': expected an integer"),
        ("1_0 1", "value 1 is '1_0': expected an integer"),
        ("9" * 30 + " 1", "value 1 is '9+': expected an integer of at most 16 digits"),
        ("0 2", r"run 1 \(start 0, length 2\) starts before the image"),
        ("2 1 -4 2", r"run 2 \(start -4, length 2\) starts before the image"),
        ("3 0", r"run 1 \(start 3, length 0\) is empty: expected a length of at least 1"),
        ("3 -1", r"run 1 \(start 3, length -1\) is empty: expected a length of at least 1"),
        ("11 3", "ends at pixel 13: the image of 3 x 4 has 12 pixels"),
        ("13 1", "ends at pixel 13: the image of 3 x 4 has 12 pixels"),
        (
            "2 3 4 1",
            r"run 2 \(start 4, length 1\) overlaps run 1 \(start 2, length 3\), which ends at",
        ),
        ("2 1 2 1", "run 2 .* overlaps run 1"),
        ("1 1 9 1 5 2", r"run 3 .* comes after run 2 .*: runs must be in ascending order"),
    ],
)
def test_faults(runs: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as fault:
        decode(runs, (3, 4))
    assert "\n" not in str(fault.value)


def test_encode_wants_two_axes() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 2, 2\): expected two axes"):
        encode(np.zeros((1, 2, 2)))


def test_real_masks(real: Path) -> None:
    with (real / "severstal_sample" / "rle_900.csv").open() as file:
        masks = [row["EncodedPixels"] for row in csv.DictReader(file)]
    assert len(masks) == 1286
    for runs in masks:  # all are in canonical form
        mask = decode(runs, (256, 1600))
        assert mask.sum() == sum(int(length) for length in runs.split()[1::2])
        assert encode(mask) == runs
