"""The layouts of data sets that are read in place: a new one is a line in `LAYOUTS`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tlunet.data.readers import folder, severstal
from tlunet.data.source import Source, require_folder
from tlunet.errors import DataError


class Layout(NamedTuple):
    """How a data set lies in its folder.

    Attributes:
        read: (folder, names of the classes that the user gave) → the list of its images.
        parts: what the folder holds, by which it is known when it is not named; none: never.
    """

    read: Callable[[Path, Sequence[str]], Source]
    parts: tuple[str, ...] = ()


#: By ``data.name``. Its modules import nothing heavy: a wrong name is told at once.
LAYOUTS = {
    "severstal": Layout(lambda root, _: severstal.read(root), ("train_images/", "train.csv")),
    "folder": Layout(lambda root, names: folder.read(root, classes=names), ("images/", "masks/")),
    "neu_seg": Layout(lambda root, _: folder.read_neu_seg(root), ("images/", "annotations/")),
}
#: What ``data.name`` may be: drawn strips too, and ``auto``, Severstal if it is there.
NAMES = ("auto", "synthetic", *LAYOUTS)


def recognise(root: Path) -> str:
    """The name of a folder's layout, by what is in it.

    Raises:
        DataError: no such folder, it cannot be read, or no layout or several fit.
    """
    known = ", or ".join(
        f"{' and '.join(layout.parts)} ({name})" for name, layout in LAYOUTS.items() if layout.parts
    )
    require_folder(root, f"expected {known}")
    try:
        there = {f"{path.name}/" if path.is_dir() else path.name for path in root.iterdir()}
    except OSError as error:
        raise DataError(f"{root}: cannot be read ({error.strerror})") from None
    whole = [name for name, layout in LAYOUTS.items() if layout.parts and there >= {*layout.parts}]
    begun = [name for name, layout in LAYOUTS.items() if there & {*layout.parts}]
    if whole or len(begun) == 1:
        return (whole or begun)[0]
    raise DataError(f"{root}: no data set of a known layout in it; expected {known}")
