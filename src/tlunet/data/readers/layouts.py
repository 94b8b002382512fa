"""Known data set layouts, which are read in place; add a new one to `LAYOUTS`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tlunet.data.readers import folder, severstal
from tlunet.data.readers.alike import contents
from tlunet.data.readers.contents import find_parts, has_parts
from tlunet.data.source import Source, require_folder
from tlunet.errors import DataError, reason_of


class Layout(NamedTuple):
    """How a data set is stored in its folder.

    Attributes:
        read: (folder, class names from the user) → the list of its images.
        parts: contents by which the layout is detected; empty: it is not detected.
    """

    read: Callable[[Path, Sequence[str]], Source]
    parts: tuple[str, ...] = ()


#: Layouts by ``data.name``. Their modules import nothing heavy, so a wrong name fails at once.
LAYOUTS = {
    "severstal": Layout(lambda root, _: severstal.read(root), severstal.PARTS),
    "folder": Layout(lambda root, names: folder.read(root, classes=names), ("images/", "masks/")),
    "neu_seg": Layout(lambda root, _: folder.read_neu_seg(root), ("images/", "annotations/")),
}
#: Values of ``data.name``; ``auto`` is the layout of ``data.root``, or Severstal, or strips.
NAMES = ("auto", "synthetic", *LAYOUTS)


def recognise(root: Path) -> str:
    """Detect the name of a folder's layout from its contents.

    Raises:
        DataError: the folder is missing or cannot be read, or no layout or several match.
    """
    known = ", or ".join(
        f"{' and '.join(layout.parts)} ({name})" for name, layout in LAYOUTS.items() if layout.parts
    )
    require_folder(root, f"expected {known}")
    try:
        there = {f"{path.name}/" if path.is_dir() else path.name for path in root.iterdir()}
    except OSError as error:
        raise DataError(f"{root}: cannot be read ({reason_of(error)})") from None
    whole = [name for name, layout in LAYOUTS.items() if layout.parts and there >= {*layout.parts}]
    begun = [name for name, layout in LAYOUTS.items() if there & {*layout.parts}]
    if whole or len(begun) == 1:
        return (whole or begun)[0]
    parts = [layout.parts for layout in LAYOUTS.values() if layout.parts]
    near = next(filter(None, (find_parts(root, some) for some in parts)), None)
    if near is None and any(has_parts(root.parent, some) for some in parts):
        near = root.parent  # images/ or masks/ itself was named
    where, found = (f"; {near} does: use it", "") if near else ("", f"; {contents(root)}")
    raise DataError(f"{root}: contains no known data set layout{where}; expected {known}{found}")
