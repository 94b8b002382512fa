"""Small exports in the layouts of annotation tools."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Run = Callable[..., tuple[int, str, str]]
SIZE = (20, 30)  # height, width
SQUARE = [2, 2, 10, 2, 10, 10, 2, 10]  # x, y: 8×8 pixels
DOT = [4, 4, 6, 4, 6, 6, 4, 6]  # 2×2, inside the square
FAR = [20, 10, 25, 10, 25, 13, 20, 13]  # 5×3


def image(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), (10, 90, 200), np.uint8)).save(path)


def counts(mask: np.ndarray) -> list[int]:
    """COCO run-length encoding: down the columns, background first."""
    flat = mask.ravel(order="F").astype(np.int8)
    edges = np.flatnonzero(np.diff(flat, prepend=0, append=flat[-1] ^ 1))
    return np.diff(edges, prepend=0).tolist()


def coco(root: Path, *outlines: tuple[int, Any], **changes: Any) -> Path:
    """A COCO file with two images, all objects on the first; categories 7 and 3."""
    image(root / "images/a.png")
    image(root / "images/b.jpg")
    content = {
        "images": [
            {"id": 1, "file_name": "a.png", "height": 20, "width": 30},
            {"id": 2, "file_name": "b.jpg", "height": 20, "width": 30},
        ],
        "categories": [{"id": 7, "name": "dent"}, {"id": 3, "name": "rolled in"}],
        "annotations": [
            {"id": k, "image_id": 1, "category_id": category, "segmentation": outline}
            for k, (category, outline) in enumerate(outlines)
        ],
    }
    file = root / "instances.json"
    file.write_text(json.dumps(content | changes))
    return file


def yolo(root: Path, *lines: str, names: str = "[dent, rolled in]") -> Path:
    image(root / "images/train/a.png")
    image(root / "images/val/b.jpg")
    (root / "labels/train").mkdir(parents=True)
    (root / "labels/train/a.txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text(f"names: {names}\n")
    return root


def mask_of(root: Path, name: str) -> np.ndarray:
    with Image.open(root / "masks" / name) as file:
        assert file.mode == "L"
        return np.asarray(file)


def row(class_id: int, outline: list[int], size: tuple[int, int] = SIZE) -> str:
    """One line of a YOLO label file."""
    fractions = np.array(outline).reshape(-1, 2) / size[::-1]
    return " ".join([str(class_id), *(f"{value:.6f}" for value in fractions.ravel())])


def put(root: Path, files: dict[str, str]) -> Path:
    """Write files by their paths: an image where the name is one of an image, or a text."""
    for name, text in files.items():
        if name.lower().endswith((".png", ".jpg")):
            image(root / name)
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(text.encode())
    return root
