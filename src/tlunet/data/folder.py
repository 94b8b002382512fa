"""Images beside masks: a user's own folder, and NEU-Seg, which is published that way."""

from collections.abc import Sequence
from pathlib import Path

from tlunet.data.source import Problem, Record, Source, list_images, require_folder
from tlunet.errors import ConfigError, DataError

#: NEU-Seg's masks hold the ids 1, 2, 3; the names are in the literature's order, not in the data.
NEU_SEG_CLASSES = ("inclusion", "patches", "scratches")


def read(root: Path, *, classes: Sequence[str]) -> Source:
    """List a user's own data: ``images/`` and ``masks/``, flat or with the same sub-folders.

    A mask is a PNG of class ids (0 = background) with its image's path and stem; an image free
    of defects has a mask of zeros.

    Args:
        root: the folder with ``images/`` and ``masks/``.
        classes: the names of the ids 1…M.

    Raises:
        ConfigError: no class is named.
        DataError: a folder is missing or empty.
    """
    if not classes:
        raise ConfigError(
            "data.classes: not set; expected the names of the class ids 1, 2, … in the masks, "
            "as in data.classes=[scratch,dent]"
        )
    return _read_pairs("folder", root, root / "images", root / "masks", tuple(classes))


def read_neu_seg(root: Path) -> Source:
    """List NEU-Seg: ``images/{training,test}/*.jpg`` and ``annotations/{training,test}/*.png``.

    3,630 + 840 grey images of 200×200, three classes, a defect in every image. The same stem in
    the two parts means two images, so ids carry the part: ``training/000001.jpg``.

    Raises:
        DataError: a folder is missing or empty.
    """
    source = _read_pairs("neu_seg", root, root / "images", root / "annotations", NEU_SEG_CLASSES)
    parts = {"training": "train", "test": "test"}
    problems = list(source.problems)
    records = []
    for record in source.records:
        folder = record.image_id.split("/")[0]
        if folder not in parts:
            where = str(record.image)
            problems.append(
                Problem(where, record.image_id, "lies neither in images/training nor images/test")
            )
        records.append(record._replace(part=parts.get(folder, "train")))
    return Source(source.name, root, source.classes, tuple(records), (), tuple(problems))


def _read_pairs(
    name: str, root: Path, images_dir: Path, masks_dir: Path, classes: tuple[str, ...]
) -> Source:
    layout = f"expected {images_dir.name}/ with the images and {masks_dir.name}/ with PNG masks"
    require_folder(root, f"data.root names the folder of the data: {layout}")
    require_folder(images_dir, layout)
    require_folder(masks_dir, layout)
    images = list_images(images_dir)
    if not images:
        raise DataError(f"{images_dir}: no image in it; {layout}")
    records, problems = [], []
    stems: dict[str, str] = {}
    for image_id, path in images.items():
        stem = image_id.rpartition(".")[0]
        mask = masks_dir / f"{stem}.png"
        if stem in stems:
            what = f"has the stem of {stems[stem]}; one mask cannot belong to both"
            problems.append(Problem(str(path), image_id, what))
        elif not mask.is_file():
            what = f"has no mask {mask}; an image free of defects has a mask of zeros"
            problems.append(Problem(str(path), image_id, what))
        stems.setdefault(stem, image_id)
        records.append(Record(image_id, path, mask=mask))
    return Source(name, root, classes, tuple(records), (), tuple(problems))
