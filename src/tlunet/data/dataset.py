"""Data sets by name: images on disk in a known layout, or strips drawn on demand."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from tlunet.data.readers.layouts import LAYOUTS, NAMES, recognise
from tlunet.data.source import Source
from tlunet.data.synthetic.generate import VERSION, generate, is_drawn, read
from tlunet.errors import ConfigError
from tlunet.machine.console import Progress

SYNTHETIC_SIZE = (32, 64)  # the whole grid takes minutes on 2 cores


class DataSet(Protocol):
    """A data set that can list its images."""

    @property
    def name(self) -> str:
        """Its name in every result."""

    @property
    def root(self) -> Path:
        """Its folder."""

    def read(self, size: tuple[int, int] | None = None, progress: Progress | None = None) -> Source:
        """List the images; strips are drawn first if they do not exist yet.

        Args:
            size: (height, width) of strips to draw; images on disk keep theirs.
            progress: called with the progress of drawing.

        Raises:
            ConfigError: a value is not allowed.
            DataError: no such folder, or it has another layout.
        """


@dataclass(frozen=True)
class OnDisk:
    """Images and annotations on disk, read in place.

    Attributes:
        layout: ``severstal``, ``folder``, ``neu_seg``, or another of
            :data:`tlunet.data.readers.layouts.LAYOUTS`.
        root: the folder.
        classes: for ``folder``: names of the class ids 1…M.
        foreground: for ``folder`` with one class: its value in the masks, such as 255, if not 1.
    """

    layout: str
    root: Path
    classes: Sequence[str] = ()
    foreground: int | None = None

    @property
    def name(self) -> str:
        """The layout; but strips in the layout of Severstal must not pass as steel."""
        is_severstal = self.layout == "severstal"
        return "synthetic" if is_severstal and is_drawn(self.root) else self.layout

    def read(  # noqa: D102
        self, size: tuple[int, int] | None = None, progress: Progress | None = None
    ) -> Source:
        if self.name == "synthetic":
            return read(self.root)
        if self.layout not in LAYOUTS:
            raise ConfigError(f"data={self.layout}: expected {', '.join(NAMES)}")
        source = LAYOUTS[self.layout].read(self.root, self.classes)
        if self.foreground is None:
            return source
        if self.layout != "folder" or len(self.classes) != 1:
            raise _not_binary(self.foreground, f"data={self.layout} with {len(source.classes)}")
        records = (record._replace(foreground=self.foreground) for record in source.records)
        return replace(source, records=tuple(records))


def _not_binary(foreground: int, what: str) -> ConfigError:
    return ConfigError(
        f"data.foreground={foreground}: only for data=folder with one class in data.classes; "
        f"this is {what}"
    )


@dataclass(frozen=True)
class Strips:
    """Procedural strips, drawn once per combination of these values and a size.

    Attributes:
        root: folder to draw them in; or a folder of strips from ``tlunet data synth``.
        n: number of strips.
        seed: seed of the strips.
        balance: ``even`` or ``severstal``, the real class frequencies.
        family: ``strips``, or ``sheets`` (for pre-training).
    """

    root: Path = Path("data/synthetic")
    n: int = 256
    seed: int = 0
    balance: str = "even"
    family: str = "strips"

    @property
    def name(self) -> str:
        """``synthetic``."""
        return "synthetic"

    def read(  # noqa: D102
        self, size: tuple[int, int] | None = None, progress: Progress | None = None
    ) -> Source:
        if is_drawn(self.root):
            return read(self.root)
        height, width = size = size or SYNTHETIC_SIZE
        what = f"{self.family}-{self.n}-{height}x{width}-{self.balance}-s{self.seed}"
        home = self.root / f"{what}-v{VERSION}"
        if not home.exists():
            _refuse_foreign(self.root)
            drawn = (lambda done: progress("drawing strips", done, self.n)) if progress else None
            try:
                generate(
                    home, n=self.n, size=size, seed=self.seed, balance=self.balance,
                    family=self.family, progress=drawn,
                )  # fmt: skip
            except ValueError as error:
                raise ConfigError(f"data=synthetic: {error}") from None
        return read(home, self.family)


def _refuse_foreign(root: Path) -> None:
    """Raise ConfigError where strips would be drawn into a folder of other files."""
    others = (p for p in root.glob("*") if not is_drawn(p) and not p.name.startswith("."))
    if other := next(others, None):
        raise ConfigError(
            f"data.root={root}: contains {other.name}, and data=synthetic draws strips of its own; "
            "leave data.root out, or use data=folder or data=severstal for images on disk"
        )


def find_dataset(
    name: str = "auto",
    root: str | Path | None = None,
    cache: str | Path = "data",
    classes: Sequence[str] = (),
    foreground: int | None = None,
    **strips: int | str,
) -> DataSet:
    """Find the data set that the keys ``data.*`` name.

    Args:
        name: ``severstal``, ``synthetic``, ``folder``, ``neu_seg``, or ``auto``: the layout of
            ``root``; without ``root``, Severstal if it is in ``<cache>/severstal``, otherwise
            synthetic strips.
        root: its folder; by default ``<cache>/<name>``.
        cache: folder of downloaded data and of strips.
        classes: for ``folder``: names of the class ids 1…M.
        foreground: for ``folder`` with one class: its value in the masks, if not 1.
        **strips: ``n``, ``seed``, ``balance`` and ``family`` of :class:`Strips`.

    Raises:
        ConfigError: class names or a foreground for a data set that has its own.
        DataError: ``auto``, and ``root`` has no known layout.
    """
    cache = Path(cache)
    if name == "auto" and root:
        name = recognise(Path(root))
    elif name == "auto":
        name = "severstal" if (cache / "severstal" / "train.csv").is_file() else "synthetic"
    if classes and name != "folder":
        raise ConfigError(
            f"data.classes=[{','.join(classes)}]: data={name} has classes of its own; your own "
            "images and masks: data=folder data.root=FOLDER"
        )
    root = Path(root) if root else cache / name
    if name == "synthetic":
        if foreground is not None:
            raise _not_binary(foreground, "data=synthetic")
        return Strips(root, **strips)  # type: ignore[arg-type]
    return OnDisk(name, root, tuple(classes), foreground)


def read_source(
    root: Path,
    layout: str = "auto",
    classes: Sequence[str] = (),
    foreground: int | None = None,
) -> Source:
    """List a data set on disk whose layout may be unknown.

    Args:
        root: its folder.
        layout: its layout, or ``auto`` to detect it from the sub-folders.
        classes: for ``folder``: names of the class ids 1…M.
        foreground: for ``folder`` with one class: its value in the masks, if not 1.

    Raises:
        ConfigError: the layout is unknown, or class names are missing.
        DataError: the folder has another layout.
    """
    layout = recognise(root) if layout == "auto" else layout
    if layout not in LAYOUTS:
        allowed = ", ".join(("auto", *LAYOUTS))
        raise ConfigError(f"{layout}: unknown kind of data set; expected {allowed}")
    return OnDisk(layout, root, classes, foreground).read()
