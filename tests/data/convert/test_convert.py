"""`tlunet data convert`: COCO and YOLO outlines as masks, and invalid input."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.convert.exports import (
    DOT,
    FAR,
    SIZE,
    SQUARE,
    Run,
    coco,
    counts,
    image,
    mask_of,
    row,
    yolo,
)
from hydra import compose, initialize_config_dir

from tlunet.cli.data import _names
from tlunet.data.readers import folder
from tlunet.data.readers.pixels import read_mask

pytest.importorskip("supervision", reason="the extra convert is not installed")

CONF = Path(__file__).parents[3] / "conf"


def test_coco_polygons_and_runs(convert: Run, tmp_path: Path) -> None:
    runs = np.zeros(SIZE, bool)
    runs[0:3, 15:18] = True
    coco(
        tmp_path,
        (7, [SQUARE, FAR]),
        (3, {"counts": counts(runs), "size": list(SIZE)}),
    )
    code, out, err = convert("instances.json", "out", "--from", "coco")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[1:] == [
        "out: 2 images (1 without objects), 2 objects of 2 classes: 1 = rolled in, 2 = dent",
        "lost to overlaps (the smaller object wins): none",
        "view it: tlunet data show out --classes 'rolled in,dent'",
        "train on it: python run.py data=folder data.root=out \"data.classes=['rolled in',dent]\"",
    ]
    mask = mask_of(Path("out"), "a.png")
    assert [int((mask == m).sum()) for m in (1, 2)] == [9, 64 + 15]
    assert (mask[0:3, 15:18] == 1).all()
    assert (mask[2:10, 2:10] == 2).all()
    assert not mask_of(Path("out"), "b.png").any()
    assert Path("out/images/b.jpg").read_bytes() == Path("images/b.jpg").read_bytes()

    source = folder.read(Path("out"), classes=["rolled in", "dent"])
    assert source.problems == ()
    assert (read_mask(source.records[0], SIZE, 2) == np.where(mask > 0, 1 << (mask - 1), 0)).all()


def test_compressed_runs_are_read_as_the_plain_ones(convert: Run, tmp_path: Path) -> None:
    from supervision import mask_to_rle

    runs = np.zeros(SIZE, bool)
    runs[5:9, 3:20] = True
    text = mask_to_rle(runs, compressed=True)
    for name, code in (("text", text), ("plain", counts(runs))):
        coco(tmp_path, (3, {"counts": code, "size": list(SIZE)}))
        assert convert("instances.json", name, "--from", "coco")[0] == 0
        assert (mask_of(Path(name), "a.png") == runs).all()


def test_yolo_polygons(convert: Run, tmp_path: Path) -> None:
    yolo(tmp_path / "set", row(1, FAR))
    code, out, err = convert("set", "out", "--from", "yolo")
    assert (code, err) == (0, "")
    assert "out: 2 images (1 without objects), 1 object of 2 classes: 1 = dent" in out
    mask = mask_of(Path("out"), "train/a.png")
    assert (mask[10:13, 20:25] == 2).all()
    assert int((mask > 0).sum()) == 15
    assert sorted(p.name for p in Path("out/images").rglob("*.*")) == ["a.png", "b.jpg"]


def test_the_layout_of_roboflow(convert: Run, tmp_path: Path) -> None:
    yolo(tmp_path / "flat", "0 0.1 0.1 0.5 0.1 0.5 0.5")
    for part, name in (("train", "a.png"), ("val", "b.jpg")):
        (tmp_path / "set" / part).mkdir(parents=True)
        shutil.move(tmp_path / "flat/images" / part, tmp_path / "set" / part / "images")
        assert (tmp_path / "set" / part / "images" / name).exists()
    shutil.move(tmp_path / "flat/labels/train", tmp_path / "set/train/labels")
    (tmp_path / "set/data.yaml").write_text("names: {0: dent}\n")
    assert convert("set", "out", "--from", "yolo")[0] == 0
    assert mask_of(Path("out"), "train/a.png").any()
    assert not mask_of(Path("out"), "val/b.png").any()


def test_the_smaller_object_is_on_top_and_losses_are_counted(convert: Run, tmp_path: Path) -> None:
    for outlines in ([(7, [SQUARE]), (3, [DOT])], [(3, [DOT]), (7, [SQUARE])]):
        coco(tmp_path, *outlines)
        code, out, _ = convert("instances.json", "out", "--from", "coco")
        assert code == 0
        assert "(the smaller object wins): dent 4 of 64 pixels" in out
        mask = mask_of(Path("out"), "a.png")
        assert [int((mask == m).sum()) for m in (1, 2)] == [4, 60]
        shutil.rmtree("out")


def test_objects_of_one_class_lose_nothing(convert: Run, tmp_path: Path) -> None:
    coco(tmp_path, (7, [SQUARE]), (7, [DOT]))
    assert "wins): none" in convert("instances.json", "out", "--from", "coco")[1]


def test_the_lines_to_type_work_for_any_name(convert: Run, tmp_path: Path) -> None:
    names = ["rolled in, flat", 'a "b"', "null", "7", "c:d=e[f]", "ok_1"]
    categories = [{"id": k, "name": name} for k, name in enumerate(names)]
    coco(tmp_path, (0, [SQUARE]), categories=categories)
    code, out, _ = convert("instances.json", "out", "--from", "coco")
    assert code == 0
    look, train = (shlex.split(line.partition(": ")[2]) for line in out.splitlines()[-2:])
    assert _names(look[-1]) == names
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert list(compose("config", train[2:]).data.classes) == names


def test_images_of_no_entry_are_left_behind_and_counted(convert: Run, tmp_path: Path) -> None:
    coco(tmp_path, (7, [SQUARE]))
    image(tmp_path / "images/c.png")
    assert (
        "1 images have no annotation entry" in convert("instances.json", "o", "--from", "coco")[1]
    )


COCO_FAULTS: dict[str, tuple[list[tuple[int, Any]], dict[str, Any], str]] = {
    "box": (
        [(7, [])],
        {},
        "annotations[0]: segmentation: empty; expected polygons (a box has no outline)",
    ),
    "two points": ([(7, [[1, 2, 3, 4]])], {}, "expected polygons of at least three points"),
    "odd": ([(7, [[1, 2, 3, 4, 5, 6, 7]])], {}, "expected polygons of at least three points"),
    "text": ([(7, [["a", 2, 3, 4, 5, 6]])], {}, "expected polygons of at least three points"),
    "huge": ([(7, [[1e9, 2, 3, 4, 5, 6]])], {}, "a point far outside any image"),
    "category": ([(8, [SQUARE])], {}, "annotations[0]: category_id 8: no such category"),
    "runs of another size": (
        [(7, {"counts": [400], "size": [20, 20]})],
        {},
        "annotations[0]: run-length code is for 20×20, not for this image's size",
    ),
    "runs too short": ([(7, {"counts": [5, 5], "size": [20, 30]})], {}, "annotations[0]: "),
    "runs too long": (
        [(7, {"counts": [10**30], "size": [20, 30]})],
        {},
        "annotations[0]: run-length code: a run is longer than any image",
    ),
    "runs that are no numbers": (
        [(7, {"counts": [None, 600], "size": [20, 30]})],
        {},
        "annotations[0]: segmentation: run-length code needs counts",
    ),
    "runs without size": ([(7, {"counts": [600]})], {}, "run-length code needs counts and size"),
    "no image": (
        [],
        {"images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "x.png"}]},
        "images[1]: file_name 'x.png': no such image in",
    ),
    "climbs": (
        [],
        {"images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "../../x.png"}]},
        "images[1]: file_name '../../x.png': no such image in",
    ),
    "size": (
        [],
        {"images": [{"id": 1, "file_name": "a.png", "height": 30, "width": 20}]},
        "a.png: is 20×30; its annotation says 30×20",
    ),
    "twice": (
        [],
        {"images": [{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.jpg"}]},
        "images[1]: id 1 appears twice",
    ),
    "list": ([], {"annotations": {}}, "expected COCO instances: an object with the lists"),
    "entry": ([], {"annotations": [3]}, "annotations[0]: 3; expected an object"),
    "no category": ([], {"categories": []}, "contains no categories"),
    "category twice": (
        [],
        {"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]},
        "categories[1]: 2 'a' appears twice",
    ),
    "no images": ([], {"images": []}, "contains no images"),
}


@pytest.mark.parametrize("fault", COCO_FAULTS)
def test_bad_coco_is_one_line(fault: str, convert: Run, tmp_path: Path) -> None:
    outlines, changes, said = COCO_FAULTS[fault]
    coco(tmp_path, *outlines, **changes)
    code, _, err = convert("instances.json", "out", "--from", "coco")
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "instances.json"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0.5 0.5 0.1 0.1", "row 1: a box has no outline; expected a polygon"),
        ("0 0.1 0.1 0.2", "row 1: 4 values; expected a class and at least three points"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.9", "row 1: 8 values; expected a class and at least"),
        ("2 0.1 0.1 0.2 0.2 0.3 0.1", "row 1: class '2'; expected 0 to 1"),
        ("-1 0.1 0.1 0.2 0.2 0.3 0.1", "row 1: class '-1'; expected 0 to 1"),
        ("0 12 10 20 10 20 15", "row 1: a point is outside the image; expected fractions of"),
        ("0 nan 0.1 0.2 0.2 0.3 0.1", "row 1: a point is outside the image"),
        ("0 a b 0.2 0.2 0.3 0.1", "row 1: a value is not a number"),
    ],
)
def test_bad_yolo_is_one_line(line: str, said: str, convert: Run, tmp_path: Path) -> None:
    yolo(tmp_path / "set", line)
    code, _, err = convert("set", "out", "--from", "yolo")
    assert code == 2
    assert f"set/labels/train/a.txt {said}" in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("names", ["3", "[]", "[a, a]", "{1: a}", "[1, 2]", "{0: a, 2: b}"])
def test_bad_names_are_one_line(names: str, convert: Run, tmp_path: Path) -> None:
    yolo(tmp_path / "set", names=names)
    code, _, err = convert("set", "out", "--from", "yolo")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("set/data.yaml: names: ")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["x.json", "o", "--from", "coco"], "x.json: no such file or folder"),
        (["empty", "o", "--from", "coco"], "empty: contains 0 JSON files (none); pass the one"),
        (["bad.json", "o", "--from", "coco"], "bad.json: cannot be read as JSON"),
        (["empty", "o", "--from", "yolo"], "empty: contains no data.yaml; expected data.yaml"),
        (["x", "o", "--from", "yolo"], "x: no such folder; expected data.yaml"),
        (["empty", "o", "--from", "voc"], "--from voc: expected coco, yolo"),
        (["empty", "o", "--from", "yolo", "--images", "x"], "--images: only for --from coco"),
        (["good", "empty", "--from", "coco"], "empty: already exists; remove it or choose"),
        (["good", "bad.json/o", "--from", "coco"], "bad.json/o: cannot be written"),
        (["good", "o", "--from", "coco", "--images", "empty"], "instances.json images[0]: file_na"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_lines(args: list[str], said: str, convert: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.json").write_text("{")
    coco(tmp_path / "good")
    code, _, err = convert(*args)
    assert code == 2
    assert said in err.splitlines()[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.json", "empty", "good"]
    assert not any((tmp_path / "empty").iterdir())


def test_two_images_of_one_stem_are_a_fault(convert: Run, tmp_path: Path) -> None:
    image(tmp_path / "images/a.jpg")
    two = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "a.jpg"}]
    coco(tmp_path, images=two)
    code, _, err = convert("instances.json", "out", "--from", "coco")
    assert code == 2
    assert err.count("another image has the same stem; rename one") == 2


def test_only_run_lengths_need_the_library(
    convert: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    coco(tmp_path, (7, [SQUARE]))
    assert convert("instances.json", "polygons", "--from", "coco")[0] == 0
    coco(tmp_path, (7, {"counts": [10, 590], "size": list(SIZE)}))
    code, _, err = convert("instances.json", "out", "--from", "coco")
    assert code == 2
    assert err == (
        "run-length code in a COCO file needs the package supervision: pip install '.[convert]'; "
        "polygons do not\n"
    )
    assert not Path("out").exists()
