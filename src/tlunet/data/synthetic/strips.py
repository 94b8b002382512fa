"""Steel drawn by hand-made noise: two families of surfaces and their four kinds of defects.

*Strips* look like hot-rolled steel under line light, as in the Severstal images: streaks along
the rolling direction (the height; the strip's width lies along the image's long side), fine
chatter across it, light that falls off from one long edge to the other, sometimes the strip's
end and darkness beside it. Defects: pits, fine lines, scratches, patches.

*Sheets* share nothing with them but the camera: cast grain that looks the same in every
direction, diagonal brushing, a woven imprint, a round spot of light. Defects: bubbles (rings),
cracks (zigzags), checker stains, inclusions (blobs with soft edges).

A surface is drawn by `surface(rng, size) -> (steel, ground)`: brightness, float32 `(H, W)` in
0…255, and where there is steel at all, bool `(H, W)`. A defect is drawn by
`defect(rng, steel, span) -> mask`: it changes `steel` in place, centred on the columns `span`, and
returns its mask, bool `(H, W)`, as an annotator would draw it: a little generous, with a smooth
outline. Tones are factors of the brightness below (1 = unchanged). Sizes are given for
a height of 256 pixels, see `scaled`; lines are never thinner than 2 pixels, masks never than 3.
"""

import math

import numpy as np
from PIL import Image, ImageDraw

DARK_STEEL = 60.0
"""Grey level below which dark pits would not be seen, as on a patch of rolled-in scale."""

Span = tuple[int, int]
Array = np.ndarray


def scaled(height: int, at256: float, floor: float = 0.0) -> float:
    """Pixels that `at256` pixels of a strip 256 high become at `height`, at least `floor`.

    They shrink more slowly than the image, with its square root, so that what can be told apart at
    full size still can be in a small image: at 32 pixels all is 2.8 times as large as to scale.

    >>> [round(scaled(height, 12.0), 1) for height in (256, 64, 32)]
    [12.0, 6.0, 4.2]
    >>> scaled(32, 4.0, floor=2.0)
    2.0
    """
    return max(floor, at256 * (height / 256) ** 0.5)


def noise(rng: np.random.Generator, size: tuple[int, int], cell: tuple[float, float]) -> Array:
    """Smooth noise `(H, W)` float32 of unit variance whose grains are `cell` pixels large.

    White noise at low resolution, enlarged: far cheaper than a filter at full size.
    """
    height, width = size
    rows = min(height, max(2, round(height / cell[0]) + 1))
    columns = min(width, max(2, round(width / cell[1]) + 1))
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    fine = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    out = np.asarray(fine)  # (H, W)
    return out / max(float(out.std()), 1e-3)


def _wander(rng: np.random.Generator, length: int, knot: float) -> Array:
    """A wandering line `(length,)`: unit normal values every `knot` pixels, smoothly joined."""
    return _join(rng.standard_normal(math.ceil(length / knot) + 2), np.arange(length) / knot)


def _join(values: Array, at: Array) -> Array:
    """Values given at 0, 1, 2, … read between them by a smooth step; round, as on a clock."""
    before = np.floor(at)
    k, part = before.astype(int) % len(values), at - before
    ease = part * part * (3 - 2 * part)
    return values[k] * (1 - ease) + values[(k + 1) % len(values)] * ease


def _contrast(rng: np.random.Generator, dark: float) -> float:
    """A tone, darker than the steel with probability `dark`: from plain to rather faint."""
    return rng.uniform(0.15, 0.45) if rng.random() < dark else rng.uniform(1.9, 3.0)


def _box(size: tuple[int, int], y: float, x: float, dy: float, dx: float) -> tuple[slice, slice]:
    """The part of the image within `dy`, `dx` of the point, never beyond the image."""
    rows, columns = (
        slice(min(max(0, math.floor(c - d)), n), min(max(0, math.ceil(c + d) + 1), n))
        for c, d, n in ((y, dy, size[0]), (x, dx, size[1]))
    )
    return rows, columns


def _stroke(
    steel: Array, mask: Array, start: int, path: Array, thick: float, tone: Array, border: float
) -> None:
    """Draw a line lengthwise: in column `start + k` it is centred on row `path[k]`.

    Transposed views draw it upright. The mask takes `border` pixels more on either side. Both
    ends are rounded.
    """
    first, last = max(0, -start), min(len(path), steel.shape[1] - start)
    if last <= first:
        return
    radius = thick / 2 + border
    to_end = np.arange(1, len(path) + 1)
    to_end = np.minimum(to_end, to_end[::-1])[first:last]
    taper = np.sqrt(np.clip(to_end / (2 * radius), 0, 1))  # 1 but for the ends
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


# Strips


def strip(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Array, Array]:
    """A hot-rolled strip without defects; in one image of six it ends left or right."""
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
    """Class 1: upright clusters of small spots, bright on dark steel, else mostly dark."""
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
        dy = (rows - ys[:, None, None]).astype(np.float32) / 1.5  # drawn out as the steel was
        dx = (columns - xs[:, None, None]).astype(np.float32)
        away = np.sqrt(dy**2 + dx**2)  # (9, h, w)
        fray = np.clip(1 + 0.3 * noise(rng, away.shape[1:], (scaled(height, 4, 1),) * 2), 0.6, 2)
        cover = np.clip(radii[:, None, None] + 0.5 - away * fray, 0, 1).max(0)
        shadow, below = np.zeros_like(cover), max(1, round(scaled(height, 4)))
        shadow[below:] = cover[:-below]
        steel[box] *= (1 - 0.35 * shadow) * (1 + (tone - 1) * cover)
        reach = radii[:, None, None] + border
        mask[box] |= np.exp(3 - 3 * (away / reach) ** 2).sum(0) > 1  # discs that melt together
    return mask


def fine_lines(rng: np.random.Generator, steel: Array, span: Span) -> Array:
    """Class 2: thin upright lines, bright with a dark flank, about half the height long."""
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
    """Class 3: long scratches along the long side, or dark stripes over the whole height."""
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
    for k in range(rng.integers(2, 8)):  # one over the whole length, others beside it
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


# Sheets


def sheet(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Array, Array]:
    """A cast or brushed sheet without defects, under a round lamp; it always fills the image."""
    height, width = size
    rows, columns = np.ogrid[:height, :width]
    y, x = rng.uniform(0, height), rng.uniform(0.2, 0.8) * width
    light = 1.15 - rng.uniform(0.3, 0.6) * np.hypot(rows - y, columns - x) / (0.6 * width)
    texture = np.zeros(size, np.float32)
    for cell in (2, 5, 14):
        side = scaled(height, cell, 1)
        texture += rng.uniform(0.02, 0.05) * noise(rng, size, (side, side))
    brush = _wander(rng, height + width, scaled(height, 2, 1)).astype(np.float32)
    slant = rows + columns if rng.random() < 0.5 else rows - columns + width - 1
    texture += rng.uniform(0.0, 0.07) * brush[slant]
    pitch = 2 * math.pi / scaled(height, rng.uniform(14, 26), 5)
    texture += (rng.uniform(0.0, 0.06) * np.sin(pitch * rows) * np.sin(pitch * columns)).astype(
        np.float32
    )
    level = rng.uniform(90, 170)
    return (level * light * (1 + texture)).astype(np.float32), np.ones(size, bool)


def bubbles(rng: np.random.Generator, steel: Array, span: Span) -> Array:
    """Class 1: blisters: rings lit from one side."""
    height, _ = steel.shape
    mask = np.zeros(steel.shape, bool)
    lamp, strength = rng.uniform(0, 2 * math.pi), rng.uniform(0.35, 0.7)
    home = rng.uniform(*span)
    for _ in range(rng.integers(2, 8)):
        radius = scaled(height, rng.uniform(12, 30), 3)
        thick, border = scaled(height, 5, 1.2), scaled(height, 4, 1)
        y = rng.uniform(0.1, 0.9) * height
        x = np.clip(rng.normal(home, 0.8 * height), *span)
        box = _box(steel.shape, y, x, radius + 3 * thick, radius + 3 * thick)
        rows, columns = np.ogrid[box]
        away = np.hypot(rows - y, columns - x)
        ring = np.exp(-(((away - radius + thick) / thick) ** 2))
        side = 0.4 + np.cos(np.arctan2(rows - y, columns - x) - lamp)
        steel[box] *= np.clip(1 + strength * ring * side, 0.2, 2.2)
        mask[box] |= away < radius + border
    return mask


def cracks(rng: np.random.Generator, steel: Array, span: Span) -> Array:
    """Class 2: dark zigzag cracks in any direction."""
    height, width = steel.shape
    crack, around = (Image.new("1", (width, height)) for _ in range(2))
    thick = round(scaled(height, rng.uniform(4, 7), 2))
    border = round(scaled(height, 5, 1))
    for _ in range(rng.choice([1, 1, 2])):
        x, y = rng.uniform(*span), rng.uniform(0.2, 0.8) * height
        heading = rng.uniform(0, 2 * math.pi)
        points = [(x, y)]
        for k in range(rng.integers(5, 10)):
            turn = heading + (-1) ** k * rng.uniform(0.5, 1.1)
            step = rng.uniform(0.12, 0.3) * height
            x, y = x + step * math.cos(turn), y + step * math.sin(turn)
            points.append((x, y))
        ImageDraw.Draw(crack).line(points, 1, thick)
        ImageDraw.Draw(around).line(points, 1, thick + 2 * border, joint="curve")
    steel[np.asarray(crack)] *= rng.uniform(0.3, 0.6)
    return np.array(around)


def checker_stains(rng: np.random.Generator, steel: Array, span: Span) -> Array:
    """Class 3: stains printed as a tilted checkerboard."""
    height, _ = steel.shape
    mask = np.zeros(steel.shape, bool)
    pitch = math.pi / scaled(height, rng.uniform(12, 20), 3)
    tone = _contrast(rng, dark=0.5)
    for _ in range(rng.integers(1, 3)):
        y, x = rng.uniform(0.2, 0.8) * height, rng.uniform(*span)
        half = np.array([rng.uniform(38, 90), rng.uniform(50, 150)]) * scaled(height, 1.0)
        box = _box(steel.shape, y, x, half.sum(), half.sum())
        rows, columns = np.ogrid[box]
        tilt = rng.uniform(0.3, 1.2)
        u = math.cos(tilt) * (rows - y) + math.sin(tilt) * (columns - x)
        v = math.cos(tilt) * (columns - x) - math.sin(tilt) * (rows - y)
        within = (u / half[0]) ** 4 + (v / half[1]) ** 4 < 1
        dots = np.clip(0.5 + 2 * np.sin(pitch * u) * np.sin(pitch * v), 0, 1)
        steel[box] *= 1 + (tone - 1) * within * dots
        mask[box] |= within
    return mask


def inclusions(rng: np.random.Generator, steel: Array, span: Span) -> Array:
    """Class 4: blobs that fade into the sheet without an edge."""
    height, _ = steel.shape
    mask = np.zeros(steel.shape, bool)
    tone = _contrast(rng, dark=0.6)
    for _ in range(rng.integers(1, 4)):
        y, x = rng.uniform(0.1, 0.9) * height, rng.uniform(*span)
        sides = rng.uniform(26, 77, 2) * scaled(height, 1.0)
        box = _box(steel.shape, y, x, 3 * sides[0], 3 * sides[1])
        rows, columns = np.ogrid[box]
        away = np.hypot((rows - y) / sides[0], (columns - x) / sides[1])
        steel[box] *= 1 + (tone - 1) * np.exp(-(away**2))
        mask[box] |= away < 1.3
    return mask
