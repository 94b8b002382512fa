"""A data set in Severstal's layout with defects that vanish when it is resized."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (128, 256)
SMALL = (32, 64)  # masks keep row 2, column 2 of every 4 × 4 pixels


def write_specks(root: Path, n: int = 16) -> Path:
    """Write noise images, 128×256: a band of class 1 in the first half, a speck of class 2 in every
    second image. From the ninth image on, every second one is the previous image as JPEG.
    """
    rng = np.random.default_rng(0)
    (root / "train_images").mkdir(parents=True)
    rows = ["ImageId,ClassId,EncodedPixels"]
    image = np.zeros(SIZE, np.uint8)
    for k in range(n):
        name = f"{k:02}.jpg"
        if k < 8 or k % 2 == 0:
            image = rng.integers(30, 220, SIZE, np.uint8)
        # Readers detect the format by content: the first of a pair is stored losslessly.
        kind = "PNG" if k % 2 == 0 else "JPEG"
        Image.fromarray(image).save(root / "train_images" / name, kind)
        if k < n // 2:
            rows.append(f"{name},1,{102 * SIZE[0] + 1} {4 * SIZE[0]}")
        if k % 2 == 0:
            rows.append(f"{name},2,1 2")  # rows 0 and 1 of the first column
    (root / "train.csv").write_text("\n".join(rows))
    return root
