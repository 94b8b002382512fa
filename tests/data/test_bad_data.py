"""Each kind of bad data, alone in a valid data set: reported in one line, skipped on request."""

import os
import shutil
import subprocess
import sys
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from tlunet.data.pack.pack import open_pack
from tlunet.data.readers import folder, severstal
from tlunet.data.readers.pixels import read_image
from tlunet.data.source import Source
from tlunet.errors import DataError

Change = Callable[[Path], object]
Run = Callable[..., subprocess.CompletedProcess[str]]
SIZE = (64, 32)  # width, height
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 255, (32, 64), np.uint8)


def victim(root: Path) -> Path:
    """The image of a data set that a test damages."""
    return sorted((root / "train_images").iterdir())[0]


def image(save: Callable[[Path], object]) -> Change:
    return lambda root: save(victim(root))


def saved(picture: Image.Image, kind: str, **options: object) -> Change:
    return image(lambda path: picture.save(path, kind, **options))


def row(text: str) -> Change:
    """Append a row; in it, {image} is the victim's name, which has no other row."""

    def change(root: Path) -> None:
        name, table = victim(root).name, root / "train.csv"
        kept = [line for line in table.read_text().splitlines() if not line.startswith(name)]
        table.write_text("\n".join([*kept, text.replace("{image}", name)]) + "\n")

    return change


def cut(path: Path) -> None:
    Image.fromarray(NOISE).save(path)
    os.truncate(path, path.stat().st_size // 2)


def exif(path: Path) -> None:
    notes = Image.Exif()
    notes[0x0112] = 6
    Image.fromarray(NOISE).save(path, exif=notes)


def bomb(path: Path) -> None:
    """A small PNG whose header says 20,000 × 20,000."""
    Image.new("L", (64, 64)).save(path, "PNG")
    content = bytearray(path.read_bytes())
    content[16:24] = (20_000).to_bytes(4) * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4)
    path.write_bytes(content)


def deep_colour(path: Path) -> None:
    """A TIFF with 16 bits per channel; Pillow itself would reduce it to 8."""
    tags = ImageFileDirectory_v2()
    tags[258] = (16, 16, 16)
    Image.new("RGB", SIZE).save(path, "TIFF", tiffinfo=tags)
    content = path.read_bytes()
    # Pillow writes 8 bits, so the tag is changed in the file.
    eight, sixteen = np.array([8, 8, 8], "<u2").tobytes(), np.array([16, 16, 16], "<u2").tobytes()
    assert content.count(eight) == 1
    path.write_bytes(content.replace(eight, sixteen) + bytes(64 * 32 * 3))


def link_out(path: Path) -> None:
    secret = path.parents[2] / "secret.jpg"
    shutil.move(path, secret)
    path.symlink_to(secret)


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


IMAGES = {
    "truncated": (image(cut), "cannot be read as an image (image file is truncated"),
    "no bytes": (image(lambda p: p.write_bytes(b"")), "(the file is empty)"),
    "text": (image(lambda p: p.write_text("hello" * 99)), "content is not JPEG or PNG or BMP or"),
    "pcx": (saved(Image.new("L", SIZE), "PCX"), "content is not JPEG or PNG or BMP or TIFF"),
    "16 bits PPM": (
        image(lambda p: p.write_bytes(b"P6 64 32 65535\n" + b"\0" * 6 * 64 * 32)),
        "16 bits per channel; expected 8 bits per channel",
    ),
    "eps": (image(lambda p: p.write_text("%!PS-Adobe-3.0 EPSF-3.0\n")), "content is not JPEG"),
    "other size": (saved(Image.new("L", (50, 40)), "JPEG"), "image of 40×50 (height × width), mo"),
    "16 bits": (saved(Image.new("I;16", SIZE), "PNG"), "mode I;16; expected 8 bits per channel"),
    "16 bits RGB": (image(deep_colour), "16 bits per channel; expected 8 bits per channel"),
    "float": (saved(Image.new("F", SIZE), "TIFF"), "mode F; expected 8 bits per channel"),
    "cmyk": (saved(Image.new("CMYK", SIZE), "JPEG"), "mode CMYK; expected 8 bits per channel"),
    "alpha": (saved(Image.new("RGBA", SIZE, (9, 9, 9, 99)), "PNG"), "partly transparent"),
    "animated": (
        saved(Image.new("L", SIZE), "PNG", save_all=True, append_images=[Image.new("L", SIZE, 9)]),
        "contains 2 images; expected one",
    ),
    "pages": (
        saved(Image.new("L", SIZE), "TIFF", save_all=True, append_images=[Image.new("L", SIZE)]),
        "contains 2 images; expected one",
    ),
    "bomb": (image(bomb), "more than 89 million pixels"),
    "turned": (image(exif), "EXIF orientation 6: viewers rotate it"),
    "link out": (image(link_out), "a link out of "),
    "link to itself": (
        image(lambda p: (p.unlink(), p.symlink_to(p))),
        "cannot be accessed",
    ),
    "broken link": (
        image(lambda p: (p.unlink(), p.symlink_to("gone.jpg"))),
        "not a file or a link to one",
    ),
    "pipe": (image(lambda p: (p.unlink(), os.mkfifo(p))), "not a file or a link to one"),
}  # fmt: skip

ROWS = {
    "odd runs": ("{image},1,1 5 9", "3 values, an odd number (the last is 9)"),
    "start zero": ("{image},1,0 5", "starts before the image: pixels are counted from 1"),
    "negative start": ("{image},1,-3 5", "starts before the image"),
    "length zero": ("{image},1,3 0", "is empty: expected a length of at least 1"),
    "negative length": ("{image},1,3 -5", "is empty: expected a length of at least 1"),
    "overlap": ("{image},1,1 5 3 5", "overlaps run 1"),
    "order": ("{image},1,9 2 1 2", "runs must be in ascending order"),
    "past the end": ("{image},1,2040 20", "ends at pixel 2059: the image of 32 x 64 has 2048"),
    "word": ("{image},1,one 5", "value 1 is 'one': expected an integer"),
    "unicode digits": ("{image},1,１ ５", "value 1 is '１': expected an integer"),
    "inf": ("{image},1,1 inf", "value 2 is 'inf': expected an integer"),
    "nan": ("{image},1,nan 1", "value 1 is 'nan': expected an integer"),
    "exponent": ("{image},1,1e3 1", "value 1 is '1e3': expected an integer"),
    "huge": ("{image},1,1 " + "9" * 5000, "expected an integer of at most 16 digits"),
    "large": ("{image},1,1 9999999999999999", "ends at pixel 9999999999999999"),
    "class 5": ("{image},5,1 5", "class '5'; expected 1 to 4"),
    "class 0": ("{image},0,1 5", "class '0'; expected 1 to 4"),
    "class 1.0": ("{image},1.0,1 5", "class '1.0'; expected 1 to 4"),
    "class １": ("{image},１,1 5", "class '１'; expected 1 to 4"),
    "no class": ("{image},,1 5", "class ''; expected 1 to 4"),
    "twice": ("{image},1,1 5\n{image},1,9 5", "has class 1 twice (first in row"),
    "short": ("{image},1", "2 values; expected 3: ImageId,ClassId,EncodedPixels"),
    "long": ("{image},1,1 5,", "4 values; expected 3: ImageId,ClassId,EncodedPixels"),
}
STRAY_ROWS = {
    "unknown image": ("ghost.jpg,1,1 5", "image 'ghost.jpg' is not in"),
    "long name": ("g" * 100_000 + ",1,1 5", "ggg…' is not in"),
    "outside": ("../../etc/passwd,1,1 5", "expected the name of a file in train_images"),
    "absolute": ("/etc/passwd,1,1 5", "expected the name of a file in train_images"),
    "backslashes": ("..\\..\\a.jpg,1,1 5", "expected the name of a file in train_images"),
    "drive": ("C:\\data\\a.jpg,1,1 5", "is not in"),
    "below": ("train_images/{image},1,1 5", "is not in"),
    "steers the terminal": ("\x1b[2Jghost.jpg,1,1 5", r"'\x1b[2Jghost.jpg' is not in"),
}

TABLES = {
    "empty": (b"", "row 1: columns (none); expected ImageId,ClassId,EncodedPixels or ImageId_Cl"),
    "no row": (b"ImageId,ClassId,EncodedPixels\n", "no rows below the header; expected one row"),
    "other columns": (b"a,b\n1,2\n", "row 1: columns a,b; expected ImageId,ClassId,EncodedPixels"),
    "a column missing": (b"ImageId,ClassId\na,1\n", "row 1: columns ImageId,ClassId; expected"),
    "a column more": (b"ImageId,ClassId,EncodedPixels,x\n", "EncodedPixels,x; expected"),
    "a column twice": (
        b"ImageId,ClassId,EncodedPixels,EncodedPixels\n",
        "EncodedPixels,EncodedPixels; expected",
    ),
    "semicolons": (b"ImageId;ClassId;EncodedPixels\n", "columns ImageId;ClassId;EncodedPixels; "),
    "utf-16": ("ImageId,ClassId,EncodedPixels\n".encode("utf-16"), "row 1: not UTF-8 text; save"),
    "utf-16 without mark": ("ImageId,ClassId".encode("utf-16-le"), "row 1: not UTF-8 text"),
    "latin-1": ("ImageId,ClassId,EncodedPixels\nä.jpg,1,1 1".encode("latin-1"), "row 2: not UTF-8"),
    "nul": (b"ImageId,ClassId,EncodedPixels\na.jpg,1,1 1\nb\0.jpg,1,1 1", "row 3: not UTF-8 text"),
    "open quotes": (
        b'ImageId,ClassId,EncodedPixels\na,1,"1 5\nb,1,1 5\nc,1,1 5\n',
        "row 2: not a valid CSV row (unclosed quote)",
    ),
    "quotes over rows": (
        b'ImageId,ClassId,EncodedPixels\na,1,"1 5\nb,1,1 5"\nc,1,1 5\n',
        "row 2: a quoted value continues in row 3; expected one line per row",
    ),
    "quotes within": (b'ImageId,ClassId,EncodedPixels\na,1,"1 5"x\n', "row 2: not a valid CSV row"),
}


def few(strips: Path, root: Path, n: int = 6) -> Path:
    """Copy the first strips, which are valid, for a test to damage."""
    (root / "train_images").mkdir(parents=True)
    names = sorted(path.name for path in (strips / "train_images").iterdir())[:n]
    for name in names:
        shutil.copy(strips / "train_images" / name, root / "train_images")
    head, *rows = (strips / "train.csv").read_text().splitlines()
    kept = [line for line in rows if line.split(",")[0] in names]
    (root / "train.csv").write_text("\n".join([head, *kept]) + "\n")
    return root


@pytest.fixture
def root(strips: Path, tmp_path: Path) -> Path:
    return few(strips, tmp_path / "data")


def fault(source: Source, cache: Path) -> str:
    """The one line of the error that stops a run."""
    with pytest.raises(DataError) as caught:
        open_pack(source, cache)
    [line] = caught.value.lines
    assert line.isprintable()
    return line


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image(root: Path, tmp_path: Path, kind: str) -> None:
    change, says = IMAGES[kind]
    name = victim(root).name
    row("{image},1,")(root)  # no defect, so that only the image is invalid
    table = root / "train.csv"
    table.write_text(table.read_text().replace(f"{name},1,\n", ""))
    change(root)
    line = fault(severstal.read(root), tmp_path / "packs")
    assert line.startswith(f"{root}/train_images/{name}: ")
    assert says in line
    pack = open_pack(severstal.read(root), tmp_path / "packs", on_error="skip")
    assert set(pack.index["image_id"]) == {p.name for p in root.glob("train_images/*")} - {name}
    assert pack.left_out == [line]


@pytest.mark.parametrize("kind", ROWS)
def test_a_row(root: Path, tmp_path: Path, kind: str) -> None:
    text, says = ROWS[kind]
    name = victim(root).name
    row(text)(root)
    line = fault(severstal.read(root), tmp_path / "packs")
    last = len((root / "train.csv").read_text().splitlines())
    assert line.startswith(f"{root}/train.csv row {last}: ")
    assert says in line
    assert len(line) < 400
    pack = open_pack(severstal.read(root), tmp_path / "packs", on_error="skip")
    assert set(pack.index["image_id"]) == {p.name for p in root.glob("train_images/*")} - {name}
    assert pack.left_out == [line]


@pytest.mark.parametrize("kind", STRAY_ROWS)
def test_a_row_of_no_image(root: Path, tmp_path: Path, kind: str) -> None:
    text, says = STRAY_ROWS[kind]
    row(text)(root)
    line = fault(severstal.read(root), tmp_path / "packs")
    assert says in line
    assert len(line) < 400
    pack = open_pack(severstal.read(root), tmp_path / "packs", on_error="skip")
    assert len(pack) == 6
    assert pack.left_out == [line]


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_that_is_none_is_never_skipped(root: Path, kind: str) -> None:
    """A row that cannot be parsed could belong to any image, which would count as defect-free."""
    content, says = TABLES[kind]
    (root / "train.csv").write_bytes(content)
    with pytest.raises(DataError) as caught:
        severstal.read(root)
    [line] = caught.value.lines
    assert line.startswith(f"{root}/train.csv")
    assert says in line


@pytest.mark.parametrize("encode", [
    lambda text: text.replace("\n", "\r\n").encode(),
    lambda text: text.replace("\n", "\r").encode(),
    lambda text: text.encode("utf-8-sig"),
    lambda text: text.replace("\n", "\n\n").encode(),
    lambda text: "".join(f'"{v}"\n' for v in text.splitlines()).replace(",", '","').encode(),
    lambda text: text.replace(",", " , ").encode(),
])  # fmt: skip
def test_what_editors_do_to_a_table_does_no_harm(
    root: Path, encode: Callable[[str], bytes]
) -> None:
    table = root / "train.csv"
    plain = severstal.read(root)
    table.write_bytes(encode(table.read_text()))
    edited = severstal.read(root)
    assert not edited.problems

    def runs(source: Source) -> list:
        return [[(m, text.split()) for m, text, _ in r.runs] for r in source.records]

    assert runs(plain) == runs(edited)


def test_columns_may_stand_in_any_order(root: Path) -> None:
    table = root / "train.csv"
    before = severstal.read(root)
    rows = (line.split(",") for line in table.read_text().splitlines())
    table.write_text("".join(f"{c},{b},{a}\n" for a, b, c in rows))
    after = severstal.read(root)
    assert [r.runs for r in after.records] == [r.runs for r in before.records]


def test_a_long_mask_is_read(root: Path) -> None:
    """Longer than the 131,072 characters at which Python's csv stops."""
    big = np.zeros((512, 2048), bool)
    big[::2] = True
    Image.new("L", (2048, 512)).save(victim(root))
    runs = " ".join(f"{start} 1" for start in np.flatnonzero(big.ravel("F")) + 1)
    assert len(runs) > 1_000_000
    row("{image},1," + runs)(root)
    [record] = [r for r in severstal.read(root).records if r.runs and len(r.runs[0][1]) > 10**6]
    assert record.image_id == victim(root).name


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_with_spaces_and_accents(root: Path, tmp_path: Path, form: str) -> None:
    """The table has the accents in one form, the disk in the other, as on macOS."""
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    name = "é ü 日本 (1).jpg"
    path = victim(root)
    table = root / "train.csv"
    row("{image},2,1 5")(root)
    listed = unicodedata.normalize(form, name)
    table.write_text(table.read_text().replace(path.name, listed))
    path.rename(path.with_name(unicodedata.normalize(other, name)))
    pack = open_pack(severstal.read(root), tmp_path / "packs")
    assert len(pack) == 6
    at = pack.index["image_id"].tolist().index(unicodedata.normalize("NFC", name))
    assert pack.labels[at].tolist() == [False, True, False, False]


def test_two_names_that_differ_in_the_form_of_an_accent(root: Path) -> None:
    for form in ("NFC", "NFD"):
        shutil.copy(victim(root), root / "train_images" / unicodedata.normalize(form, "é.jpg"))
    [problem] = severstal.read(root).problems
    assert "another file has this name with accents encoded differently" in str(problem)


def test_a_name_that_is_not_utf8(root: Path, tmp_path: Path) -> None:
    path = victim(root)
    row("{image},1,")(root)
    table = root / "train.csv"
    table.write_text(table.read_text().replace(f"{path.name},1,\n", ""))
    os.rename(path, os.fsencode(path.parent) + b"/caf\xe9.jpg")  # noqa: PTH104
    line = fault(severstal.read(root), tmp_path / "packs")
    assert line.endswith(r"caf\udce9.jpg: file name is not UTF-8; rename it")
    pack = open_pack(severstal.read(root), tmp_path / "packs", on_error="skip")
    assert (len(pack), pack.left_out) == (5, [line])


def test_folders_hidden_files_and_others_are_ignored_and_listed(root: Path) -> None:
    images = root / "train_images"
    (images / "folder.jpg").mkdir()
    (images / "notes.txt").write_text("")
    (images / "._a.jpg").write_text("macOS metadata")
    (images / ".ipynb_checkpoints").mkdir()
    source = severstal.read(root)
    assert not source.problems
    assert len(source.records) == 6
    ignored = {path.name for path in source.ignored}
    assert ignored == {"folder.jpg", "notes.txt", "._a.jpg", ".ipynb_checkpoints"}


@pytest.mark.parametrize("layers", ["RGBA", "LA", "P"])
def test_what_hides_nothing_is_taken(tmp_path: Path, layers: str) -> None:
    picture = Image.fromarray(NOISE)
    picture.convert(layers).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), NOISE)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_jpeg_with_damaged_notes_is_taken(tmp_path: Path) -> None:
    Image.fromarray(NOISE).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*" + b"\xff" * 20)
    assert read_image(tmp_path / "a.jpg").shape == (32, 64)


def test_all_faults_of_one_image_and_of_all_are_told_at_once(root: Path, tmp_path: Path) -> None:
    names = [p.name for p in sorted((root / "train_images").iterdir())]
    table = root / "train.csv"
    kept = [x for x in table.read_text().splitlines() if x[:13] not in names[:3]]
    bad = [f"{names[0]},1,1 5 3", f"{names[0]},2,0 5", f"{names[1]},1,x", f"{names[2]},9,1 1"]
    table.write_text("\n".join([*kept, *bad]) + "\n")
    cut(root / "train_images" / names[1])  # its row is still read
    Image.new("L", (50, 40)).save(root / "train_images" / names[3])
    row_of = len(kept) + 1
    with pytest.raises(DataError) as caught:
        open_pack(severstal.read(root), tmp_path)
    places = sorted(line.removeprefix(f"{root}/").split(": ")[0] for line in caught.value.lines)
    assert places == sorted(
        [
            *(f"train.csv row {row_of + k}" for k in range(4)),
            f"train_images/{names[1]}",
            f"train_images/{names[3]}",
        ]
    )
    table.write_text("\n".join([*kept, *bad[:3]]) + "\n")
    with pytest.raises(DataError) as without:  # the same, with problems that only files show
        open_pack(severstal.read(root), tmp_path)
    assert {*without.value.lines} < {*caught.value.lines}
    assert len(without.value.lines) == 5


def test_more_faults_than_are_shown_are_one_line_per_kind(strips: Path, tmp_path: Path) -> None:
    root = few(strips, tmp_path / "data", n=24)
    paths = sorted((root / "train_images").iterdir())
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(DataError) as caught:
        open_pack(severstal.read(root), tmp_path)
    assert caught.value.lines == (
        f"{paths[0]} (and 23 more: {paths[1].name}, {paths[2].name}, …): "
        "cannot be read as an image (the file is empty)",
    )


def test_many_masks_of_one_kind_do_not_hide_another_problem(tmp_path: Path) -> None:
    root = pairs(tmp_path / "data", tuple(f"s{k:02}" for k in range(30)))
    for k, path in enumerate(sorted((root / "masks").iterdir())):
        Image.fromarray(np.full_like(NOISE, 100 + k)).save(path)
    (root / "images/s29.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        open_pack(folder.read(root, classes=("pit", "dent")), tmp_path)
    first, second = caught.value.lines
    assert first.startswith(
        f"{root}/masks/s00.png (and 28 more: s01.png, s02.png, …): class id 100; expected 0 "
    )
    assert second.startswith(f"{root}/images/s29.png: cannot be read as an image")


def pairs(root: Path, names: tuple[str, ...] = ("a", "b", "c")) -> Path:
    for name in names:
        for part, picture in (("images", NOISE), ("masks", (NOISE > 200).astype(np.uint8))):
            path = root / part / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
    return root


def mask(save: Callable[[Path], object]) -> Change:
    return lambda root: save(root / "masks/a.png")


def mask_of(mode: str, kind: str = "PNG", size: tuple[int, int] = SIZE) -> Change:
    return mask(lambda path: Image.new(mode, size).save(path, kind))


MASKS = {
    "missing": (mask(Path.unlink), "images/a.png: has no mask "),
    "empty": (mask(lambda p: p.write_bytes(b"")), "as a mask (the file is empty)"),
    "jpeg": (mask_of("L", "JPEG"), "cannot be read as a mask (its content is not PNG)"),
    "other size": (mask_of("L", size=(9, 9)), "mask of 9×9 (height × width) for an image of 32×64"),
    "colour": (mask_of("RGB"), "mask of mode RGB; expected one channel of class ids"),
    "alpha": (mask_of("LA"), "mask of mode LA; expected one channel of class ids"),
    "id 2": (
        mask(lambda p: Image.new("L", SIZE, 2).save(p)),
        "class id 2; expected 0 (background) to 1",
    ),
    "id 255": (
        mask(lambda p: Image.fromarray((NOISE > 9).astype(np.uint8) * 255).save(p)),
        "class id 255; expected 0 (background) to 1 (one per name in data.classes); if 255 is a "
        "single class, set data.foreground=255",
    ),
    "grey level": (
        mask(lambda p: Image.fromarray((NOISE > 9).astype(np.uint8) * 128).save(p)),
        "; if 128 is a single class, set data.foreground=128",
    ),
    "another format": (
        lambda root: (root / "masks/a.png").rename(root / "masks/a.TIF"),
        "has no mask {root}/masks/a.png; there is {root}/masks/a.TIF: save it as PNG",
    ),
    "another name": (
        lambda root: (root / "masks/a.png").rename(root / "masks/a_mask.png"),
        "has no mask {root}/masks/a.png; there is {root}/masks/a_mask.png: rename it",
    ),
    "another case": (
        lambda root: (root / "masks/a.png").rename(root / "masks/A.png"),
        "has no mask {root}/masks/a.png; there is {root}/masks/A.png: rename it",
    ),
    "id 300": (
        mask(lambda p: Image.fromarray(np.full((32, 64), 300, np.uint16)).save(p)),
        "class id 300; expected 0 (background) to 1",
    ),
    "link out": (mask(link_out), "a link out of "),
    "animated": (
        mask(
            lambda p: Image.new("L", SIZE).save(
                p, save_all=True, append_images=[Image.new("L", SIZE, 1)]
            )
        ),
        "contains 2 images; expected one",
    ),
    "two images": (
        lambda root: Image.new("L", SIZE).save(root / "images/a.jpg"),
        "2 images have this stem, but a mask belongs to one image",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", MASKS)
def test_a_mask(tmp_path: Path, kind: str) -> None:
    change, says = MASKS[kind]
    root = pairs(tmp_path / "data")
    change(root)
    with pytest.raises(DataError) as caught:
        open_pack(folder.read(root, classes=["dent"]), tmp_path)
    assert len(caught.value.lines) == (2 if kind == "two images" else 1)
    assert says.format(root=root) in caught.value.lines[0]
    pack = open_pack(folder.read(root, classes=["dent"]), tmp_path, on_error="skip")
    assert pack.index["image_id"].tolist() == ["b.png", "c.png"]
    assert pack.left_out == list(caught.value.lines)


def test_a_mask_without_an_image(tmp_path: Path) -> None:
    root = pairs(tmp_path / "data")
    shutil.copy(root / "masks/a.png", root / "masks/stray.png")
    (root / "masks/readme.md").write_text("")
    source = folder.read(root, classes=["dent"])
    line = fault(source, tmp_path)
    assert line.startswith(f"{root}/masks/stray.png: has no image in {root}/images")
    assert [path.name for path in source.ignored] == ["readme.md"]
    assert len(open_pack(source, tmp_path, on_error="skip")) == 3


@pytest.mark.parametrize("ids", ["P", "1", "I;16"])
def test_ids_in_a_palette_in_bits_and_in_words(tmp_path: Path, ids: str) -> None:
    root = pairs(tmp_path / "data")
    truth = NOISE > 200
    picture = {
        "P": Image.fromarray(truth.astype(np.uint8)),
        "1": Image.fromarray(truth),
        "I;16": Image.fromarray(truth.astype(np.uint16)),
    }[ids]
    if ids == "P":
        picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.save(root / "masks/a.png")
    with Image.open(root / "masks/a.png") as file:
        assert file.mode == ids
    pack = open_pack(folder.read(root, classes=["dent"]), tmp_path)
    np.testing.assert_array_equal(pack.masks[0], truth)


def test_links_that_stay_inside_are_followed_and_links_to_folders_are_not(tmp_path: Path) -> None:
    root = pairs(tmp_path / "data")
    (root / "images/d.png").symlink_to("a.png")
    (root / "masks/d.png").symlink_to(root / "masks/a.png")
    (root / "images/again").symlink_to(root / "images")
    (root / "images/outside").symlink_to("/")
    source = folder.read(root, classes=["dent"])
    assert [r.image_id for r in source.records] == ["a.png", "b.png", "c.png", "d.png"]
    assert not source.problems
    assert {path.name for path in source.ignored} == {"again", "outside"}


def test_the_folders_themselves_may_be_links(strips: Path, tmp_path: Path) -> None:
    for name in ("train_images", "train.csv"):
        (tmp_path / name).symlink_to(strips / name)
    assert len(severstal.read(tmp_path).records) == 24


UNPRIVILEGED = """
import os, sys
from pathlib import Path
from PIL import Image
from tlunet.data.pack.pack import open_pack
from tlunet.data.readers import folder, severstal
from tlunet.errors import DataError
Image.init()
os.setgid(65534); os.setuid(65534)  # after the imports: only root may be able to read the project
for root in sys.argv[2:]:
    root = Path(root)
    try:
        open_pack(
            folder.read(root, classes=["dent"]) if root.name == "d"
            else severstal.read(root),
            Path(sys.argv[1]),
        )
        print("valid")
    except DataError as error:
        print(*error.lines, sep="\\n")
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user without permissions")
def test_what_may_not_be_read(strips: Path, tmp_path: Path) -> None:
    roots = [few(strips, tmp_path / name) for name in "abc"]
    victim(roots[0]).chmod(0)
    (roots[1] / "train.csv").chmod(0)
    (roots[2] / "train_images").chmod(0)
    nested = pairs(tmp_path / "d", ("a", "b", "c", "in/d"))
    (nested / "images/in").chmod(0o444)  # can be listed, but not entered
    (nested / "masks/in").chmod(0)
    closed = few(strips, tmp_path / "closed/e")
    closed.parent.chmod(0)
    for path in (tmp_path, *tmp_path.parents):  # pytest's folders are readable only by their owner
        if path.stat().st_uid == os.getuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o011)
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o777)
    cache.chmod(0o777)
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, cache, *roots, nested, closed],
        capture_output=True, text=True, timeout=120, cwd=home,
    )  # fmt: skip
    closed.parent.chmod(0o700)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{victim(roots[0])}: cannot be read as an image (Permission denied)",
        f"{roots[1]}/train.csv: cannot be read (Permission denied)",
        f"{roots[2]}/train_images: folder cannot be read (Permission denied)",
        f"{nested}/images/in/d.png: cannot be accessed (Permission denied)",
        f"{nested}/masks/in: folder cannot be read (Permission denied)",
        f"{closed}: cannot be accessed (Permission denied); set data.root to the folder of the "
        "Severstal data: expected train_images/*.jpg and train.csv, as in the Kaggle archive",
    ]


LINE = ("data=severstal", "data.root=data", "epochs=1", "logger=csv", "trainer=cpu")


@pytest.mark.parametrize(
    ("change", "extra", "says"),
    [
        (IMAGES["truncated"][0], (), "cannot be read as an image (image file is truncated"),
        (row("{image},1,2040 20"), (), "ends at pixel 2059"),
        (lambda root: (root / "train.csv").write_text('ImageId,"'), (), "unclosed quote"),
        (lambda root: None, ("frac=1e-6",), "frac=1e-06: keeps none of the 18 training images"),
        (
            lambda root: [p.unlink() for p in sorted((root / "train_images").iterdir())[2:]],
            ("data.on_error=skip",),
            "2 images (2 groups) are too few: no image is left for",
        ),
    ],
)
def test_a_run_stops_before_anything_is_trained(
    run_here: Run, strips: Path, tmp_path: Path, change: Change, extra: tuple[str, ...], says: str
) -> None:
    root = few(strips, tmp_path / "data", n=24)
    change(root)
    done = run_here(*LINE, *extra, cwd=root.parent)
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(root.parent.glob("runs/*/*/status.json"))
