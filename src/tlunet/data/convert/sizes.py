"""A common size for images of different sizes."""

from collections import Counter
from itertools import product
from math import log
from statistics import median_low

STEP = 32  # the encoders halve an image five times


def common_size(sizes: Counter[tuple[int, int]]) -> tuple[int, int]:
    """Choose a size near the median one: multiples of 32, with almost the same aspect.

    Args:
        sizes: (height, width) → number of images.

    >>> common_size(Counter({(1240, 500): 3, (1270, 500): 3, (1255, 500): 1}))
    (1280, 512)
    """
    heights, widths = zip(*sizes.elements(), strict=True)
    median = median_low(heights), median_low(widths)
    near = product(_near(median[0]), _near(median[1]))
    return min(near, key=lambda size: _change(size, median))


def _near(pixels: int) -> list[int]:
    """Return the multiples of 32 around a height or width."""
    below = pixels // STEP
    return [STEP * k for k in range(max(below - 1, 1), below + 3)]


def _change(size: tuple[int, int], median: tuple[int, int]) -> float:
    """Return how much the aspect (counted more) and the area change, on a logarithmic scale."""
    height, width = log(size[0] / median[0]), log(size[1] / median[1])
    return 2 * abs(height - width) + abs(height + width) / 2
