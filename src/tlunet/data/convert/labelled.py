"""Images with object outlines in another format, before they are painted into masks."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlunet.data.source import Problem
from tlunet.errors import ConfigError

Draw = Callable[[tuple[int, int]], NDArray[np.bool_]]  # (height, width) → mask of that shape


class Object(NamedTuple):
    """One outlined object.

    Attributes:
        class_id: from 1.
        draw: returns its mask, bool (H, W), for an image of (H, W); raises ValueError if the
            outline does not fit such an image.
        where: file and position of the outline.
    """

    class_id: int
    draw: Draw
    where: str


class Item(NamedTuple):
    """One image with its objects; its id is its path in the new folder."""

    image_id: str
    path: Path
    objects: tuple[Object, ...]
    size: tuple[int, int] | None = None  # (height, width) according to its annotation


class Labelled(NamedTuple):
    """Images and objects found by a reader of another format.

    Attributes:
        classes: the names of the ids 1…M.
        items: the images.
        problems: problems found; none of them stopped the reader.
        unused: number of images without an annotation entry, which are skipped.
    """

    classes: tuple[str, ...]
    items: tuple[Item, ...]
    problems: tuple[Problem, ...] = ()
    unused: int = 0


def draw_polygons(polygons: Sequence[NDArray[np.float64]], is_relative: bool) -> Draw:
    """Return a function that draws an object made of one or more polygons.

    Args:
        polygons: (P, 2) each, x and y; in pixels, or as fractions of width and height.
        is_relative: whether they are fractions.
    """

    def draw(size: tuple[int, int]) -> NDArray[np.bool_]:
        height, width = size
        scale = np.array([width, height]) if is_relative else np.ones(2)
        mask = np.zeros(size, bool)
        for polygon in polygons:
            corners = np.round(polygon * scale).astype(np.int32)
            mask |= _library().polygon_to_mask(corners, (width, height)).astype(bool)
        return mask

    return draw


def draw_runs(counts: list[int] | str) -> Draw:
    """Return a function that draws an object from COCO run-length encoding, plain or compressed."""

    def draw(size: tuple[int, int]) -> NDArray[np.bool_]:
        height, width = size
        try:
            return np.asarray(_library().rle_to_mask(counts, (width, height)), bool)
        except OverflowError:
            raise ValueError("run-length code: a run is longer than any image") from None

    return draw


def _library() -> Any:
    """Import the module `supervision`, which decodes the formats.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import supervision
    except ImportError:
        raise ConfigError(
            "tlunet data convert needs the package supervision: pip install '.[convert]'"
        ) from None
    return supervision
