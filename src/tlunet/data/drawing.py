"""How masks are drawn over an image, the same in reports, overlays, pages and W&B.

The inside is tinted so that the steel shows through, the edge is in the full colour of the class,
and a dark rim outside keeps it visible on steel as bright as the colour. The image browser of a
report paints the same pixels in JavaScript (``report/document/page.js``).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlunet.data.colours import OUTCOME_COLOURS, class_colour, red_green_blue

Masks = NDArray[np.bool_]
Colour = tuple[int, int, int]

FINE = 500  # pixels: width from which an edge of one pixel is thin
FILL = 115  # of 255: opacity inside a mask
RIM = 170  # of 255: opacity of the dark rim


def draw(
    image: NDArray[np.uint8],
    masks: Masks,
    colours: Sequence[Colour] | None = None,
    fill: int = FILL,
) -> NDArray[np.uint8]:
    """Draw masks over an image.

    Args:
        image: (H, W) or (H, W, 3).
        masks: (M, H, W).
        colours: M colours; default: those of the classes.
        fill: opacity inside a mask, of 255; 0 draws outlines.

    Returns:
        (H, W, 3).
    """
    painted = paint(masks, colours, fill)
    alpha = painted[..., 3:].astype(np.float32) / 255
    steel = image[..., None] if image.ndim == 2 else image
    return np.rint((1 - alpha) * steel + alpha * painted[..., :3]).astype(np.uint8)


def paint(
    masks: Masks, colours: Sequence[Colour] | None = None, fill: int = FILL
) -> NDArray[np.uint8]:
    """Paint masks on a transparent picture.

    Where classes overlap, the tints are mixed and every edge stays visible. The border of the
    image is an edge, too.

    Args:
        masks: (M, H, W).
        colours: M colours; default: those of the classes.
        fill: opacity inside a mask, of 255.

    Returns:
        Red, green, blue, opacity, (H, W, 4).
    """
    _, height, width = masks.shape
    thick = _rounded(width / FINE)
    picture = np.zeros((height, width, 4), np.uint8)
    is_edge, is_tinted = np.zeros((2, height, width), bool)
    for m, mask in enumerate(masks):
        if not mask.any():
            continue
        colour = np.array(colours[m] if colours else class_colour(m))
        inside = mask & np.logical_and.reduce(_sides(mask, thick))
        free, mixed = inside & ~is_edge & ~is_tinted, inside & ~is_edge & is_tinted
        picture[free] = (*colour, fill)
        picture[mixed, :3] = np.rint(0.5 * picture[mixed, :3] + 0.5 * colour)
        picture[mask & ~inside] = (*colour, 255)
        is_tinted |= inside
        is_edge |= mask & ~inside
    union = is_tinted | is_edge
    picture[np.logical_or.reduce(_sides(union, thick)) & ~union, 3] = RIM
    return picture


def zoom(side: int) -> int:
    """Return how many times a small image is enlarged, so that the edges of its masks are thin.

    Args:
        side: pixels of the longer side, which bounds the size of the result.

    >>> zoom(32), zoom(200), zoom(1600)
    (16, 3, 1)
    """
    return _rounded(FINE / side)


def enlarged(pixels: NDArray[Any], times: int) -> NDArray[Any]:
    """Repeat every pixel of an array (…, H, W) in both directions.

    >>> enlarged(np.array([[1, 2]]), 2).tolist()
    [[1, 1, 2, 2], [1, 1, 2, 2]]
    """
    return pixels.repeat(times, -2).repeat(times, -1)


def enlarged_image(image: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    """Repeat every pixel of an image (H, W) or (H, W, 3) in both directions."""
    return image.repeat(times, 0).repeat(times, 1)


def outcomes(truth: Masks, predicted: Masks) -> Masks:
    """Compare masks with the truth, pixel by pixel.

    Args:
        truth: (M, H, W).
        predicted: (M, H, W).

    Returns:
        (3, H, W), in the order of `tlunet.data.colours.OUTCOMES`: found (predicted as its class),
        missed (a defect, but not found, or found as another class) and false alarm (predicted, but
        no defect); no pixel is in two of them.
    """
    found, is_defect = (truth & predicted).any(0), truth.any(0)
    return np.stack([found, is_defect & ~found, predicted.any(0) & ~is_defect])


def draw_outcomes(image: NDArray[np.uint8], truth: Masks, predicted: Masks) -> NDArray[np.uint8]:
    """Draw what was found, missed and falsely predicted over an image, (H, W, 3)."""
    colours = [red_green_blue(colour) for colour in OUTCOME_COLOURS]
    return draw(image, outcomes(truth, predicted), colours)


def compared(image: NDArray[np.uint8], truth: Masks, predicted: Masks) -> NDArray[np.uint8]:
    """Draw the truth, the prediction and their :func:`outcomes`, next to or below one another.

    Args:
        image: (H, W) or (H, W, 3); enlarged if it is small.
        truth: (M, H, W).
        predicted: (M, H, W).

    Returns:
        Three pictures in one, (H', W', 3): below one another if the image is a strip.
    """
    height, width = image.shape[:2]
    times = zoom(max(height, width))
    steel = enlarged_image(image, times)
    large_truth, large_predicted = enlarged(truth, times), enlarged(predicted, times)
    three = [
        draw(steel, large_truth),
        draw(steel, large_predicted),
        draw_outcomes(steel, large_truth, large_predicted),
    ]
    is_strip = width > 2 * height
    gap = [(0, 6), (0, 0)] if is_strip else [(0, 0), (0, 6)]
    parted = [np.pad(one, [*gap, (0, 0)], constant_values=255) for one in three[:2]]
    return np.concatenate([*parted, three[2]], axis=0 if is_strip else 1)


def _sides(mask: Masks, by: int) -> tuple[Masks, Masks, Masks, Masks]:
    """Shift a mask to its four sides; nothing is outside the image."""
    padded = np.pad(mask, by)
    return (
        padded[2 * by :, by:-by], padded[: -2 * by, by:-by],
        padded[by:-by, 2 * by :], padded[by:-by, : -2 * by],
    )  # fmt: skip


def _rounded(number: float) -> int:
    """Round halves up, as JavaScript does, to at least 1."""
    return max(1, int(number + 0.5))
