"""What a network says of itself: its classes, its threshold, the size it was trained at."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tlunet.data.source import MAX_CLASSES
from tlunet.deploy.rules import Rules
from tlunet.errors import DataError

FORMAT = "tlunet-1"  # of an exported file's metadata; another number has another meaning


@dataclass(frozen=True)
class Card:
    """What goes with a network's weights.

    Attributes:
        classes: names of the classes 1…M.
        threshold: a pixel or label is positive where its probability is above it.
        size: (height, width) it was trained at; ``None`` where that is not known.
        encoder: its name.
        arch: of the decoder.
        digest: of the run; ``None`` where that is not known.
        tuned: the rules that ``tlunet tune`` found; ``None`` if it has not run.
    """

    classes: tuple[str, ...]
    threshold: float = 0.5
    size: tuple[int, int] | None = None
    encoder: str = ""
    arch: str = "unet"
    digest: str | None = None
    tuned: Rules | None = None

    def rules(self, tuned: bool, where: Path) -> Rules:
        """The rules to predict by.

        Args:
            tuned: those that ``tlunet tune`` found, instead of the threshold.
            where: the run or file, for the message.

        Raises:
            DataError: tuned ones are asked for and there are none.
        """
        if not tuned:
            return Rules.plain(len(self.classes), self.threshold)
        if self.tuned is None:
            way = "tlunet tune RUN, then tlunet export RUN" if where.is_file() else "tlunet tune"
            raise DataError(f"{where}: was not tuned, there is nothing for --tuned; first {way}")
        return self.tuned

    def as_metadata(self) -> dict[str, str]:
        """Key → JSON text, as an exported file keeps it."""
        values = {
            "format": FORMAT,
            "classes": list(self.classes),
            "threshold": self.threshold,
            "size": list(self.size) if self.size else None,
            "encoder": self.encoder,
            "arch": self.arch,
            "digest": self.digest,
            "tuned": self.tuned.as_dict() if self.tuned else None,
        }
        return {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> Self:
        """The inverse of :meth:`as_metadata`; the file may be a stranger's.

        Raises:
            DataError: it is not metadata of this project, or a value in it is wrong.
        """
        if "format" not in metadata:
            raise DataError(
                f"{where}: has none of the metadata that tlunet export writes (classes, "
                "threshold, size); export the run again: tlunet export RUN"
            )
        values: dict[str, Any]
        try:
            values = {key: json.loads(text) for key, text in metadata.items() if key in _KEYS}
        except (ValueError, RecursionError):
            raise DataError(f"{where}: its metadata is not JSON; export the run again") from None
        if values["format"] != FORMAT:
            raise DataError(
                f"{where}: its metadata is {values['format']!r}, this version reads {FORMAT}; "
                "export the run again"
            )
        classes: Any = values.get("classes")
        threshold: Any = values.get("threshold")
        size: Any = values.get("size")
        if not _are_names(classes) or not _is_probability(threshold) or not _is_size(size):
            raise DataError(f"{where}: wrong classes, threshold or size in its metadata")
        tuned = values.get("tuned")
        return cls(
            classes=tuple(classes),
            threshold=threshold,
            size=(size[0], size[1]) if size else None,
            encoder=str(values.get("encoder")),
            arch=str(values.get("arch", "unet")),
            digest=values.get("digest"),
            tuned=None if tuned is None else Rules.read(tuned, len(classes), where),
        )


_KEYS = ("format", "classes", "threshold", "size", "encoder", "arch", "digest", "tuned")


def _are_names(value: Any) -> bool:
    is_list = isinstance(value, list) and 1 <= len(value) <= MAX_CLASSES
    return is_list and all(isinstance(name, str) for name in value)


def _is_probability(value: Any) -> bool:
    return isinstance(value, float) and 0 < value < 1


def _is_size(value: Any) -> bool:
    if value is None:
        return True
    is_pair = isinstance(value, list) and len(value) == 2
    return is_pair and all(type(side) is int and 1 <= side <= 2**15 for side in value)


def read_meta(run: Path) -> dict[str, Any]:
    """A run's ``meta.json``.

    Raises:
        DataError: it cannot be read, or holds no size.
    """
    path = run / "meta.json"
    try:
        meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        height, width = meta["size"]
        return meta | {"size": (int(height), int(width))}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: cannot be read ({type(error).__name__}); the size that the network was "
            "trained at stands in it"
        ) from error


def read_tuned(run: Path, classes: int) -> Rules | None:
    """The rules of a run's ``tuned.json``, ``None`` if it was not tuned.

    Raises:
        DataError: the file is there and cannot be read.
    """
    path = run / "tuned.json"
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({type(error).__name__}); tune again") from None
    found = content.get("rules") if isinstance(content, dict) else None
    return Rules.read(found, classes, str(path))


def check_finished(run: Path) -> None:
    """Raise DataError if a run's own ``status.json`` says that it is not finished."""
    path = run / "status.json"
    if not path.exists():
        return
    try:
        state = json.loads(path.read_text(encoding="utf-8"))["state"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({type(error).__name__})") from None
    if state != "finished":
        raise DataError(
            f"{run}: its state is {state!r}, not finished; the command that began it goes on with "
            f"it, and {run / 'best.ckpt'}, named itself, is its best epoch so far"
        )
