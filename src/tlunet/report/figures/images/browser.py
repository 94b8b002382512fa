"""The image browser of a report: its images, masks and scores."""

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
from PIL import Image

from tlunet.data.rle import decode, encode
from tlunet.report.document.document import Browser, Sample
from tlunet.report.figures.images.pictures import Pictures
from tlunet.report.figures.style import COLOURS

IN_BROWSER = 300  # at most this many images, so that the file is small enough to send
WIDEST = 1200  # pixels, width of an image in the browser
SMALL = 200  # pixels: images up to this width are enlarged in the browser


def browser(all_pictures: Sequence[Pictures]) -> Browser:
    """Build the image browser for all comparisons.

    Args:
        all_pictures: one per comparison, all from the same block.
    """
    first = all_pictures[0]
    ids = first.image_ids
    shown = _limited(first.dice, ids)
    samples = tuple(_sample(name, all_pictures) for name in shown)
    note = (
        f"Seed {first.seed}. Dice per image, classes pooled; – for images without a defect. "
        + (f"All {len(ids)} test images." if len(shown) == len(ids) else
           f"{len(shown)} of {len(ids)} test images: the largest gains and the largest losses of "
           "the first comparison, and an evenly spaced sample of the rest.")
    )  # fmt: skip
    pairs = tuple((" vs. ".join(p.names), p.names[1], p.names[0]) for p in all_pictures)
    classes = first.pack.classes
    colours = tuple(COLOURS[m % len(COLOURS)] for m in range(len(classes)))
    return Browser("Image browser", pairs, classes, colours, samples, note)


def _limited(dice: pd.DataFrame, ids: list[str]) -> list[str]:
    if len(ids) <= IN_BROWSER:
        return ids
    third = IN_BROWSER // 3
    order = dice["difference"].fillna(0.0).sort_values(kind="stable").index.tolist()
    middle = order[third:-third]
    spread = [middle[round(k)] for k in np.linspace(0, len(middle) - 1, IN_BROWSER - 2 * third)]
    return order[:third] + list(dict.fromkeys(spread)) + order[-third:]


def _sample(name: str, all_pictures: Sequence[Pictures]) -> Sample:
    first = all_pictures[0]
    classes = range(1, len(first.pack.classes) + 1)
    predictions: dict[str, tuple[str, ...]] = {}
    scores: dict[str, float | None] = {}
    for pictures in all_pictures:
        dice = pictures.dice.loc[name]
        for cell, masks, score in zip(
            pictures.names, pictures.masks, (dice["a"], dice["b"]), strict=True
        ):
            codes = (masks.get((name, c), "") for c in classes)
            predictions[cell] = tuple(_cropped(runs, first, name) for runs in codes)
            scores[cell] = None if pd.isna(score) else float(score)
    layers = first.truth(name)
    truth = tuple(encode(layer) for layer in layers)
    picture = Image.fromarray(first.image(name))
    shown, size = (picture.height, picture.width), (layers.shape[1], layers.shape[2])
    return Sample(name, _jpeg(picture), size, truth, predictions, scores, shown)


def _cropped(runs: str, pictures: Pictures, name: str) -> str:
    """Encode a predicted mask without its padding."""
    if not runs or pictures.pack.fit == "stretch":
        return runs
    return encode(decode(runs, pictures.pack.size)[pictures.region(name)])


def _jpeg(picture: Image.Image) -> bytes:
    if picture.width > WIDEST:
        picture = picture.resize((WIDEST, round(picture.height * WIDEST / picture.width)))
    file = io.BytesIO()
    if picture.width > SMALL:
        picture.save(file, "JPEG", quality=75)
    else:  # shown enlarged, where JPEG blocks and colour bleeding would be visible
        picture.save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()
