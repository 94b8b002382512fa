"""Select a few test images of a run to try a network on."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlunet.data.bits import class_masks
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.readers.decode import decode


class Example(NamedTuple):
    """A test image with its ground truth, at its own size H × W."""

    image: NDArray[np.uint8]  # (H, W) or (H, W, 3)
    truth: NDArray[np.bool_]  # (M, H, W)


def examples(data: DefectDataModule, most: int = 8) -> dict[str, Example]:
    """Return the images of :func:`samples`, at their own size, with their ground truth.

    Args:
        data: prepared and set up.
        most: maximum number of images.

    Returns:
        Image id → image and masks; images that can no longer be read are left out.
    """
    records = {
        record.image_id: record for record in data.dataset.read(data.size, data.progress).records
    }
    M = len(data.pack.classes)
    readable = {}
    for name in samples(data, most):
        decoded = decode(records[name], M)
        if isinstance(decoded, tuple):
            image, bits = decoded
            readable[name] = Example(image, class_masks(bits, M))
    return readable


def samples(data: DefectDataModule, most: int = 8) -> dict[str, NDArray[np.uint8]]:
    """Return the first test image of each class, one defect-free image, then the next ones.

    Args:
        data: prepared and set up.
        most: maximum number of images.

    Returns:
        Image id → (H, W) or (H, W, 3), as they were resized for training, without padding.
    """
    rows, pack = data.rows["test"], data.pack
    labels = pack.labels[rows]  # (N, M)
    shown = [np.flatnonzero(labels[:, m]) for m in range(labels.shape[1])]
    shown.append(np.flatnonzero(~labels.any(1)))
    first = [int(places[0]) for places in shown if len(places)]
    chosen = list(dict.fromkeys([*first, *range(len(rows))]))[:most]
    ids = pack.index["image_id"].to_numpy()
    return {
        str(ids[row]): np.array(pack.images[row][pack.region(row)]) for row in rows[chosen].tolist()
    }
