"""Draw a data set whose defects are rare and small: tiles of many sizes, with five classes.

python experiments/recipe/tiles.py tiles

71% of the 1,344 tiles are free of defects, and half of the defects cover less than 1% of their
tile. Written as ``images/`` and ``masks/``, for ``data=folder``. They are drawn, not photographed.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

CLASSES = ("blowhole", "break", "crack", "fray", "uneven")
IMAGES = (115, 85, 57, 32, 103)  # with each class
DEFECT_FREE = 952
SIDES = 90, 200  # pixels


def blurred(grey: NDArray[np.floating], sigma: float) -> NDArray[np.float64]:
    """Blur grey levels (H, W), which are rounded to 0…255 first."""
    image = Image.fromarray(np.clip(grey, 0, 255).astype("uint8"))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(sigma)), float)


def surface(random: np.random.Generator, height: int, width: int) -> NDArray[np.float64]:
    """Draw a ground surface without defects: grain, stripes, uneven light."""
    grey = blurred(random.normal(120, 40, (height, width)), 1.5)
    grey += random.normal(0, 7, (height, 1)) + np.linspace(-20, 20, width) * random.normal()
    grey += random.normal(0, 25)
    return grey + random.normal(0, 4, (height, width)) + random.normal(0, 5, (1, width))


def defect(
    random: np.random.Generator, grey: NDArray[np.float64], name: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Add one defect to grey levels (H, W); return them and its mask."""
    height, width = grey.shape
    layer = Image.new("L", (width, height))
    draw = ImageDraw.Draw(layer)
    x, y = int(random.integers(10, width - 20)), int(random.integers(10, height - 20))
    contrast, edge = -30, 0.8
    if name == "blowhole":
        radius = int(random.integers(2, 5))
        draw.ellipse((x, y, x + 2 * radius, y + 2 * radius), fill=255)
        contrast = -40
    elif name == "break":
        corners = [
            (
                x + int(10 * np.cos(angle) * random.uniform(0.4, 1.3)),
                y + int(10 * np.sin(angle) * random.uniform(0.4, 1.3)),
            )
            for angle in np.linspace(0, 6.28, 9)
        ]
        draw.polygon(corners, fill=255)
    elif name == "crack":
        points = [
            (x + int(k * random.uniform(2, 4)), y + 6 * k)
            for k in range(int(random.integers(3, 8)))
        ]
        draw.line(points, fill=255, width=2)
    elif name == "fray":
        band = int(0.25 * height)
        top = int(random.choice([0, height - band]))
        draw.rectangle((0, top, width, top + band), fill=255)
        contrast, edge = 0, 2
    else:
        right, bottom = (int(random.integers(25, 60)) for _ in range(2))
        draw.ellipse((x - 20, y - 15, x + right, y + bottom), fill=255)
        contrast, edge = -18, 3
    mask = np.asarray(layer) > 0
    soft = blurred(np.asarray(layer, float), edge) / 255
    grey = grey + contrast * soft
    if name == "fray":
        grey = grey + soft * random.normal(0, 22, (height, 1))
        grey = grey + soft * random.normal(0, 10, (height, width))
    return grey, mask


def main() -> None:
    """Draw all tiles."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    folder = parser.parse_args().out
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(11)
    order = [k for k, n in enumerate(IMAGES, 1) for _ in range(n)] + [0] * DEFECT_FREE
    random.shuffle(order)
    for number, class_id in enumerate(order):
        height, width = int(random.integers(*SIDES)), int(random.integers(*SIDES))
        grey, mask = surface(random, height, width), np.zeros((height, width), bool)
        if class_id:
            grey, mask = defect(random, grey, CLASSES[class_id - 1])
        image = Image.fromarray(np.clip(grey, 0, 255).astype("uint8"))
        image.save(folder / "images" / f"{number:04}.png")
        Image.fromarray(mask.astype("uint8") * class_id).save(folder / "masks" / f"{number:04}.png")


if __name__ == "__main__":
    main()
