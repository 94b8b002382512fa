"""Noise, strokes and sizes used by both families of surfaces."""

import math

import numpy as np
from PIL import Image

Span = tuple[int, int]
Array = np.ndarray


def scaled(height: int, at256: float, floor: float = 0.0) -> float:
    """Scale a length given for a height of 256 pixels to `height`; at least `floor`.

    Lengths shrink with the square root of the height, so that defects stay distinguishable in small
    images: at 32 pixels, everything is 2.8 times as large as in proportion.

    >>> [round(scaled(height, 12.0), 1) for height in (256, 64, 32)]
    [12.0, 6.0, 4.2]
    >>> scaled(32, 4.0, floor=2.0)
    2.0
    """
    return max(floor, at256 * (height / 256) ** 0.5)


def noise(rng: np.random.Generator, size: tuple[int, int], cell: tuple[float, float]) -> Array:
    """Draw smooth noise `(H, W)`, float32 with unit variance and grains of `cell` pixels.

    White noise at low resolution is enlarged, which is much cheaper than a filter at full size.
    """
    height, width = size
    rows = min(height, max(2, round(height / cell[0]) + 1))
    columns = min(width, max(2, round(width / cell[1]) + 1))
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    fine = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    out = np.asarray(fine)  # (H, W)
    return out / max(float(out.std()), 1e-3)


def _wander(rng: np.random.Generator, length: int, knot: float) -> Array:
    """Draw a random smooth curve `(length,)`: unit normal values every `knot` pixels, joined."""
    return _join(rng.standard_normal(math.ceil(length / knot) + 2), np.arange(length) / knot)


def _join(values: Array, at: Array) -> Array:
    """Interpolate periodic values, given at 0, 1, 2, …, with a smooth step."""
    before = np.floor(at)
    k, part = before.astype(int) % len(values), at - before
    ease = part * part * (3 - 2 * part)
    return values[k] * (1 - ease) + values[(k + 1) % len(values)] * ease


def _contrast(rng: np.random.Generator, dark: float) -> float:
    """Draw a tone, from strong to faint; darker than the steel with probability `dark`."""
    return rng.uniform(0.15, 0.45) if rng.random() < dark else rng.uniform(1.9, 3.0)


def _box(size: tuple[int, int], y: float, x: float, dy: float, dx: float) -> tuple[slice, slice]:
    """Return the box within `dy`, `dx` of the point, clipped to the image."""
    rows, columns = (
        slice(min(max(0, math.floor(c - d)), n), min(max(0, math.ceil(c + d) + 1), n))
        for c, d, n in ((y, dy, size[0]), (x, dx, size[1]))
    )
    return rows, columns


def _stroke(
    steel: Array, mask: Array, start: int, path: Array, thick: float, tone: Array, border: float
) -> None:
    """Draw a line lengthwise: in column `start + k` it is centred on row `path[k]`.

    Pass transposed views for a vertical line. The mask is `border` pixels wider on either side.
    Both ends are rounded.
    """
    first, last = max(0, -start), min(len(path), steel.shape[1] - start)
    if last <= first:
        return
    radius = thick / 2 + border
    to_end = np.arange(1, len(path) + 1)
    to_end = np.minimum(to_end, to_end[::-1])[first:last]
    taper = np.sqrt(np.clip(to_end / (2 * radius), 0, 1))  # 1 except at the ends
    path, tone = path[first:last], tone[first:last]
    low = max(0, math.floor(path.min() - radius))
    high = min(steel.shape[0], math.ceil(path.max() + radius) + 1)
    if high <= low:
        return
    part = slice(low, high), slice(start + first, start + last)
    away = np.abs(np.arange(low, high, dtype=np.float32)[:, None] - path.astype(np.float32))
    cover = np.clip((thick / 2 * taper + 0.5).astype(np.float32) - away, 0, 1)  # anti-aliased
    steel[part] *= 1 + cover * (tone - 1).astype(np.float32)
    mask[part] |= away <= radius * taper
