"""The sizes of a data set's images, and a common one for them."""

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from itertools import product
from math import log, sqrt
from statistics import median_low
from typing import TypeAlias

from tlunet.data.readers.pixels import read_size
from tlunet.data.source import Problem, Record, Source
from tlunet.errors import DataError

STEP = 32  # the encoders halve an image five times
USUAL = 0.9  # fraction of images of one size from which the others count as single mistakes

LARGEST = 256 * 1600  # pixels of an image in training, as many as a strip of Severstal has
SQUEEZED = 0.03  # change of width : height, on a logarithmic scale, that does not matter

Sizes: TypeAlias = Counter[tuple[int, int]]  # (height, width) → number of images


def count_sizes(records: Iterable[Record]) -> Sizes:
    """Count the sizes of images from their headers; unreadable images are left out."""
    sizes: Sizes = Counter()
    for record in records:
        with suppress(DataError):  # reported when it is decoded
            sizes[read_size(record.image)] += 1
    return sizes


def usual_size(sizes: Sizes) -> tuple[int, int] | None:
    """Return the most common size; ``None`` if there is none."""
    return sizes.most_common(1)[0][0] if sizes else None


def are_mixed(sizes: Sizes, usual: float = USUAL) -> bool:
    """Whether no size is that of all images but one, or of at least a fraction ``usual``.

    >>> are_mixed(Counter({(32, 64): 23, (31, 64): 1})), are_mixed(Counter({(8, 8): 2, (8, 9): 2}))
    (False, True)
    """
    most = max(sizes.values(), default=0)
    return sizes.total() - most > 1 and most < usual * sizes.total()


def mixed_sizes(source: Source, sizes: Sizes) -> Problem:
    """Say in one line that images differ in size, and what to set."""
    heights, widths = zip(*sizes, strict=True)
    height, width = common_size(sizes)
    return Problem(
        str(source.root),
        "",
        f"{sizes.total()} images have {len(sizes)} sizes, height {_range(heights)}, width "
        f"{_range(widths)}, but training needs one: data.size=[{height},{width}] resizes all "
        f"(tlunet data check: --size {height}x{width}), data.fit=pad keeps their proportions",
    )


def _range(sides: tuple[int, ...]) -> str:
    return str(sides[0]) if min(sides) == max(sides) else f"{min(sides)} to {max(sides)}"


def exchanged(sizes: Sizes, size: tuple[int, int]) -> list[str]:
    """Ask whether height and width of ``data.size`` are exchanged: one line, or none.

    >>> exchanged(Counter({(256, 1600): 9}), (1600, 256))  # doctest: +NORMALIZE_WHITESPACE
    ['data.size=[1600,256] is higher than wide, but all images are wider than high (most are
      256×1600, height × width): did you mean data.size=[256,1600]?']
    >>> exchanged(Counter({(256, 1600): 9}), (256, 1600)), exchanged(Counter({(9, 9): 1}), (8, 9))
    ([], [])
    """
    way = _direction(size)
    if not way or {_direction(native) for native in sizes} != {-way}:
        return []
    (height, width), _ = sizes.most_common(1)[0]
    words = ("wider than high", "higher than wide")
    own, theirs = words if way < 0 else words[::-1]
    return [
        f"data.size=[{size[0]},{size[1]}] is {own}, but all images are {theirs} (most are "
        f"{height}×{width}, height × width): did you mean data.size=[{size[1]},{size[0]}]?"
    ]


def _direction(size: tuple[int, int]) -> int:
    return (size[0] > size[1]) - (size[0] < size[1])


def common_size(sizes: Sizes) -> tuple[int, int]:
    """Choose a size near the median one: multiples of 32, with almost the same aspect.

    >>> common_size(Counter({(1240, 500): 3, (1270, 500): 3, (1255, 500): 1}))
    (1280, 512)
    """
    heights, widths = zip(*sizes.elements(), strict=True)
    height, width = median_low(heights), median_low(widths)
    near = product(_near(height), _near(width))
    return min(near, key=lambda size: _change(size, (height, width)))


def training_size(sizes: Sizes) -> tuple[tuple[int, int] | None, str]:
    """Choose ``data.size`` and ``data.fit`` for images of these sizes.

    Returns:
        (height, width), multiples of 32 with about :data:`LARGEST` pixels at most, ``None`` if the
        images already are such; and ``pad`` unless all have almost the proportions of this size.

    >>> training_size(Counter({(256, 1600): 9})), training_size(Counter({(200, 200): 9}))
    ((None, 'stretch'), ((192, 192), 'stretch'))
    >>> training_size(Counter({(1400, 2048): 5, (1000, 2048): 4}))
    ((544, 800), 'pad')
    """
    if not sizes or are_mixed(sizes):
        native = common_size(sizes) if sizes else (STEP, STEP)
    else:
        native = sizes.most_common(1)[0][0]
    is_usable = len(sizes) == 1 and not native[0] % STEP and not native[1] % STEP
    shrink = min(1.0, sqrt(LARGEST / (native[0] * native[1])))
    if not sizes or (is_usable and shrink == 1):
        return None, "stretch"
    height, width = common_size(
        Counter({(round(native[0] * shrink), round(native[1] * shrink)): 1})
    )
    return (height, width), training_fit(sizes, (height, width))


def training_fit(sizes: Sizes, size: tuple[int, int]) -> str:
    """Choose ``data.fit``: ``pad`` unless all images have almost the proportions of ``size``.

    >>> training_fit(Counter({(200, 200): 9}), (64, 64))
    'stretch'
    >>> training_fit(Counter({(200, 200): 9, (90, 180): 1}), (64, 64))
    'pad'
    """
    squeezed = (abs(log(h / w) - log(size[0] / size[1])) for h, w in sizes)
    return "pad" if max(squeezed, default=0) >= SQUEEZED else "stretch"


def _near(pixels: int) -> list[int]:
    """Return the multiples of 32 around a height or width."""
    below = pixels // STEP
    return [STEP * k for k in range(max(below - 1, 1), below + 3)]


def _change(size: tuple[int, int], median: tuple[int, int]) -> float:
    """Return how much the aspect (counted more) and the area change, on a logarithmic scale."""
    height, width = log(size[0] / median[0]), log(size[1] / median[1])
    return 2 * abs(height - width) + abs(height + width) / 2
