"""Choose the images shown for a data set, and draw their masks."""

import io
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tlunet.data.bits import class_masks
from tlunet.data.drawing import enlarged, paint, zoom
from tlunet.data.readers.decode import decode
from tlunet.errors import DataError
from tlunet.report.dataset.facts import Combination, Facts
from tlunet.report.document.document import Gallery, Row, Tile
from tlunet.report.figures.style import COLOURS

COMBINATIONS = 6  # the most frequent ones, in addition to those that show each class
REPEATS = 8  # groups of duplicated images
COPIES = 4  # images per group
WIDEST = 1200  # pixels, width of an image on the page

RULE = (
    "Chosen by rule: the {n} most frequent combinations of classes, plus the most frequent one of "
    "every class not among them; from each, {each} images evenly spaced by defect area (by name if "
    "there is no defect)."
)


class Example(NamedTuple):
    """An image with its masks: (H, W) or (H, W, 3), and (M, H, W)."""

    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]


def chosen(facts: Facts) -> list[tuple[Combination, list[int]]]:
    """Choose the combinations to show, and the rows of their images."""
    shown = facts.combinations[:COMBINATIONS]
    for m in range(len(facts.names)):
        if not any(m in combination.classes for combination in shown):
            shown += [c for c in facts.combinations if m in c.classes][:1]
    return [(combination, _spread(facts, combination)) for combination in shown]


def each(facts: Facts) -> int:
    """Number of images shown per combination: fewer for strips, which fill a whole row."""
    height, width = np.median(facts.survey.sizes, axis=0)
    return 2 if width > 2 * height else 4


def _spread(facts: Facts, combination: Combination) -> list[int]:
    rows = combination.rows[np.argsort(facts.areas[combination.rows], kind="stable")]
    n = each(facts)
    places = dict.fromkeys(int((k + 0.5) / n * len(rows)) for k in range(n))
    return [int(rows[place]) for place in places]


def examples_of(facts: Facts) -> Gallery:
    """Show images of every class and of the most frequent combinations."""
    total = len(facts.survey.records)
    rows = []
    for combination, picked in chosen(facts):
        n = len(combination.rows)
        title = f"{facts.named(combination.classes)}: {n:,} images, {100 * n / total:.2g}%"
        rows.append(Row(title, tuple(_tile(facts, row) for row in picked)))
    n = min(COMBINATIONS, len(facts.combinations))
    return _gallery(facts, RULE.format(n=n, each={2: "two", 4: "four"}[each(facts)]), rows)


def repeats_of(facts: Facts) -> Gallery:
    """Show duplicated images side by side."""
    rows = []
    for repeat in facts.summary.repeats[:REPEATS]:
        title = " / ".join(sorted({facts.named_row(row) for row in repeat.rows}))
        more = len(repeat.rows) - COPIES
        title = f"{len(repeat.rows)} near-identical images: {title}" + (
            f" ({COPIES} shown)" if more > 0 else ""
        )
        rows.append(Row(title, tuple(_tile(facts, row) for row in repeat.rows[:COPIES])))
    rule = "Groups with conflicting labels come first."
    if len(facts.summary.repeats) > REPEATS:
        rule += f" {REPEATS} of {len(facts.summary.repeats)} groups are shown."
    return _gallery(facts, rule, rows)


def _gallery(facts: Facts, rule: str, rows: list[Row]) -> Gallery:
    return Gallery(rule, facts.names, tuple(colours(len(facts.names))), tuple(rows))


def colours(classes: int) -> list[str]:
    """Return a colour for each class, ``#rrggbb``; they repeat beyond seven classes."""
    return [COLOURS[m % len(COLOURS)] for m in range(classes)]


def read(facts: Facts, row: int) -> Example:
    """Read an image and its masks from disk again.

    Raises:
        DataError: the image has changed since the survey.
    """
    record = facts.survey.records[row]
    outcome = decode(record, len(facts.names))
    if isinstance(outcome, list):
        raise DataError(*map(str, outcome))
    image, bits = outcome
    return Example(image, class_masks(bits, len(facts.names)))


def _tile(facts: Facts, row: int) -> Tile:
    example = read(facts, row)
    height, width = example.image.shape[:2]
    pixels, labels = facts.survey.pixels[row], facts.survey.labels[row]
    note = ", ".join(f"{facts.names[m]} {pixels[m]:,} px" for m in np.flatnonzero(labels))
    jpeg, masks = io.BytesIO(), io.BytesIO()
    small, layers = shrunk(example)
    # Small images are shown enlarged, where JPEG blocks would be visible.
    Image.fromarray(small).save(jpeg, "JPEG", quality=75 if width > 200 else 92)
    painting = Image.fromarray(paint(enlarged(layers, zoom(max(layers.shape[1:])))))
    painting.quantize(256, Image.Quantize.FASTOCTREE).save(masks, "PNG", optimize=True)
    name = facts.survey.records[row].image_id
    return Tile(name, note or "no defect", jpeg.getvalue(), masks.getvalue(), (height, width))


def shrunk(example: Example, widest: int = WIDEST) -> Example:
    """Shrink an image and its masks for display, without losing any defect."""
    height, width = example.image.shape[:2]
    if width <= widest:
        return example
    size = (widest, max(1, round(height * widest / width)))
    image = np.asarray(Image.fromarray(example.image).resize(size, Image.Resampling.BOX))
    layers = [
        np.asarray(Image.fromarray(layer.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX))
        for layer in example.masks
    ]
    return Example(image, np.stack(layers) > 0)
