"""W&B media of a finished test: curves of each class, and test images with their masks."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from tlunet.data.bits import Bits, bit_field, class_masks
from tlunet.data.drawing import compared
from tlunet.data.pack.pack import Pack
from tlunet.model.curves import Floats, Labels, precision_points, roc_points
from tlunet.runs.masks import masks_of, read_masks

if TYPE_CHECKING:
    from wandb.plot import CustomChart

VERTICES = 200  # maximum per curve
MOST_IDS = 255  # ids that a W&B mask can distinguish
CLEAR = "no defect"
DRAWN = "truth, prediction; blue: found, red: missed, yellow: false alarm"


def curve_charts(table: pd.DataFrame) -> dict[str, "CustomChart"]:
    """Draw ROC and precision-recall curves, one line per class with positives and negatives.

    Args:
        table: ``test_images.parquet``.

    Returns:
        ``test/roc`` and ``test/precision_recall``; W&B overlays the curves of several runs.
    """
    return {
        "test/roc": _chart(
            table, roc_points, "false positive rate", "true positive rate", "ROC per class"
        ),
        "test/precision_recall": _chart(
            table, precision_points, "recall", "precision", "Precision-recall per class"
        ),
    }


def _chart(
    table: pd.DataFrame,
    points: Callable[[Labels, Floats], tuple[Floats, Floats]],
    x: str,
    y: str,
    title: str,
) -> "CustomChart":
    import wandb

    rows: list[Iterable[Any]] = []
    for (_, name), part in table.groupby(["class_id", "class_name"]):
        label = part["label"].to_numpy(bool)
        if label.all() or not label.any():
            continue
        curve = np.stack(points(label, part["prob"].to_numpy(np.float64)), axis=1)
        kept = np.linspace(0, len(curve) - 1, min(len(curve), VERTICES)).round().astype(int)
        rows += [[str(name), float(a), float(b)] for a, b in curve[kept]]
    return wandb.plot_table(
        "wandb/area-under-curve/v0",
        wandb.Table(columns=["class", x, y], data=rows),
        {"x": x, "y": y, "class": "class"},
        {"title": title, "x-axis-title": x, "y-axis-title": y},
    )


def choose(table: pd.DataFrame, most: int) -> dict[str, str]:
    """Choose the test images to show: half of them the same in every cell, half this cell's worst.

    The first half is an evenly spaced sample of the images with a defect, ordered by classes and
    name. The second half has the lowest Dice of the rest, including false alarms (ties by name).

    Args:
        table: ``test_images.parquet``.
        most: maximum number of images.

    Returns:
        Image → ``every cell's`` or ``this cell's worst``.
    """
    images = _by_image(table)
    defective = images[images["true"] != ""].sort_values(["true", "image_id"])["image_id"]
    places = np.linspace(0, len(defective) - 1, min(len(defective), most - most // 2))
    chosen = dict.fromkeys(defective.iloc[places.round().astype(int)], "every cell's")
    rest = images[images["dice"].notna() & ~images["image_id"].isin(list(chosen))]
    worst = rest.sort_values(["dice", "image_id"])["image_id"].head(most // 2)
    return chosen | dict.fromkeys(worst, "this cell's worst")


def _by_image(table: pd.DataFrame) -> pd.DataFrame:
    """One row per image: names of true and predicted classes, and Dice with classes pooled.

    Dice is null where truth and prediction are both empty.
    """
    sums = table.groupby("image_id")[["intersection", "truth_pixels", "predicted_pixels"]].sum()
    both = sums["truth_pixels"] + sums["predicted_pixels"]
    images: pd.DataFrame = pd.DataFrame({"dice": 2 * sums["intersection"] / both.where(both > 0)})
    for name, column in (("true", "truth_pixels"), ("found", "predicted_pixels")):
        there = table[table[column] > 0].astype({"class_name": str})
        joined = there.groupby("image_id")["class_name"].agg(", ".join)
        images[name] = joined.reindex(images.index).fillna("")
    return images.reset_index()


def image_exhibits(folder: Path, pack: Pack, most: int) -> dict[str, Any]:
    """Create test images whose true and predicted masks can be toggled per class.

    Args:
        folder: folder of a tested run.
        pack: data of the run.
        most: maximum number of images.

    Returns:
        ``test/images``, a table with the masks as drawn everywhere else, and the Dice, classes and
        probabilities of each image, and ``test/examples``, the images that are the same in every
        cell, for a media panel.
    """
    import wandb

    table = pd.read_parquet(folder / "test_images.parquet")
    found = read_masks(folder) or {}
    row_of = {str(name): row for row, name in enumerate(pack.index["image_id"])}
    chosen = choose(table, most)
    region = {name: pack.region(row_of[name]) for name in chosen}
    truth = {name: np.asarray(pack.masks[row_of[name]][region[name]]) for name in chosen}
    M = len(pack.classes)
    predicted = {
        name: bit_field(masks_of(found, name, M, pack.size))[region[name]] for name in chosen
    }
    numbers, labels = number_layers([*truth.values(), *predicted.values()], pack.classes)

    facts = _by_image(table).set_index("image_id").to_dict("index")
    probs = table.sort_values("class_id").groupby("image_id")["prob"].agg(list).to_dict()
    columns = ["image_id", "image", "drawn", "dice", "true", "found", "chosen"]
    shown = wandb.Table(columns=[*columns, *(f"probability: {name}" for name in pack.classes)])
    examples = []
    for name, why in chosen.items():
        layers = {
            kind: {"mask_data": _ids(bits[name], numbers), "class_labels": labels}
            for kind, bits in (("truth", truth), ("prediction", predicted))
        }
        fact = facts[name]
        dice = None if pd.isna(fact["dice"]) else float(fact["dice"])
        pixels = np.asarray(pack.images[row_of[name]][region[name]])
        picture = Image.fromarray(pixels)
        drawn = compared(pixels, class_masks(truth[name], M), class_masks(predicted[name], M))
        outcome = wandb.Image(Image.fromarray(drawn), caption=DRAWN, file_type="jpg")
        score = "–" if dice is None else f"{dice:.3f}"
        image = wandb.Image(picture, masks=layers, caption=f"{name}: Dice {score}", file_type="jpg")
        of_classes = map(float, probs[name])
        shown.add_data(name, image, outcome, dice, fact["true"], fact["found"], why, *of_classes)
        if why == "every cell's":
            examples.append(image)
    return {"test/images": shown} | ({"test/examples": examples} if examples else {})


def number_layers(
    masks: Sequence[Bits], classes: Sequence[str]
) -> tuple[dict[int, int], dict[int, str]]:
    """Assign ids and names for one mask per image, although classes may overlap.

    Each class has an id, the background has 0, and each set of classes that share a pixel has its
    own id and name. If there are more sets than ids, the remaining sets count as their first class.

    Args:
        masks: bit fields (H, W) of all images.
        classes: M names.

    Returns:
        Bit field → id, and id → name.

    >>> number_layers([np.array([[0, 1, 3]], np.uint8)], ["pits", "lines"])
    ({0: 0, 1: 1, 2: 2, 3: 3}, {0: 'no defect', 1: 'pits', 2: 'lines', 3: 'pits + lines'})
    """
    numbers = {0: 0} | {1 << m: m + 1 for m in range(len(classes))}
    names = {0: CLEAR} | dict(enumerate(map(str, classes), start=1))
    seen = sorted({int(value) for bits in masks for value in np.unique(bits)} - set(numbers))
    for value in seen:
        members = [m for m in range(len(classes)) if value >> m & 1]
        if len(names) > MOST_IDS:
            numbers[value] = members[0] + 1
            continue
        numbers[value] = len(names)
        names[len(names)] = " + ".join(str(classes[m]) for m in members)
    return numbers, names


def _ids(bits: Bits, numbers: dict[int, int]) -> NDArray[np.uint8]:
    """Convert an image's bit field (H, W) to ids."""
    values, place = np.unique(bits, return_inverse=True)
    ids = np.array([numbers[int(value)] for value in values], np.uint8)
    return ids[place].reshape(bits.shape)
