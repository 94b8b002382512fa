"""How an image of other proportions gets into a frame of height × width: stretched, or padded."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlunet.errors import ConfigError

FITS = ("stretch", "pad")


def check_fit(fit: str, key: str = "data.fit") -> None:
    """Raise ConfigError for an unknown way."""
    if fit not in FITS:
        raise ConfigError(f"{key}={fit}: expected {', '.join(FITS)}")


def content_size(native: tuple[int, int], frame: tuple[int, int], fit: str) -> tuple[int, int]:
    """Return the (height, width) that an image has in a frame, where it starts at the top left.

    Args:
        native: (height, width) of the image.
        frame: (height, width) of the frame.
        fit: ``stretch``: it fills the frame; ``pad``: it keeps its proportions, and the rest is
            black and does not count.

    >>> content_size((100, 50), (64, 64), "stretch"), content_size((100, 50), (64, 64), "pad")
    ((64, 64), (64, 32))
    >>> content_size((1, 1000), (64, 64), "pad")
    (1, 64)
    """
    if fit == "stretch":
        return frame
    scale = min(frame[0] / native[0], frame[1] / native[1])
    height, width = (
        min(most, max(1, round(side * scale))) for side, most in zip(native, frame, strict=True)
    )
    return height, width


def framed(pixels: NDArray[Any], frame: tuple[int, int]) -> NDArray[Any]:
    """Pad an image (H, W[, 3]) or bit field (H, W) with zeros, below and to the right.

    >>> framed(np.ones((1, 2), int), (2, 3)).tolist()
    [[1, 1, 0], [0, 0, 0]]
    """
    height, width = pixels.shape[:2]
    if (height, width) == frame:
        return pixels
    rest = [(0, frame[0] - height), (0, frame[1] - width)] + [(0, 0)] * (pixels.ndim - 2)
    return np.pad(pixels, rest)
