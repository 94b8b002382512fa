"""COCO's run-length code as pixels: down the columns, background first, plain or compressed."""

from typing import Any

import numpy as np

from tlunet.data.convert.labelled import Draw, Patch
from tlunet.errors import ConfigError, first_line


def draw_runs(counts: list[int] | str, own: tuple[int, int]) -> Draw:
    """Return a function that draws an object from run-length code.

    Args:
        counts: run lengths, or their compressed form.
        own: (height, width) of the image that they are for; on others they would be sheared.
    """

    def draw(size: tuple[int, int]) -> Patch:
        height, width = size
        if size != own:
            raise ValueError(
                f"run-length code is for {own[0]}×{own[1]}, not for this image's size, "
                f"{height}×{width} (height × width)"
            )
        try:
            return _cropped(np.asarray(_library().rle_to_mask(counts, (width, height)), bool))
        except OverflowError:
            raise ValueError("run-length code: a run is longer than any image") from None
        except (ValueError, IndexError, TypeError) as error:
            raise ValueError(f"run-length code: {first_line(error)}") from None

    return draw


def _cropped(mask: np.ndarray) -> Patch:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return Patch(0, 0, np.zeros((0, 0), bool))
    top, left = int(rows[0]), int(columns[0])
    return Patch(top, left, mask[top : rows[-1] + 1, left : columns[-1] + 1])


def _library() -> Any:
    """Import the module `supervision`, which decodes the format.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import supervision
    except ImportError:
        raise ConfigError(
            "run-length code in a COCO file needs the package supervision: "
            "pip install '.[convert]'; polygons do not"
        ) from None
    return supervision
