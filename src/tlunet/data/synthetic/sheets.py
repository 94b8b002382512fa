"""Cast sheets and their four kinds of defects."""

import math

import numpy as np
from PIL import Image, ImageDraw

from tlunet.data.synthetic.noise import (
    Array,
    Span,
    _box,
    _contrast,
    _wander,
    noise,
    scaled,
)


def sheet(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Array, Array]:
    """Draw a defect-free cast or brushed sheet under a round lamp; it fills the whole image."""
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
    """Class 1: blisters, drawn as rings lit from one side."""
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
    """Class 4: blobs that fade into the sheet without a sharp edge."""
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
