"""COCO exports as tools write them: categories, file names, and unexpected entries."""

import json
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.convert import exports
from data.convert.exports import DOT, SIZE, SQUARE, Run, counts, image, mask_of, put

from tlunet.data.convert import coco
from tlunet.data.convert.paint import convert as convert_labelled

pytest.importorskip("supervision", reason="the extra convert is not installed")

Entry = dict[str, Any]
HUGE = 10**400  # no float is as large


def outline(segmentation: Any, category: Any = 1, image_id: Any = 1) -> Entry:
    return {"image_id": image_id, "category_id": category, "segmentation": segmentation}


def images(*names: str) -> list[Entry]:
    return [{"id": k, "file_name": n, "height": 20, "width": 30} for k, n in enumerate(names, 1)]


def export(file: Path, files: tuple[str, ...] = ("a.png",), **content: Any) -> None:
    """A file with one square on the first image, unless told otherwise."""
    whole = {
        "images": images("a.png"),
        "categories": [{"id": 1, "name": "dent"}],
        "annotations": [outline([SQUARE])],
    }
    put(file.parent, {file.name: json.dumps(whole | content)})
    for name in files:
        image(file.parent / name)


def category(number: int, name: str, parent: str | None = "none") -> Entry:
    return {"id": number, "name": name, "supercategory": parent}


LEFT_OUT = {
    "Roboflow": (
        [category(0, "defects"), category(1, "dent", "defects"), category(2, "flat", "defects")],
        "1 = dent, 2 = flat",
        "category 0 'defects' is left out: only the supercategory of others, without annotations",
    ),
    "Roboflow, one class": (
        [category(0, "dent"), category(1, "dent", "dent")],
        "1 = dent",
        "category 0 'dent' is left out: only the supercategory of others, without annotations",
    ),
    "given twice": (
        [category(0, "dent"), category(1, "dent")],
        "1 = dent",
        "category 0 'dent' is left out: without annotations, and another category has its name",
    ),
    "labelme": (
        [category(0, "_background_", None), category(1, "dent", None)],
        "1 = dent",
        "category 0 '_background_' is left out: the background, without annotations",
    ),
}


@pytest.mark.parametrize("kind", LEFT_OUT)
def test_categories_that_are_no_classes(kind: str, convert: Run, tmp_path: Path) -> None:
    categories, classes, said = LEFT_OUT[kind]
    export(tmp_path / "x.json", categories=categories)
    code, out, _ = convert("x.json", "out", "--from", "coco")
    assert code == 0
    assert out.splitlines()[1].endswith(f"{'classes' if ',' in classes else 'class'}: {classes}")
    assert out.splitlines()[2] == said
    assert (mask_of(Path("out"), "a.png") == 1).sum() == 64


@pytest.mark.parametrize(
    "categories",
    [
        [category(0, "flat"), category(1, "dent")],  # nobody's parent
        [category(0, "flat", "flat"), category(1, "dent", "dent")],  # its own
        [category(1, "dent", "flat"), category(3, "flat", "steel")],  # a class below another
    ],
)
def test_classes_without_annotations_stay(
    categories: list[Entry], convert: Run, tmp_path: Path
) -> None:
    export(tmp_path / "x.json", categories=categories)
    _, out, _ = convert("x.json", "out", "--from", "coco")
    assert "1 object of 2 classes" in out
    assert "left out" not in out


def test_an_annotated_root_stays(convert: Run, tmp_path: Path) -> None:
    categories = [category(0, "defects"), category(1, "dent", "defects")]
    export(tmp_path / "x.json", categories=categories, annotations=[outline([SQUARE], 0)])
    _, out, _ = convert("x.json", "out", "--from", "coco")
    assert "1 = defects, 2 = dent" in out


@pytest.mark.parametrize(
    ("file", "name", "path"),
    [
        ("x.json", "images\\a.png", "images/a.png"),
        ("x.json", ".\\a.png", "images/a.png"),
        ("result.json", "images/a.png", "images/a.png"),  # Label Studio
        ("train/_annotations.coco.json", "a.png", "train/a.png"),  # Roboflow
        ("annotations/instances_default.json", "a.png", "images/default/a.png"),  # CVAT
        ("annotations/instances_default.json", "a.png", "images/a.png"),
        ("annotations/instances_train2017.json", "a.png", "train2017/a.png"),
        ("annotations/x.json", "images\\line 2\\a.png", "images/line 2/a.png"),
    ],
)
def test_images_are_found(file: str, name: str, path: str, convert: Run, tmp_path: Path) -> None:
    image(tmp_path / "set" / path)
    export(tmp_path / "set" / file, (), images=images(name))
    code, _, err = convert(f"set/{file}", "out", "--from", "coco")
    assert (code, err) == (0, "")
    assert [p.name for p in Path("out/images").rglob("*.png")] == ["a.png"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("A.PNG", "there is 'a.png': correct the name"),
        ("a.jpg", "there is 'a.png': correct the name"),
        ("sub/a.png", "there is 'a.png': correct the name"),
        ("coil-1.png", "there is 'line/coil 1.png': correct the name"),
        ("link/a.png", "link is a link to a folder: not followed; copy the folder there"),
    ],
)
def test_a_missing_image_gets_a_hint(name: str, hint: str, convert: Run, tmp_path: Path) -> None:
    """And its annotations are not listed: the only cause is the name."""
    annotations = [outline([SQUARE], image_id=number) for number in (1, 2, 2, 2, 2)]
    files = ("a.png", "b.png", "line/coil 1.png")
    export(tmp_path / "x.json", files, images=images("b.png", name), annotations=annotations)
    (tmp_path / "link").symlink_to("line")
    code, _, err = convert("x.json", "out", "--from", "coco")
    assert code == 2
    assert err == f"x.json images[1]: file_name {name!r}: no such image in .; {hint}\n"


@pytest.mark.parametrize("folder", ["C:\\data\\images\\", "./images/", "/data/upload/1/"])
def test_folders_of_another_machine_are_ignored_if_nothing_is_ambiguous(
    folder: str, convert: Run, tmp_path: Path
) -> None:
    names = [f"{folder}a.png", f"{folder}b.png"]
    export(tmp_path / "x.json", ("images/a.png", "images/b.png"), images=images(*names))
    code, out, err = convert("x.json", "out", "--from", "coco", "--images", "images")
    assert (code, err) == (0, "")
    assert "2 images found in images by the last part of the name, such as a.png for " in out
    assert sorted(p.name for p in Path("out/images").iterdir()) == ["a.png", "b.png"]
    export(tmp_path / "x.json", (), images=images(f"{folder}1/a.png", f"{folder}2/a.png"))
    code, _, err = convert("x.json", "again", "--from", "coco", "--images", "images")
    assert code == 2
    assert err.count("no such image in images; there is 'a.png': correct the name") == 2


def test_the_only_image_missing_gets_a_hint(convert: Run, tmp_path: Path) -> None:
    export(tmp_path / "x.json", ("images/a.png",), images=images("/data/upload/1/a.PNG"))
    code, _, err = convert("x.json", "out", "--from", "coco")
    assert code == 2
    assert err == (
        "x.json: image '/data/upload/1/a.PNG' is neither next to it nor in images/; pass its "
        "folder as --images; there is 'images/a.png': correct the name\n"
    )


def test_a_folder_without_images_is_described(convert: Run, tmp_path: Path) -> None:
    export(tmp_path / "x.json", ("deep/deep/a.png",), images=images("a.png", "b.png"))
    begin = (
        "x.json: image 'a.png' is neither next to it nor in images/; pass its folder as --images"
    )
    args = ("x.json", "out", "--from", "coco")
    hint = "; there is 'deep/deep/a.png': correct the name"
    assert convert(*args) == (2, "", f"{begin}{hint}\n")
    (tmp_path / "deep/deep/a.png").rename(tmp_path / "deep/deep/a.heic")
    assert convert(*args) == (2, "", f"{begin}; it contains deep/ (1 folder), x.json\n")
    begin = "x.json images[0]: file_name 'a.png': no such image in deep/deep"
    assert convert(*args, "--images", "deep/deep") == (2, "", f"{begin}; it contains a.heic\n")
    (tmp_path / "deep/deep/a.heic").unlink()
    assert convert(*args, "--images", "deep/deep") == (2, "", f"{begin}; it is empty\n")


@pytest.mark.parametrize("kind", ["content", "link", "id"])
def test_an_unreadable_image_is_one_line(kind: str, convert: Run, tmp_path: Path) -> None:
    runs = {"counts": [400], "size": [20, 20]}  # of another size
    annotations = [outline([SQUARE]), outline(runs), outline([]), outline([DOT], image_id=2)] * 9
    annotations = [a for a in annotations if kind != "content" or a["segmentation"] != []]
    entries = images("a.png", "b.png")
    export(tmp_path / "x.json", ("b.png", "c.png"), images=entries, annotations=annotations)
    if kind == "link":
        (tmp_path / "a.png").symlink_to("/etc/hostname")
    elif kind == "content":
        (tmp_path / "a.png").write_bytes(b"no image")
    else:
        entries[0]["file_name"] = 3
        export(tmp_path / "x.json", ("b.png",), images=entries, annotations=annotations)
    code, _, err = convert("x.json", "out", "--from", "coco")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("x.json images[0]: " if kind == "id" else "a.png: ")


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "point": (
        {"annotations": [outline([[HUGE, 1, 2, 3, 4, 5]])]},
        "x.json annotations[0]: segmentation: a point far outside any image",
    ),
    "height": (
        {"images": [{"id": 1, "file_name": "a.png", "height": HUGE, "width": 30}]},
        "a.png: is 20×30; its annotation says 10000000000…×30",
    ),
    "image id": (
        {"annotations": [outline([SQUARE], image_id=HUGE)]},
        "x.json annotations[0]: image_id 100000000000000000000000000000000000000…: no such image",
    ),
    "category id": (
        {"annotations": [outline([SQUARE], category=HUGE)]},
        "x.json annotations[0]: category_id 100000000000000000000000000000000000000…: no such cate",
    ),
    "size of runs": (
        {"annotations": [outline({"counts": [600], "size": [HUGE, 30]})]},
        "x.json annotations[0]: segmentation: run-length code needs counts and size",
    ),
    "an id that is a list": (
        {"annotations": [outline([SQUARE], image_id=[1])]},
        "x.json annotations[0]: image_id [1]: expected an integer",
    ),
    "negative runs": (
        {"annotations": [outline({"counts": [-5, 605], "size": [20, 30]})]},
        "x.json annotations[0]: run-length code: ",
    ),
    "garbage instead of runs": (
        {"annotations": [outline({"counts": "é~", "size": [20, 30]})]},
        "x.json annotations[0]: run-length code: ",
    ),
    "many boxes": (
        {"annotations": [outline([])] * 30},
        "x.json annotations[0] (and 29 more): segmentation: empty; expected polygons (a box has",
    ),
    "an unknown category": (
        {"annotations": [outline([SQUARE], category=9)] * 30},
        "x.json annotations[0] (and 29 more): category_id 9: no such category",
    ),
    "pairs": (
        {"annotations": [outline([[1, 2], [3, 4], [5, 6]])]},
        "x.json annotations[0]: segmentation: a list of points; expected polygons",
    ),
    "a name of two classes": (
        {
            "categories": [category(0, "dent"), category(1, "dent")],
            "annotations": [outline([SQUARE], 0), outline([SQUARE], 1)],
        },
        "x.json categories[1]: 1 'dent' appears twice, also as 0; rename one",
    ),
    "an image twice": (
        {"images": images("a.png", "./a.png")},
        "x.json images[1]: file_name 'a.png' is that of images[0]; merge the two",
    ),
    "no annotations": (
        {"annotations": []},
        "x.json: no objects: every image would count as defect-free",
    ),
    "only slivers": (
        {"annotations": [outline([[1, 2, 3, 4]])]},
        "x.json: no objects: every image would count as defect-free; 1 outlines of fewer than",
    ),
    "all outside": (
        {"annotations": [outline([[99, 99, 120, 99, 120, 120]])]},
        "out: not written: none of the 1 objects covers a pixel of its image (the first is x.json",
    ),
    "turned": (
        {"images": [{"id": 1, "file_name": "a.png", "height": 30, "width": 20}]},
        "a.png: is 20×30; its annotation says 30×20 (height × width; turned by its EXIF",
    ),
    "a long name": ({"images": images("a" * 5000 + ".png")}, "x.json: image 'aaaaaaa"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_values_are_one_short_line(kind: str, convert: Run, tmp_path: Path) -> None:
    changes, said = BAD[kind]
    export(tmp_path / "x.json", **changes)
    code, _, err = convert("x.json", "out", "--from", "coco")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(said)
    assert len(err) < 300
    assert not Path("out").exists()


def test_slivers_are_passed_over_and_counted(convert: Run, tmp_path: Path) -> None:
    parts = [outline([SQUARE, [1, 1, 2, 2]]), outline([[1, 2, 3, 4]]), outline([[], DOT])]
    export(tmp_path / "x.json", annotations=parts)
    code, out, _ = convert("x.json", "out", "--from", "coco")
    assert code == 0
    assert "out: 1 image (0 without objects), 2 objects of 1 class:" in out
    assert (
        "3 outlines of fewer than three points are passed over (expected polygons of at least "
        "three points: x, y, …); 1 objects have no other part and are lost\n" in out
    )
    assert (mask_of(Path("out"), "a.png") == 1).sum() == 64


def test_text_as_image_ids(convert: Run, tmp_path: Path) -> None:
    entry = {"id": "coil-1", "file_name": "a.png"}
    export(tmp_path / "x.json", images=[entry], annotations=[outline([DOT], image_id="coil-1")])
    assert convert("x.json", "out", "--from", "coco")[0] == 0
    assert (mask_of(Path("out"), "a.png") == 1).sum() == 4


@pytest.mark.parametrize(
    "corners",
    [[3, 4, 4, 4, 4, 18, 3, 18], SQUARE, [5, 7, 29, 7, 29, 8, 5, 8], [0, 0, 30, 0, 0, 20]],
)
def test_polygons_and_runs_of_one_object_are_the_same(
    corners: list[int], convert: Run, tmp_path: Path
) -> None:
    """The second file's runs are of the pixels with their centres inside."""
    from matplotlib.path import Path as Outline

    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    points = np.column_stack([x.ravel(), y.ravel()])
    inside = Outline(np.array(corners).reshape(-1, 2)).contains_points(points).reshape(SIZE)
    for name, segmentation in (
        ("polygons", [corners]),
        ("runs", {"counts": counts(inside), "size": list(SIZE)}),
    ):
        export(tmp_path / "x.json", annotations=[outline(segmentation)])
        assert convert("x.json", name, "--from", "coco")[0] == 0
    polygons, runs = (mask_of(Path(name), "a.png") for name in ("polygons", "runs"))
    assert (polygons == runs).all()
    assert runs.any()


def test_an_archive_is_to_be_unpacked(convert: Run, tmp_path: Path) -> None:
    (tmp_path / "export.zip").write_bytes(b"PK")
    for kind in ("coco", "yolo"):
        code, _, err = convert("export.zip", "out", "--from", kind)
        assert (code, err) == (2, "export.zip: an archive; unpack it and pass what is in it\n")


def test_many_objects_need_the_memory_of_one_image(tmp_path: Path) -> None:
    """Not one layer per object: these would need 200 times the pixels."""
    height, width = 300, 400
    image(tmp_path / "a.png", (height, width))
    entry = {"id": 1, "file_name": "a.png"}
    square = [[0, 0, width, 0, width, height, 0, height]]
    runs = {"counts": [0, width * height], "size": [height, width]}
    for kind in (square, runs):
        export(tmp_path / "x.json", (), images=[entry], annotations=[outline(kind)] * 200)
        labelled = coco.read(tmp_path / "x.json")
        labelled.items[0].objects[0].draw((height, width))  # imports what is needed
        tracemalloc.start()
        convert_labelled(labelled, tmp_path / "out")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 25 * width * height  # bytes
        shutil.rmtree(tmp_path / "out")


UNREADABLE: dict[str, tuple[dict[str, Any], str]] = {
    "an id as text": (
        {"categories": [{"id": "7", "name": "dent"}]},
        "categories[0]: id '7', name 'dent'; expected an integer and a name",
    ),
    "images without a path": (
        {"images": [{"id": 1, "video_id": 1}]},
        "images[0]: file_name: ''; expected the path of an image",
    ),
    "a path that is a number": (
        {"images": [{"id": 1, "file_name": 7}]},
        "images[0]: file_name: 7; expected the path of an image",
    ),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_was_given_is_said(kind: str, convert: Run, tmp_path: Path) -> None:
    changes, said = UNREADABLE[kind]
    exports.coco(tmp_path, **changes)
    code, _, err = convert("instances.json", "out", "--from", "coco")
    assert (code, err) == (2, f"instances.json {said}\n")


def test_a_number_of_too_many_digits(convert: Run, tmp_path: Path) -> None:
    file = exports.coco(tmp_path)
    file.write_text(file.read_text().replace('"id": 1,', f'"id": {"9" * 5000},'))
    code, _, err = convert("instances.json", "out", "--from", "coco")
    assert code == 2
    assert "cannot be read as JSON (Exceeds the limit (4300 digits)" in err
    assert "sys." not in err
