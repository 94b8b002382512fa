"""Folders of images and masks: a user's own folder, and NEU-Seg, which is published that way."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tlunet.data.readers.alike import Alike
from tlunet.data.readers.contents import no_images, require_parts
from tlunet.data.readers.listing import IMAGE_SUFFIXES, OTHER_PICTURES, Listing, list_files
from tlunet.data.source import MAX_CLASSES, Problem, Record, Source
from tlunet.errors import ConfigError

#: NEU-Seg's masks contain the ids 1, 2, 3; the order of the names is from the literature.
NEU_SEG_CLASSES = ("inclusion", "patches", "scratches")


def read(root: Path, *, classes: Sequence[str]) -> Source:
    """List a user's own data: ``images/`` and ``masks/``, flat or with the same sub-folders.

    A mask is a PNG of class ids (0 = background) with the path and stem of its image; a defect-free
    image has a mask of zeros.

    Args:
        root: the folder with ``images/`` and ``masks/``.
        classes: the names of the ids 1…M.

    Raises:
        ConfigError: there are no class names, or more than a bit field can store.
        DataError: a folder is missing or empty.
    """
    if not classes:
        raise ConfigError(
            "data.classes: not set; expected the names of the class ids 1, 2, … in the masks, "
            "such as data.classes=[scratch,dent] (tlunet: --classes scratch,dent)"
        )
    if len(classes) > MAX_CLASSES:
        raise ConfigError(f"{len(classes)} classes; at most {MAX_CLASSES} are supported")
    return _read_pairs("folder", root, root / "images", root / "masks", tuple(classes))


def read_neu_seg(root: Path) -> Source:
    """List NEU-Seg: ``images/{training,test}/*.jpg`` and ``annotations/{training,test}/*.png``.

    3,630 + 840 grey images of 200×200, three classes, a defect in every image. The same stem in
    both subsets means two images, so ids include the subset: ``training/000001.jpg``.

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
            what = "is neither in images/training nor in images/test; move it"
            problems.append(Problem(str(record.image), record.image_id, what))
        records.append(record._replace(part=parts.get(folder, "train")))
    return replace(source, records=tuple(records), problems=tuple(problems))


def _read_pairs(
    name: str, root: Path, images_dir: Path, masks_dir: Path, classes: tuple[str, ...]
) -> Source:
    layout = f"expected {images_dir.name}/ with the images and {masks_dir.name}/ with PNG masks"
    parts = f"{images_dir.name}/", f"{masks_dir.name}/"
    require_parts(root, parts, layout)
    images = list_files(images_dir, IMAGE_SUFFIXES)
    if not images.files:
        raise no_images(images_dir, images, parts, layout)
    masks = list_files(masks_dir, {".png"})
    mask_of = {_stem(mask_id): path for mask_id, path in masks.files.items()}
    image_of = {_stem(image_id): image_id for image_id in images.files}
    times = Counter(map(_stem, images.files))
    spoilt = {_stem(problem.image_id) for problem in masks.problems}

    without = [image_id for stem, image_id in image_of.items() if stem not in mask_of]
    meant = _meant(without, mask_of.keys() - image_of.keys(), masks) if without else {}

    problems, records = images.problems, []
    for image_id, path in images.files.items():
        stem = _stem(image_id)
        what = None
        if times[stem] > 1:
            what = f"{times[stem]} images have this stem, but a mask belongs to one image"
        elif stem not in mask_of and stem not in spoilt:
            mask = masks_dir / f"{stem}.png"
            hint = meant.get(image_id, "a defect-free image needs a mask of zeros")
            what = f"has no mask {mask}; {hint}"
        if what:
            problems.append(Problem(str(path), image_id, what))
        records.append(Record(image_id, path, mask=mask_of.get(stem)))
    problems += [p._replace(image_id=image_of.get(_stem(p.image_id), "")) for p in masks.problems]
    told = " ".join(meant.values())  # one line for an image and the mask that was meant for it
    for stem in sorted(mask_of.keys() - image_of.keys()):
        if f"{mask_of[stem]}:" in told:
            continue
        what = f"has no image in {images_dir}; add it or remove the mask"
        problems.append(Problem(str(mask_of[stem]), "", what))
    ignored = (*images.ignored, *masks.ignored)
    return Source(name, root, classes, tuple(records), (), tuple(problems), ignored=ignored)


def _meant(images: Sequence[str], stray: Iterable[str], masks: Listing) -> dict[str, str]:
    """Find masks of other formats or names: image id → what to do about the mask.

    Args:
        images: ids of the images without a mask.
        stray: stems of the masks without an image.
        masks: all files in the folder of the masks.
    """
    other = {p.suffix.lower() for p in masks.ignored} & (IMAGE_SUFFIXES | OTHER_PICTURES)
    pictures = [str(p) for p in masks.ignored if p.suffix.lower() in other]
    by_stem = {_stem(mask_id): str(path) for mask_id, path in masks.files.items()}
    foreign, misnamed = Alike(pictures), Alike(by_stem[stem] for stem in stray)
    meant = {}
    for image_id in images:
        if mask := misnamed.find(image_id):
            meant[image_id] = f"there is {mask}: rename it"
        elif mask := foreign.find(image_id):
            meant[image_id] = f"there is {mask}: save it as PNG (a lossy format changes class ids)"
    return meant


def _stem(file_id: str) -> str:
    return file_id.rpartition(".")[0]
