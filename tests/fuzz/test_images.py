"""Any bytes as an image or a mask give either pixels or a one-line error."""

import io
from pathlib import Path

import numpy as np
import pytest
from fuzz.mutations import fuzz, spoilt
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tlunet.data.readers.pixels import read_image, read_mask, read_size
from tlunet.data.source import Record
from tlunet.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about odd tags

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8))


def encoded(mode: str, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    PICTURE.convert(mode).save(file, kind, **options)
    return file.getvalue()


ORIGINALS = [
    encoded("L", "JPEG"),
    encoded("RGB", "JPEG", progressive=True),
    encoded("RGB", "JPEG", exif=Image.Exif()),
    encoded("L", "PNG"),
    encoded("P", "PNG", transparency=3),
    encoded("RGBA", "PNG"),
    encoded("L", "PNG", save_all=True, append_images=[PICTURE.convert("L")]),
    encoded("L", "BMP"),
    encoded("RGB", "TIFF", compression="tiff_lzw"),
    encoded("L", "TIFF", save_all=True, append_images=[PICTURE.convert("L")]),
    encoded("L", "GIF"),
]
IDS = [encoded("L", "PNG"), encoded("1", "PNG"), encoded("P", "PNG"), encoded("RGB", "PNG")]


@fuzz
@given(st.one_of(spoilt(ORIGINALS), spoilt(ORIGINALS), st.binary(max_size=60)))
def test_an_image(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.jpg"
    path.write_bytes(content)
    try:
        pixels = read_image(path)
    except DataError as error:
        assert_one_line(error)
        return
    assert pixels.dtype == np.uint8
    assert pixels.shape[2:] in ((), (3,))
    assert pixels.size
    assert read_size(path) == pixels.shape[:2]


@fuzz
@given(spoilt(IDS), st.integers(1, 32))
def test_a_mask(tmp_path_factory: pytest.TempPathFactory, content: bytes, classes: int) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.png"
    path.write_bytes(content)
    try:
        bits = read_mask(Record("a", Path("a"), mask=path), (12, 16), classes)
    except DataError as error:
        assert_one_line(error, f"{path}: ")
        return
    assert (bits.shape, bits.dtype) == ((12, 16), np.uint32)
    assert int(bits.max()) < 1 << classes


def assert_one_line(error: DataError, begins: str = "") -> None:
    [line] = error.lines
    assert line.startswith(begins)
    assert line.isprintable()
    assert len(line) < 300
