"""Severstal: Steel Defect Detection (Kaggle 2019), as it is published.

12,568 training images of 256×1600, 6,666 of them with a defect, four classes; images with class
1, 2, 3, 4: 897, 247, 5150, 801. The competition's own test images have no published masks.
"""

import csv
from pathlib import Path

from tlunet.data.source import (
    IMAGE_SUFFIXES,
    Problem,
    Record,
    Source,
    is_plain_name,
    require_folder,
)
from tlunet.errors import DataError

#: The competition numbers its classes and does not name them.
CLASSES = ("class 1", "class 2", "class 3", "class 4")
LAYOUT = "expected train_images/*.jpg and train.csv, as the Kaggle archive unpacks"
COLUMNS = ({"ImageId", "ClassId", "EncodedPixels"}, {"ImageId_ClassId", "EncodedPixels"})


def read(root: Path, *, name: str = "severstal", classes: tuple[str, ...] = CLASSES) -> Source:
    """List the data set in either of its published forms.

    ``ImageId,ClassId,EncodedPixels`` has rows for defects only; ``ImageId_ClassId,EncodedPixels``
    has four rows an image, most of them empty. An image without a row is free of defects.

    Args:
        root: the folder with ``train_images/`` and ``train.csv``.
        name: the name of the data set in results; the synthetic strips lie in the same layout.
        classes: the names of its classes.

    Returns:
        The source; its ``problems`` name every bad row.

    Raises:
        DataError: a folder or file is missing, or the CSV has other columns.
    """
    images_dir, table = root / "train_images", root / "train.csv"
    require_folder(root, f"data.root names the folder of the Severstal data: {LAYOUT}")
    require_folder(images_dir, LAYOUT)
    if not table.is_file():
        raise DataError(f"{table}: no such file; {LAYOUT}")
    images = {
        path.name: path
        for path in sorted(images_dir.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES
    }
    if not images:
        raise DataError(f"{images_dir}: no image in it; {LAYOUT}")

    problems: list[Problem] = []
    runs: dict[str, list[tuple[int, str, str]]] = {image_id: [] for image_id in images}
    seen: dict[tuple[str, str], int] = {}
    class_ids = {str(m + 1) for m in range(len(classes))}
    for row, image_id, class_text, encoded in _rows(table):
        where = f"{table} row {row}"

        fault = None
        if not is_plain_name(image_id):
            fault = f"image name {image_id!r}; expected the name of a file in train_images"
        elif image_id not in images:
            fault = f"image {image_id!r} is not in {images_dir}"
        elif class_text not in class_ids:
            fault = f"class {class_text!r}; allowed are 1 to {len(classes)}"
        elif (first := seen.setdefault((image_id, class_text), row)) != row:
            fault = f"image {image_id!r} has class {class_text} twice (first in row {first})"
        elif encoded.strip():
            runs[image_id].append((int(class_text), encoded, where))
        if fault:
            problems.append(Problem(where, image_id, fault))
    records = tuple(Record(i, path, tuple(runs[i])) for i, path in images.items())
    return Source(name, root, classes, records, (table,), tuple(problems))


def _rows(table: Path) -> list[tuple[int, str, str, str]]:
    """(row number as an editor shows it, image, class, runs) of either form."""
    try:
        # utf-8-sig: a byte-order mark is taken off; newline="": CRLF is left to the csv module.
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header = set(reader.fieldnames or ())
            if header not in COLUMNS:
                expected = " or ".join(",".join(sorted(c, key=len)) for c in COLUMNS)
                raise DataError(
                    f"{table} row 1: columns {','.join(sorted(header)) or '(none)'}; "
                    f"expected {expected}"
                )
            csv.field_size_limit(1 << 30)  # a mask of many runs is a long field
            rows = []
            for line in reader:
                image_id, class_text = line.get("ImageId"), line.get("ClassId")
                if "ImageId_ClassId" in header:
                    image_id, _, class_text = (line["ImageId_ClassId"] or "").rpartition("_")
                rows.append(
                    (
                        reader.line_num,
                        (image_id or "").strip(),
                        (class_text or "").strip(),
                        line["EncodedPixels"] or "",
                    )
                )
            return rows
    except UnicodeDecodeError as error:
        raise DataError(f"{table}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{table}: not a CSV table ({error})") from None
    except OSError as error:
        raise DataError(f"{table}: cannot be read ({error.strerror})") from None
