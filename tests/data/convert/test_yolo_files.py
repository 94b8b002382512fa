"""YOLO exports as tools and people write them: which images and label files belong together."""

import unicodedata
from pathlib import Path

import pytest
from data.convert.exports import DOT, FAR, SQUARE, Run, image, mask_of, put, row

NAMES = "names: [dent, scratch]\n"
OBJECT = row(0, SQUARE)

# Files besides data.yaml (an image where the name is one of an image), and what is said.
ORPHANS: dict[str, tuple[dict[str, str], str]] = {
    "a space": (
        {"images/strip 0.png": "", "labels/strip_0.txt": OBJECT},
        "set/labels/strip_0.txt: belongs to no image; "
        "set/images/strip 0.png needs set/labels/strip 0.txt: rename or move it",
    ),
    "beside the image": (
        {"images/s0.png": "", "images/s0.txt": OBJECT},
        "set/images/s0.txt: belongs to no image; set/images/s0.png needs set/labels/s0.txt: ",
    ),
    "two suffixes": (
        {"images/s0.png": "", "labels/s0.png.txt": OBJECT},
        "set/labels/s0.png.txt: belongs to no image; set/images/s0.png needs set/labels/s0.txt: ",
    ),
    "case": (
        {"images/S0.png": "", "labels/s0.txt": OBJECT},
        "set/labels/s0.txt: belongs to no image; set/images/S0.png needs set/labels/S0.txt: ",
    ),
    "another folder": (
        {"images/s0.png": "", "annotations/s0.txt": OBJECT},
        "set/annotations/s0.txt: belongs to no image; set/images/s0.png needs set/labels/s0.txt: ",
    ),
    "a part in another folder": (
        {
            "images/train/a.png": "",
            "images/val/b.png": "",
            "labels/train/a.txt": OBJECT,
            "annotations/val/b.txt": OBJECT,
            "data.yaml": f"{NAMES}train: images/train\nval: images/val\n",
        },
        "set/annotations/val/b.txt: belongs to no image; set/images/val/b.png needs set/labels/val",
    ),
    "one of many": (
        {"images/a.png": "", "labels/a.txt": OBJECT, "labels/b.txt": OBJECT},
        "set/labels/b.txt: belongs to no image; add the image or remove this file",
    ),
    "Label Studio's prefix": (
        {"images/s0.png": "", "labels/a1b2c3d4-s0.txt": OBJECT},
        "set/labels/a1b2c3d4-s0.txt: belongs to no image; set/images/s0.png needs set/labels/s0.t",
    ),
    "Roboflow's suffix": (
        {"images/s0.png": "", f"labels/s0_png.rf.{'1f' * 16}.txt": OBJECT},
        f"set/labels/s0_png.rf.{'1f' * 16}.txt: belongs to no image; set/images/s0.png needs set/",
    ),
    "a hash alone": (
        {"images/a1b2c3d4-.png": "", "labels/A1B2C3D4.txt": OBJECT},
        "set/labels/A1B2C3D4.txt: belongs to no image; set/images/a1b2c3d4-.png needs set/labels",
    ),
    "an empty one": (
        {"images/a.png": "", "labels/a.txt": OBJECT, "labels/b.txt": ""},
        "set/labels/b.txt: belongs to no image; add the image or remove this file",
    ),
    "an image of another format": (
        {"images/a.heic": "", "images/b.png": "", "labels/a.txt": OBJECT, "labels/b.txt": OBJECT},
        "set/labels/a.txt: belongs to no image that can be read; convert set/images/a.heic",
    ),
    "no label files": (
        {"images/a.png": "", "labels/a.xml": "<annotation/>"},
        "set/data.yaml: no objects: every image would count as defect-free; 0 label files are empty"
        ", 1 images have none (expected in labels/, next to images/; set contains data.yaml, "
        "images/ (1 .png), labels/ (1 .xml))\n",
    ),
    "empty label files": (
        {"images/a.png": "", "labels/a.txt": "\n"},
        "set/data.yaml: no objects: every image would count as defect-free; 1 label files are emp",
    ),
}


@pytest.mark.parametrize("kind", ORPHANS)
def test_labels_of_no_image_are_a_problem(kind: str, convert: Run, tmp_path: Path) -> None:
    files, said = ORPHANS[kind]
    put(tmp_path / "set", {"data.yaml": NAMES} | files)
    code, _, err = convert("set", "out", "--from", "yolo")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(said)
    assert not Path("out").exists()


# Files besides data.yaml, its content, and the images that become part of the new folder.
TRAIN = {"images/train/a.png": "", "labels/train/a.txt": OBJECT}
OLD = {"images/old/b.png": "", "labels/old/b.txt": OBJECT, "labels/old/z.txt": OBJECT}
LAYOUTS: dict[str, tuple[dict[str, str], str, list[str]]] = {
    "a folder beside it": (TRAIN | OLD, "train: images/train\n", ["train/a.png"]),
    "a root beside another": (
        {f"{folder}/{name}": text for folder in ("steel", "old") for name, text in TRAIN.items()},
        "path: steel\ntrain: images/train\n",
        ["train/a.png"],
    ),
    "all parts": (
        {f"{kind}/{part}/{part}.{suffix}": OBJECT for part in ("train", "val", "test")
         for kind, suffix in (("images", "png"), ("labels", "txt"))},
        "train: images/train\nval: images/val\ntest: images/test/\n",
        ["test/test.png", "train/train.png", "val/val.png"],
    ),
    "lists of folders": (
        {"x/images/a.png": "", "x/labels/a.txt": OBJECT, "y/images/b.png": ""},
        "train: [x/images, y/images]\nval: []\ntest:\n",
        ["x/a.png", "y/b.png"],
    ),
    "a list of images": (
        TRAIN | {"images/train/b.png": "", "train.txt": "./images/train/a.png\r\n\r\n"},
        "train: train.txt\n",
        ["train/a.png"],
    ),
    "CVAT": (
        TRAIN | {"train.txt": "data/images/train/a.png\n"},
        "path: ./\ntrain: train.txt\n",
        ["train/a.png"],
    ),
    "Roboflow": (
        {"train/images/a.png": "", "train/labels/a.txt": OBJECT, "README.txt": "1 2 3 4 5"},
        "train: ../train/images\nval: ../train/images\ntest: ../test/images\nnc: 2\n",
        ["train/a.png"],
    ),
    "Windows": (TRAIN, "train: images\\train\n", ["train/a.png"]),
    "its own name as the root": (TRAIN, "path: set\ntrain: images/train\n", ["train/a.png"]),
    "no folder named images": (
        {"train/a.png": "", "train/a.txt": OBJECT, "train/classes.txt": "dent\n"},
        "train: train\n",
        ["train/a.png"],
    ),
    "labels of boxes as well": (
        TRAIN | {"labels_boxes/train/a.txt": "0 0.5 0.5 0.1 0.1"},
        "",
        ["train/a.png"],
    ),
    "suffix in capitals": ({"images/a.png": "", "labels/a.TXT": OBJECT}, "", ["a.png"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", LAYOUTS)
def test_the_table_says_which_images_belong(kind: str, convert: Run, tmp_path: Path) -> None:
    files, table, images = LAYOUTS[kind]
    put(tmp_path / "set", files | {"data.yaml": NAMES + table})
    code, _, err = convert("set", "out", "--from", "yolo")
    assert (code, err) == (0, "")
    found = sorted(p.relative_to("out/images").as_posix() for p in Path("out/images").rglob("*.*"))
    assert found == images
    assert (mask_of(Path("out"), images[0]) == 1).sum() == 64


def test_what_is_left_out_or_assumed_is_said(convert: Run, tmp_path: Path) -> None:
    table = f"{NAMES}train: images/train\ntest: images/test\n"
    put(tmp_path / "set", TRAIN | OLD | {"data.yaml": table, "images/train/c.png": ""})
    code, out, _ = convert("set", "out", "--from", "yolo")
    assert code == 0
    assert out.splitlines()[2:5] == [
        "set/data.yaml: test: 'images/test': no such folder or file in set: skipped",
        "1 images in set are not in train, val and test and are skipped",
        "1 of 2 images have no label file and count as defect-free (the first: no "
        "set/labels/train/c.txt)",
    ]


def test_label_studio_writes_no_table(convert: Run, tmp_path: Path) -> None:
    files = {"images/1-a.png": "", "labels/1-a.txt": row(1, FAR), "notes.json": "{}"}
    put(tmp_path / "set", files | {"classes.txt": "dent\r\nscratch\r\n"})
    code, out, _ = convert("set", "out", "--from", "yolo")
    assert code == 0
    assert "1 = dent, 2 = scratch" in out
    assert (mask_of(Path("out"), "1-a.png") == 2).sum() == 15


def test_accents_are_compared_in_one_encoding(convert: Run, tmp_path: Path) -> None:
    name = unicodedata.normalize("NFD", "Prüfung")
    files = {f"images/{name}.png": "", "labels/Prüfung.txt": OBJECT, "data.yaml": NAMES}
    put(tmp_path / "set", files)
    assert convert("set", "out", "--from", "yolo")[0] == 0
    assert mask_of(Path("out"), "Prüfung.png").any()


TABLES = {
    "path: /none/here": "path: '/none/here': no such folder; write the folder that train and val",
    "path: 3": "path: 3; expected a folder",
    "train: images/x": "train: 'images/x': no such folder or file in set; correct it or remove it",
    "val: [images, valid]": "val: 'valid': no such folder or file in set; correct it",
    "test: images/x": "test: 'images/x': no such folder or file in set; correct it",
    "train: 3": "train: 3; expected a folder, or a text file",
    "train: {a: images}": "train: {'a': 'images'}; expected a folder, or a text file",
    f"train: {'x' * 400}": "train: 'xxxxx",
    "nc: 3": "nc: 3, but names has 2 names; correct one of them",
    "nc: '3'": "nc: '3', but names has 2 names; correct one of them",
    "kpt_shape: [17, 3]": "kpt_shape: key points have no outline",
    "names: dent": "names: expected the class names",
    "names: [no, yes]": "names: expected the class names, [a, b] or {0: a, 1: b}; False is",
    "names: {0: a, 2: b}": "names: expected the class names, [a, b] or {0: a, 1: b}, numbered",
    "names: ['a', 'a ']": "names: a name appears twice ('a')",
    "a: [": "line ",
}


@pytest.mark.parametrize("line", TABLES)
def test_a_bad_table_is_one_line(line: str, convert: Run, tmp_path: Path) -> None:
    content = line if line.startswith("names") else f"{NAMES}{line}\n"
    put(tmp_path / "set", {"images/a.png": "", "labels/a.txt": OBJECT, "data.yaml": content})
    code, _, err = convert("set", "out", "--from", "yolo")
    assert (code, err.count("\n")) == (2, 1)
    assert TABLES[line] in err
    assert err.startswith("set/data.yaml")
    assert len(err) < 400


@pytest.mark.parametrize(
    "names", ["{'0': dent, '1': scratch}", "{1: scratch, 0: dent}", "[dent , scratch]"]
)
def test_names_may_be_a_list_or_numbered(names: str, convert: Run, tmp_path: Path) -> None:
    content = f"\N{BYTE ORDER MARK}names: {names}\r\n"
    put(tmp_path / "set", {"images/a.png": "", "labels/a.txt": OBJECT, "data.yaml": content})
    code, out, _ = convert("set", "out", "--from", "yolo")
    assert code == 0
    assert "1 = dent, 2 = scratch" in out


def test_windows_text_and_blank_lines(convert: Run, tmp_path: Path) -> None:
    text = f"\N{BYTE ORDER MARK}{OBJECT}\r\n\r\n1.0{row(1, DOT)[1:]}\r\n  \r\n\n"
    put(tmp_path / "set", {"images/a.png": "", "labels/a.txt": text, "data.yaml": NAMES})
    assert convert("set", "out", "--from", "yolo")[0] == 0
    mask = mask_of(Path("out"), "a.png")
    assert [(mask == m).sum() for m in (1, 2)] == [60, 4]


LABELS = {
    OBJECT.replace(".", ","): "row 1: a comma; expected decimal points, and spaces between values",
    OBJECT.replace(" ", ","): "row 1: a comma; expected decimal points, and spaces between values",
    "0 .5 .5 .1 .1\n" * 30: "row 1 (and 29 more): a box has no outline; expected a polygon",
    "0 2 2 9 2 9 9\n" * 9: "row 1 (and 8 more): a point is outside the image; expected fractions",
    "9" * 400 + OBJECT: "row 1: class '999999999999999999999999999999999999999…; expected 0 to 1",
    OBJECT + " 0.9": "row 1: 10 values; expected a class and at least three points",
    f"0 {'9' * 400} 1 1 1 1 0": "row 1: a point is outside the image",
}


@pytest.mark.parametrize("text", LABELS)
def test_bad_labels_are_one_line(text: str, convert: Run, tmp_path: Path) -> None:
    put(tmp_path / "set", {"images/a.png": "", "labels/a.txt": text, "data.yaml": NAMES})
    code, _, err = convert("set", "out", "--from", "yolo")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("set/labels/a.txt row 1")
    assert LABELS[text].replace("…", "")[:50] in err


def test_folders_and_links_without_images_are_described(convert: Run, tmp_path: Path) -> None:
    root = put(tmp_path / "set", {"data.yaml": NAMES, "labels/a.txt": OBJECT, "raw/a.png": ""})
    args = ("set", "out", "--from", "yolo")
    (root / "images").mkdir()
    begin = "set/data.yaml: no images in a folder named images/ in set; it contains data.yaml, "
    end = (
        "; expected data.yaml with names, and images/ next to labels/, or train: with their folder"
    )
    inside = "labels/ (1 .txt), raw/ (1 .png)"
    assert convert(*args) == (2, "", f"{begin}images/ (empty), {inside}{end}\n")
    (root / "images/a.heic").touch()
    assert convert(*args) == (2, "", f"{begin}images/ (1 .heic), {inside}{end}\n")
    (root / "images/a.heic").unlink()
    (root / "images").rmdir()
    (root / "images").symlink_to("raw")
    link = "a link to a folder: not followed; copy the folder there"
    assert convert(*args) == (2, "", f"{begin}images/ ({link}), {inside}{end}\n")
    (root / "data.yaml").write_text(f"{NAMES}train: images\n")
    assert convert(*args)[0] == 0  # named by the user


def test_a_linked_part_is_not_lost(convert: Run, tmp_path: Path) -> None:
    put(tmp_path / "set", TRAIN | {"data.yaml": NAMES, "raw/b.png": ""})
    (tmp_path / "set/images/val").symlink_to("../raw")
    code, _, err = convert("set", "out", "--from", "yolo")
    assert code == 2
    assert err.startswith("set/images/val: a link to a folder: not followed; copy the folder there")


@pytest.mark.parametrize("kind", ["outside", "broken", "folder"])
def test_a_label_file_that_cannot_be_used(kind: str, convert: Run, tmp_path: Path) -> None:
    """It is there, so its image must not count as defect-free."""
    put(tmp_path / "set", TRAIN | {"data.yaml": NAMES, "images/train/b.png": ""})
    label = tmp_path / "set/labels/train/b.txt"
    if kind == "folder":
        label.mkdir()
    else:
        label.symlink_to(tmp_path / ("set/data.yaml" if kind == "outside" else "none"))
        (tmp_path / "set/labels").rename(tmp_path / "elsewhere")
        (tmp_path / "set/labels").symlink_to("../elsewhere")
    code, _, err = convert("set", "out", "--from", "yolo")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("set/labels/train/b.txt: ")


def test_a_list_names_what_is_missing(convert: Run, tmp_path: Path) -> None:
    table = f"{NAMES}train: train.txt\n"
    listed = "images/train/a.png\nimages/train/b.png\ndata.yaml\n"
    put(tmp_path / "set", TRAIN | {"data.yaml": table, "train.txt": listed})
    assert convert("set", "out", "--from", "yolo")[2].splitlines() == [
        "set/train.txt row 2: 'images/train/b.png': no such image",
        "set/train.txt row 3: 'data.yaml': is not an image that can be read",
    ]


def test_several_tables(convert: Run, tmp_path: Path) -> None:
    put(tmp_path / "set", TRAIN | {"steel.yaml": NAMES})
    assert convert("set", "one", "--from", "yolo")[0] == 0
    put(tmp_path / "set", {"coil.yaml": NAMES})
    code, _, err = convert("set", "out", "--from", "yolo")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("set: several YAML files and no data.yaml; pass the one to use")
    assert convert("set/coil.yaml", "out", "--from", "yolo")[0] == 0


def test_sizes_that_differ(convert: Run, tmp_path: Path) -> None:
    """The printed command resizes them."""
    root = put(tmp_path / "set", {"data.yaml": NAMES, "labels/a.txt": OBJECT})
    for name, height in (("a", 1240), ("b", 1255), ("c", 1270)):
        image(root / f"images/{name}.png", (height, 500))
    code, out, _ = convert("set", "out", "--from", "yolo")
    assert code == 0
    assert (
        "the images have 3 sizes, 1240 to 1270 pixels high and 500 to 500 wide; data.size resizes "
        "them (1280×512 is near the median size)" in out
    )
    assert out.endswith("'data.classes=[dent,scratch]' 'data.size=[1280,512]'\n")


def test_unpacked_too_deep(convert: Run, tmp_path: Path) -> None:
    put(tmp_path / "set/set", TRAIN | {"data.yaml": NAMES})
    code, _, err = convert("set", "out", "--from", "yolo")
    assert (code, err) == (2, "set: contains no data.yaml; pass set/set\n")


@pytest.mark.parametrize("number", ["1", "'1'"])
def test_the_number_of_classes_may_be_quoted(number: str, convert: Run, tmp_path: Path) -> None:
    table = f"names: [dent]\nnc: {number}\n"
    put(tmp_path / "set", {"images/a.png": "", "labels/a.TXT": OBJECT, "data.yaml": table})
    assert convert("set", "out", "--from", "yolo")[0] == 0
    assert mask_of(Path("out"), "a.png").any()
