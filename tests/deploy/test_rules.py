"""Compare the rules with a plain loop; test untrusted files."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlunet.data.bits import bit_field, class_masks
from tlunet.deploy.card import Card, read_tuned
from tlunet.deploy.rules import FLIPS, Rules
from tlunet.errors import DataError
from tlunet.runs.folder import check_finished

RULES = Rules((0.3, 0.5, 0.7), (0, 6, 2), (0.0, 0.0, 0.4), (0.5, 0.2, 0.9), "both")
CARD = Card(("a", "b", "ü"), 0.45, (32, 64), "resnet18", "fpn", "0123", RULES)


def test_masks_are_dropped_whole_or_not_at_all() -> None:
    rng = np.random.default_rng(0)
    dropped = 0
    for _ in range(50):
        masks = rng.random((3, 3, 4)) < rng.random()
        labels = rng.random(3).astype(np.float32)
        settled = class_masks(RULES.settle(bit_field(masks), labels), 3)
        for m, mask in enumerate(masks):
            is_kept = mask.sum() >= RULES.min_areas[m] and labels[m] >= RULES.gates[m]
            assert np.array_equal(settled[m], mask if is_kept else np.zeros_like(mask))
            dropped += mask.any() and not is_kept
    assert dropped > 10


def test_plain_rules_are_one_threshold() -> None:
    plain = Rules.plain(2, 0.45)
    assert plain.is_plain
    assert not RULES.is_plain
    assert not dataclasses.replace(plain, flips="both").is_plain
    bits = np.array([[3, 1]], np.uint8)
    assert plain.settle(bits, np.zeros(2, np.float32)) is bits
    # The threshold itself does not count as above, compared in float32 like the probabilities.
    assert plain.present(np.float32([0.45, 0.4500001])).tolist() == [False, True]


@pytest.mark.parametrize("classes", [1, 8, 9, 17, 32])
def test_bit_fields_go_there_and_back(classes: int) -> None:
    masks = np.random.default_rng(0).random((2, classes, 3, 4)) > 0.5
    bits = bit_field(masks)
    assert bits.shape == (2, 3, 4)
    for one, field in zip(masks, bits, strict=True):
        assert np.array_equal(class_masks(field, classes), one)


def test_views_are_turned_back_by_turning_again() -> None:
    image = np.arange(12).reshape(3, 4)
    for views in FLIPS.values():
        assert views[0] == ()
        assert all(np.array_equal(np.flip(np.flip(image, v), v), image) for v in views)


def test_a_card_goes_there_and_back() -> None:
    assert Card.from_metadata(CARD.as_metadata(), "m") == CARD
    bare = Card(("a",), 0.5)
    assert Card.from_metadata(bare.as_metadata(), "m") == bare
    assert CARD.rules(False, Path()) == Rules.plain(3, 0.45)
    assert CARD.rules(True, Path()) == RULES
    with pytest.raises(DataError, match=r"^m: not tuned; before --tuned, run tlunet tune"):
        bare.rules(True, Path("m"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", "tlunet-9", "metadata format is 'tlunet-9', expected tlunet-1"),
        ("classes", [], "invalid classes"),
        ("classes", ["x"] * 33, "invalid classes"),
        ("classes", [1, 2, 3], "invalid classes"),
        ("threshold", 1.5, "invalid classes, threshold"),
        ("threshold", None, "invalid classes, threshold"),
        ("size", [32], "invalid classes, threshold or size"),
        ("size", [32, 10**9], "invalid classes, threshold or size"),
        ("size", "64", "invalid classes, threshold or size"),
        ("tuned", [], "contains no tuned rules"),
        ("tuned", RULES.as_dict() | {"flips": "sideways"}, "contains no tuned rules"),
        ("tuned", RULES.as_dict() | {"gates": [0.1]}, "gates: expected 3 numbers"),
        ("tuned", RULES.as_dict() | {"gates": [0.1, 0.2, 3]}, "above 1"),
        (
            "tuned",
            RULES.as_dict() | {"min_areas": [1, 2, "3"]},
            "min_areas: expected 3 non-negative numbers",
        ),
        (
            "tuned",
            RULES.as_dict() | {"thresholds": [-1, 0, 0]},
            "thresholds: expected 3 non-negative numbers",
        ),
    ],
)
def test_a_strangers_card_is_a_line(key: str, value: Any, message: str) -> None:
    metadata = CARD.as_metadata() | {key: json.dumps(value)}
    with pytest.raises(DataError, match=message) as caught:
        Card.from_metadata(metadata, "m.onnx")
    assert caught.value.lines[0].startswith("m.onnx")


@pytest.mark.parametrize("text", ["{", "[" * 3000, "nan"])
def test_a_card_that_is_not_json_is_a_line(text: str) -> None:
    with pytest.raises(DataError, match=r"^m: "):
        Card.from_metadata(CARD.as_metadata() | {"classes": text}, "m")
    with pytest.raises(DataError, match="metadata of tlunet export is missing"):
        Card.from_metadata({"author": text}, "m")


def test_what_a_run_folder_says(tmp_path: Path) -> None:
    assert read_tuned(tmp_path, 3) is None
    (tmp_path / "tuned.json").write_text(json.dumps({"rules": RULES.as_dict()}))
    assert read_tuned(tmp_path, 3) == RULES
    for text in ("{", "[]", '{"rules": 3}'):
        (tmp_path / "tuned.json").write_text(text)
        with pytest.raises(DataError, match=r"tuned\.json"):
            read_tuned(tmp_path, 3)
    check_finished(tmp_path)  # a network copied without status.json has no state to check
    (tmp_path / "status.json").write_text('{"state": "running"}')
    with pytest.raises(DataError, match="its state is 'running', not finished"):
        check_finished(tmp_path)
    (tmp_path / "status.json").write_text("3")
    with pytest.raises(DataError, match=r"status\.json: cannot be read"):
        check_finished(tmp_path)
