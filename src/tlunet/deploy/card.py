"""Description of a network: classes, threshold, training size."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tlunet.data.fit import FITS
from tlunet.data.source import MAX_CLASSES
from tlunet.deploy.rules import Rules
from tlunet.errors import DataError

FORMAT = "tlunet-1"  # metadata format of an exported file; changes whenever the meaning changes


@dataclass(frozen=True)
class Card:
    """Description of a network that accompanies its weights.

    Attributes:
        classes: names of the classes 1…M.
        threshold: a pixel or label is positive if its probability is above this.
        size: training size (height, width); ``None`` if unknown.
        fit: how images of other proportions were brought to it, ``stretch`` or ``pad``.
        encoder: name of the encoder.
        arch: name of the decoder.
        digest: digest of the run; ``None`` if unknown.
        tuned: rules fitted by ``tlunet tune``; ``None`` if the run is not tuned.
    """

    classes: tuple[str, ...]
    threshold: float = 0.5
    size: tuple[int, int] | None = None
    encoder: str = ""
    arch: str = "unet"
    digest: str | None = None
    tuned: Rules | None = None
    fit: str = "stretch"

    def rules(self, tuned: bool, where: Path) -> Rules:
        """Return the rules for prediction.

        Args:
            tuned: whether to use the rules fitted by ``tlunet tune``, not the threshold.
            where: the run or file, for the error message.

        Raises:
            DataError: tuned rules are requested, but the run is not tuned.
        """
        if not tuned:
            return Rules.plain(len(self.classes), self.threshold)
        if self.tuned is None:
            way = "tlunet tune RUN, then tlunet export RUN" if where.is_file() else "tlunet tune"
            raise DataError(f"{where}: not tuned; before --tuned, run {way}")
        return self.tuned

    def as_metadata(self) -> dict[str, str]:
        """Return key → JSON text, as stored in an exported file."""
        values = {
            "format": FORMAT,
            "classes": list(self.classes),
            "threshold": self.threshold,
            "size": list(self.size) if self.size else None,
            "fit": self.fit,
            "encoder": self.encoder,
            "arch": self.arch,
            "digest": self.digest,
            "tuned": self.tuned.as_dict() if self.tuned else None,
        }
        return {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> Self:
        """Invert :meth:`as_metadata`; the file is not trusted.

        Raises:
            DataError: not metadata of this project, or an invalid value.
        """
        if "format" not in metadata:
            raise DataError(
                f"{where}: metadata of tlunet export is missing (classes, threshold, size); "
                "export the run again: tlunet export RUN"
            )
        values: dict[str, Any]
        try:
            values = {key: json.loads(text) for key, text in metadata.items() if key in _KEYS}
        except (ValueError, RecursionError):
            raise DataError(f"{where}: metadata is not JSON; export the run again") from None
        if values["format"] != FORMAT:
            raise DataError(
                f"{where}: metadata format is {values['format']!r}, expected {FORMAT}; "
                "export the run again"
            )
        classes: Any = values.get("classes")
        threshold: Any = values.get("threshold")
        size: Any = values.get("size")
        if not _are_names(classes) or not _is_probability(threshold) or not _is_size(size):
            raise DataError(f"{where}: invalid classes, threshold or size in its metadata")
        if (fit := values.get("fit", "stretch")) not in FITS:
            raise DataError(f"{where}: invalid fit in its metadata; expected {', '.join(FITS)}")
        tuned = values.get("tuned")
        return cls(
            classes=tuple(classes),
            threshold=threshold,
            size=(size[0], size[1]) if size else None,
            encoder=str(values.get("encoder")),
            arch=str(values.get("arch", "unet")),
            digest=values.get("digest"),
            fit=fit,
            tuned=None if tuned is None else Rules.read(tuned, len(classes), where),
        )


_KEYS = ("format", "classes", "threshold", "size", "fit", "encoder", "arch", "digest", "tuned")


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


def read_tuned(run: Path, classes: int) -> Rules | None:
    """Read the rules in a run's ``tuned.json``; return ``None`` if the run is not tuned.

    Raises:
        DataError: the file exists but cannot be read.
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
