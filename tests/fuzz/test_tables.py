"""Any table and any run-length code is either read or reported row by row."""

from pathlib import Path

import numpy as np
import pytest
from fuzz.mutations import fuzz, spoilt
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from tlunet.data.checks.examine import examine
from tlunet.data.readers import severstal
from tlunet.data.rle import decode, encode, parse
from tlunet.errors import DataError

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.csv"))
SOUND = b"ImageId,ClassId,EncodedPixels\na.jpg,1,1 3 9 2\na.jpg,4,40 1\nc d.jpg,2,5 5\n"
FOUR = b"ImageId_ClassId,EncodedPixels\na.jpg_1,1 3\na.jpg_2,\na.jpg_3,\na.jpg_4,7 7\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tables")
    (root / "train_images").mkdir()
    for name in ("a.jpg", "b.jpg", "c d.jpg"):
        Image.new("L", (8, 8), 77).save(root / "train_images" / name)
    return root


def look(root: Path, table: bytes) -> None:
    """Check that a table gives valid images and problems, which together cover all images."""
    (root / "train.csv").write_bytes(table)
    try:
        source = severstal.read(root)
    except DataError as error:
        [line] = error.lines
        assert line.startswith(f"{root}/train.csv")
        assert line.isprintable()
        assert len(line) < 500
        return
    findings = examine(source)
    bad = {problem.image_id for problem in findings.problems}
    assert {r.image_id for r in findings.records} == {r.image_id for r in source.records} - bad
    for problem in findings.problems:
        line = str(problem)
        assert line.startswith(f"{root}/train.csv row ")
        assert line.isprintable()
        assert len(line) < 500


@fuzz
@given(spoilt([SOUND, FOUR]))
def test_spoilt_bytes(root: Path, table: bytes) -> None:
    look(root, table)


CELL = st.one_of(
    st.sampled_from(["a.jpg", "b.jpg", "../a.jpg", "", "1", "4", "5", "1 3", "1 3 2 9", "1.0"]),
    st.sampled_from(["nan", "-1 5", "64 2", '"', '1 "3', "\ufeff", "１", "a.jpg_1", "1" * 40]),
    st.text(max_size=8),
)


@fuzz
@given(
    header=st.sampled_from([SOUND.splitlines()[0].decode(), FOUR.splitlines()[0].decode()]),
    rows=st.lists(st.lists(CELL, max_size=4), max_size=6),
    separator=st.sampled_from([",", ",", ",", ";", "\t"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_odd_cells(
    root: Path, header: str, rows: list[list[str]], separator: str, end: str
) -> None:
    lines = [header, *(separator.join(row) for row in rows)]
    look(root, end.join(lines).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("file", CORPUS, ids=lambda path: path.stem)
def test_the_corpus(root: Path, file: Path) -> None:
    look(root, file.read_bytes())


NUMBER = st.one_of(
    st.integers(-3, 90).map(str),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(
        ["+1", "007", "1e3", "0x1", "inf", "nan", "1_0", "١", "½", "1.", "-0", "", "#"]
    ),
)


@fuzz
@given(st.one_of(st.text(max_size=30), st.lists(NUMBER, max_size=8).map(" ".join)))
@example("9223372036854775807 1")
@example("1 9223372036854775807")
@example("9999999999999999 9999999999999999")
def test_any_runs(runs: str) -> None:
    try:
        mask = decode(runs, (8, 10))
    except ValueError as error:
        said = str(error)
        mask = None
    if mask is None:
        assert "\n" not in said
        assert len(said) < 300
        return
    assert mask.shape == (8, 10)
    starts, lengths = parse(runs)
    assert mask.sum() == lengths.sum()
    assert mask.ravel("F")[starts - 1].all()
    np.testing.assert_array_equal(decode(encode(mask), (8, 10)), mask)


@fuzz
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), max_size=6))
def test_sound_runs_are_read_as_they_were_meant(steps: list[tuple[int, int]]) -> None:
    """Alternating gaps and lengths, ascending by construction."""
    runs, pixels, at = [], np.zeros(160, bool), 0
    for gap, length in steps:
        at += gap
        runs += [at, length]
        pixels[at - 1 : at - 1 + length] = True
        at += length
    text = " ".join(map(str, runs))
    if at - 1 > 160:
        with pytest.raises(ValueError, match="the image of 16 x 10 has 160 pixels"):
            decode(text, (16, 10))
    else:
        np.testing.assert_array_equal(decode(text, (16, 10)).ravel("F"), pixels)
