"""Severstal: Steel Defect Detection (Kaggle 2019), as published.

12,568 training images of 256×1600, 6,666 of them with a defect, four classes; images with class
1, 2, 3, 4: 897, 247, 5150, 801. The competition's own test images have no published masks.
"""

from pathlib import Path

from tlunet.data.readers.contents import no_images, require_parts
from tlunet.data.readers.listing import IMAGE_SUFFIXES, is_plain_name, list_files, plain
from tlunet.data.readers.table import numbered_rows
from tlunet.data.source import Problem, Record, Source
from tlunet.errors import DataError

#: The competition numbers its classes but does not name them.
CLASSES = ("class 1", "class 2", "class 3", "class 4")
PARTS = ("train_images/", "train.csv")
LAYOUT = "expected train_images/*.jpg and train.csv, as in the Kaggle archive"
COLUMNS = (("ImageId", "ClassId", "EncodedPixels"), ("ImageId_ClassId", "EncodedPixels"))


def read(root: Path, *, name: str = "severstal", classes: tuple[str, ...] = CLASSES) -> Source:
    """List the data set in either of its published forms.

    ``ImageId,ClassId,EncodedPixels`` has rows for defects only; ``ImageId_ClassId,EncodedPixels``
    has four rows per image, most of them empty. An image without a row is defect-free.

    Args:
        root: the folder with ``train_images/`` and ``train.csv``.
        name: the name of the data set in results; synthetic strips use the same layout.
        classes: the names of its classes.

    Returns:
        The source; its ``problems`` list every invalid row.

    Raises:
        DataError: a folder or file is missing, or the CSV is not a table with these columns. Rows
            that cannot be parsed are never skipped: they could belong to any image, which would
            then count as defect-free.
    """
    images_dir, table = root / "train_images", root / "train.csv"
    require_parts(root, PARTS, LAYOUT, "Severstal")
    listing = list_files(images_dir, IMAGE_SUFFIXES, deep=False)
    images = listing.files
    if not images:
        raise no_images(images_dir, listing, PARTS, LAYOUT)

    problems = listing.problems
    runs: dict[str, list[tuple[int, str, str]]] = {image_id: [] for image_id in images}
    seen: dict[tuple[str, str], int] = {}
    class_ids = {str(m + 1) for m in range(len(classes))}
    header, rows = _rows(table)
    for row, values in rows:
        where = f"{table} row {row}"
        image_id, class_text, encoded = _cells(header, values)
        image_id = image_id if image_id in images else image_id.strip()
        fault = None
        if len(values) != len(header):
            fault = f"{len(values)} values; expected {len(header)}: {','.join(header)}"
        elif not is_plain_name(image_id):
            fault = f"image name {_quoted(image_id)}; expected the name of a file in train_images"
        elif image_id not in images:
            fault = f"image {_quoted(image_id)} is not in {images_dir}"
        elif class_text not in class_ids:
            fault = f"class {_quoted(class_text)}; expected 1 to {len(classes)}"
        elif (first := seen.setdefault((image_id, class_text), row)) != row:
            fault = f"image {image_id!r} has class {class_text} twice (first in row {first})"
        elif encoded.strip():
            runs[image_id].append((int(class_text), encoded, where))
        if fault:
            problems.append(Problem(where, image_id, fault))
    records = tuple(Record(i, path, tuple(runs[i])) for i, path in images.items())
    return Source(
        name, root, classes, records, (table,), tuple(problems), ignored=tuple(listing.ignored)
    )


def _rows(table: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the columns, and (row number as in an editor, values) of all rows below them.

    Raises:
        DataError: it is not a table, has other columns, or has no rows.
    """
    rows = list(numbered_rows(table, LAYOUT))
    row, header = rows.pop(0) if rows else (1, [])
    header = [column.strip() for column in header]
    if not any(sorted(header) == sorted(columns) for columns in COLUMNS):
        expected = " or ".join(map(",".join, COLUMNS))
        shown = _cut(",".join(header)) or "(none)"
        raise DataError(f"{table} row {row}: columns {shown}; expected {expected}")
    if not rows:
        raise DataError(f"{table}: no rows below the header; expected one row per defect")
    return header, rows


def _cells(header: list[str], values: list[str]) -> tuple[str, str, str]:
    """Return the image, class and runs of a row."""
    named = dict(zip(header, values, strict=False))
    image_id, class_text = named.get("ImageId", ""), named.get("ClassId", "")
    if "ImageId_ClassId" in header:
        both = named.get("ImageId_ClassId", "")
        image_id, _, class_text = both.rpartition("_") if "_" in both else (both, "", "")
    return plain(image_id), class_text.strip(), named.get("EncodedPixels", "")


def _quoted(text: str) -> str:
    return repr(_cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"
