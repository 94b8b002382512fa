"""Procedural steel: two families of surfaces, each with four kinds of defects.

*Strips* look like hot-rolled steel under line light, as in the Severstal images: streaks along
the rolling direction (the height; the strip's width is the image's long side), fine chatter across
it, light that falls off from one long edge to the other, and sometimes the end of the strip with a
dark background. Defects: pits, fine lines, scratches, patches.

*Sheets* have only the camera in common with them: cast grain that looks the same in every
direction, diagonal brushing, a woven imprint, a round spot of light. Defects: bubbles (rings),
cracks (zigzags), checker stains, inclusions (blobs with soft edges).

`surface(rng, size) -> (steel, ground)` draws a surface: brightness, float32 `(H, W)` in 0…255, and
where there is steel, bool `(H, W)`. `defect(rng, steel, span) -> mask` draws a defect: it changes
`steel` in place, centred on the columns `span`, and returns its mask, bool `(H, W)`, as an
annotator would draw it: slightly too large, with a smooth outline. Tones are factors of the
brightness below (1 = unchanged). Sizes are given for a height of 256 pixels, see `scaled`. Lines
are at least 2 pixels thick, masks at least 3.
"""

import math

import numpy as np

from tlunet.data.synthetic.noise import (
    Array,
    Span,
    _box,
    _contrast,
    _join,
    _stroke,
    _wander,
    noise,
    scaled,
)

DARK_STEEL = 60.0
"""Grey level below which dark pits would be invisible, as on a patch of rolled-in scale."""


def strip(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Array, Array]:
    """Draw a defect-free hot-rolled strip; in one of six images it ends at the left or right."""
    height, width = size
    across = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None]
    slope = rng.uniform(-0.25, 0.9)
    light = 1 + slope * across + abs(slope) * across**2
    light = light + 0.12 * noise(rng, size, (height, 0.25 * width))

    def grains(low: float, high: float, cell_y: float, cell_x: float) -> Array:
        return rng.uniform(low, high) * noise(rng, size, (cell_y, cell_x))

    s = scaled(height, 1.0)
    texture = grains(0.02, 0.06, 1.5 * height, 70 * s)  # broad bands along the rolling direction
    texture += grains(0.02, 0.05, 0.8 * height, max(2, 7 * s))  # streaks
    texture += grains(0.01, 0.05, 0.12 * height, max(1, 2 * s))  # fine streaks
    chatter = grains(0.0, 0.05, max(1, 3 * s), max(4, 60 * s))  # fine waves across them
    texture += chatter * np.clip(noise(rng, size, (height, 200 * s)), 0, 1)
    texture += grains(0.02, 0.06, max(1, 2 * s), max(1, 2 * s))
    if rng.random() < 0.4:  # drying marks: hard-edged, pale, harmless
        where = noise(rng, size, (2 * height, 170 * s)) + 0.8 * across
        drops = where + noise(rng, size, (0.3 * height, max(2, 9 * s)))
        drops += 0.4 * noise(rng, size, (max(2, 14 * s), max(1, 4 * s)))
        texture -= rng.uniform(0.08, 0.22) * np.clip(8 * (drops - 1.5), 0, 1)
    specks = noise(rng, size, (max(1, 2 * s), max(1, 2 * s))) - rng.uniform(3.0, 4.0)
    texture += 0.5 * np.clip(specks, 0, 1)
    level = np.clip(rng.lognormal(math.log(92), 0.28), 50, 150)
    steel = (level * np.clip(light, 0.3, 2.2) * (1 + texture)).astype(np.float32)

    ground = np.ones(size, bool)
    if rng.random() < 1 / 6:
        margin = rng.uniform(0.03, 0.4) * width
        edge = margin + scaled(height, 2.0) * _wander(rng, height, scaled(height, 40, 4))  # (H,)
        inward = np.arange(width, dtype=np.float32) - edge.astype(np.float32)[:, None]  # (H, W)
        if rng.random() < 0.5:
            inward, steel = inward[:, ::-1], steel[:, ::-1].copy()
        steel *= 1 - 0.5 * np.exp(-np.clip(inward, 0, None) / scaled(height, 6, 1))
        ground = inward > 0
    return steel, ground


def pits(rng: np.random.Generator, steel: Array, span: Span) -> Array:
    """Class 1: vertical clusters of small spots, bright on dark steel, otherwise mostly dark."""
    height, _ = steel.shape
    mask = np.zeros(steel.shape, bool)
    border = scaled(height, 6, 2)
    home, stray = rng.uniform(*span), scaled(height, 110, 16)
    on_plain, on_dark = _contrast(rng, dark=0.9), rng.uniform(2.2, 3.2)
    for _ in range(rng.integers(5, 14)):
        tall, wide = scaled(height, rng.uniform(10, 33)), scaled(height, rng.uniform(3, 7), 1)
        y, x = rng.uniform(0.1, 0.9) * height, np.clip(rng.normal(home, stray), *span)
        ys, xs = rng.normal(y, tall, 9), rng.normal(x, wide, 9)
        radii = np.clip(scaled(height, 3.2) * rng.lognormal(0, 0.45, 9), 1.8, scaled(height, 9, 2))
        box = _box(steel.shape, y, x, 3 * tall + 4 * border, 3 * wide + 4 * border)
        tone = on_dark if steel[box].mean() < DARK_STEEL else on_plain
        rows, columns = np.ogrid[box]
        dy = (rows - ys[:, None, None]).astype(np.float32) / 1.5  # along the rolling direction
        dx = (columns - xs[:, None, None]).astype(np.float32)
        away = np.sqrt(dy**2 + dx**2)  # (9, h, w)
        fray = np.clip(1 + 0.3 * noise(rng, away.shape[1:], (scaled(height, 4, 1),) * 2), 0.6, 2)
        cover = np.clip(radii[:, None, None] + 0.5 - away * fray, 0, 1).max(0)
        shadow, below = np.zeros_like(cover), max(1, round(scaled(height, 4)))
        shadow[below:] = cover[:-below]
        steel[box] *= (1 - 0.35 * shadow) * (1 + (tone - 1) * cover)
        reach = radii[:, None, None] + border
        mask[box] |= np.exp(3 - 3 * (away / reach) ** 2).sum(0) > 1  # discs that merge
    return mask


def fine_lines(rng: np.random.Generator, steel: Array, span: Span) -> Array:
    """Class 2: thin vertical lines, bright with a dark side, about half the image height long."""
    height, _ = steel.shape
    mask = np.zeros(steel.shape, bool)
    bright = rng.uniform(2.4, 3.4)
    home = rng.uniform(*span)
    for _ in range(rng.integers(4, 8)):
        length = round(rng.uniform(0.5, 0.95) * height)
        start = round(rng.uniform(-0.1, 1.0) * (height - length))
        x = np.clip(rng.normal(home, scaled(height, 60, 8)), *span)
        path = x + scaled(height, 2.0) * _wander(rng, length, scaled(height, 60, 8))
        thick = scaled(height, rng.uniform(2.5, 4.5), 3.0)
        flicker = 1 + (bright - 1) * np.clip(1 + 0.3 * _wander(rng, length, 3), 0.4, 1.5)
        dark = np.full(length, rng.uniform(0.5, 0.7))
        border = scaled(height, rng.uniform(5, 9), 2)
        _stroke(steel.T, mask.T, start, path + thick / 2, thick, dark, border)
        _stroke(steel.T, mask.T, start, path - thick / 2, thick, flicker, border)
    return mask


def scratches(rng: np.random.Generator, steel: Array, span: Span) -> Array:
    """Class 3: long scratches along the long side, or dark stripes across the full height."""
    height, _ = steel.shape
    mask = np.zeros(steel.shape, bool)
    if rng.random() < 0.15:
        home = rng.uniform(*span)
        for _ in range(rng.integers(2, 5)):
            x = np.clip(rng.normal(home, scaled(height, 130, 16)), *span)
            length = round(rng.choice([1.4, 1.4, rng.uniform(0.7, 1.1)]) * height)
            path = x + scaled(height, 2) * _wander(rng, length, scaled(height, 90, 10))
            thick = scaled(height, rng.uniform(4, 11), 2)
            tone = rng.uniform(0.35, 0.6) + 0.08 * _wander(rng, length, 5)
            start = -height // 5  # from above the image
            _stroke(steel.T, mask.T, start, path, thick, tone, scaled(height, 5, 1))
        return mask
    length = round(max(0.2 * (span[1] - span[0]), rng.uniform(1.0, 4.0) * height))
    start = round(rng.uniform(span[0], max(span[0] + 1, span[1] - 0.7 * length)))
    along = np.linspace(-0.5, 0.5, length)
    path = rng.uniform(0.2, 0.8) * height + rng.uniform(-0.6, 0.6) * height * along
    path += rng.uniform(-0.4, 0.4) * height * along**2
    path += scaled(height, 2) * _wander(rng, length, scaled(height, 60, 8))
    base = _contrast(rng, dark=0.15)
    for k in range(rng.integers(2, 8)):  # one over the full length, others next to it
        part = round(length * (rng.uniform(0.15, 0.5) if k else 1))
        first = rng.integers(0, length - part + 1)
        thick = scaled(height, rng.uniform(2, 5) if k else rng.uniform(4, 8), 2)
        offset = scaled(height, rng.normal(0, 13)) if k else 0.0
        rough = 1 + 0.4 * _wander(rng, part, scaled(height, 30, 5))
        rough += 0.35 * _wander(rng, part, scaled(height, 6, 2))
        tone = np.clip(1 + (base - 1) * np.clip(rough, 0.1, 1.7), 0.15, 3)
        border = scaled(height, rng.uniform(5, 9), 1)
        line = path[first : first + part] + offset
        shadow = np.full(part, rng.uniform(0.6, 0.8))
        _stroke(steel, mask, start + first, line + 0.7 * thick, thick, shadow, border - thick / 2)
        _stroke(steel, mask, start + first, line, thick, tone, border)
    return mask


def patches(rng: np.random.Generator, steel: Array, span: Span) -> Array:
    """Class 4: large irregular areas of rolled-in scale: another tone, rough, with a rim."""
    height, _ = steel.shape
    mask = np.zeros(steel.shape, bool)
    tone = rng.uniform(0.4, 0.68) if rng.random() < 0.75 else rng.uniform(1.3, 1.5)
    rough = rng.uniform(0.15, 0.4)
    for _ in range(rng.choice([1, 1, 2, 2, 3])):
        tall, wide = scaled(height, rng.uniform(36, 84)), scaled(height, rng.uniform(38, 128))
        y, x = rng.uniform(0.1, 0.9) * height, rng.uniform(*span)
        box = _box(steel.shape, y, x, 1.6 * tall, 1.6 * wide)
        part = steel[box].shape
        rows, columns = (np.ogrid[box][0] - y) / tall, (np.ogrid[box][1] - x) / wide
        lobes = np.clip(1 + 0.25 * rng.standard_normal(12), 0.5, 1.5)  # radius by direction
        turn = np.arctan2(rows, columns) * (6 / math.pi)  # -6…6
        outline = (_join(lobes, turn) - np.hypot(rows, columns)).astype(np.float32)
        cell = scaled(height, 9, 2)
        ragged = outline + 0.1 * np.clip(noise(rng, part, (cell, 1.5 * cell)), -2, 1)
        relief = noise(rng, part, (3 * cell, 5 * cell)) + 0.5 * noise(rng, part, (cell, 2 * cell))
        relief += 0.25 * noise(rng, part, (cell / 3, cell / 3))
        shade = relief - np.roll(relief, max(1, round(scaled(height, 3))), axis=0)  # lit from above
        inside = np.clip(tone + rough * (shade + 0.4 * relief), 0.12, 2.6)
        inside *= np.where(ragged < 0.08, 0.7, 1.0)  # the rim
        cover = np.clip(ragged * min(tall, wide), 0, 1)
        steel[box] *= 1 + cover * (inside - 1)
        mask[box] |= outline > -0.1
    return mask
