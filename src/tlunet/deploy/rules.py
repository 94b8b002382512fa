"""Rules that turn probabilities into masks and labels, plain or tuned.

Only needs NumPy. ``tlunet tune`` fits these rules, and all predictors apply them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tlunet.data.bits import class_areas
from tlunet.errors import DataError

#: Name → axes along which each view of an image (…, H, W) is flipped; the views are averaged.
FLIPS: dict[str, tuple[tuple[int, ...], ...]] = {
    "none": ((),),
    "horizontal": ((), (-1,)),
    "vertical": ((), (-2,)),
    "both": ((), (-1,), (-2,), (-2, -1)),
}


@dataclass(frozen=True)
class Rules:
    """Rules for the masks and labels of M classes.

    Attributes:
        thresholds: a pixel belongs to class m if its probability is above ``thresholds[m]``.
        min_areas: a mask with fewer pixels, at the network's size, is dropped completely.
        gates: a mask is dropped if the label probability is below this.
        labels: an image has label m if the label probability is above this.
        flips: a key of :data:`FLIPS`; the rules apply to the mean probabilities of these views.
    """

    thresholds: tuple[float, ...]
    min_areas: tuple[int, ...]
    gates: tuple[float, ...]
    labels: tuple[float, ...]
    flips: str = "none"

    @classmethod
    def plain(cls, classes: int, threshold: float = 0.5) -> Self:
        """Use one threshold for all pixels and labels, and no other rule."""
        same = (threshold,) * classes
        return cls(same, (0,) * classes, (0.0,) * classes, same)

    def at(self, threshold: float) -> Self:
        """Return the same rules with one threshold for all pixels and labels."""
        same = (threshold,) * len(self.thresholds)
        return replace(self, thresholds=same, labels=same)

    @property
    def is_plain(self) -> bool:
        """Whether these rules equal :meth:`plain`."""
        return self == self.plain(len(self.thresholds), self.thresholds[0])

    def kept(self, areas: NDArray[Any], labels: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return which masks are kept.

        Args:
            areas: (…, M) pixels above the threshold.
            labels: (…, M) label probabilities.

        >>> rules = Rules((0.5,) * 3, (0, 4, 0), (0.0, 0.0, 0.3), (0.5,) * 3)
        >>> rules.kept(np.array([1, 3, 9]), np.array([0.1, 0.9, 0.2])).tolist()
        [True, False, False]
        """
        return (areas >= np.array(self.min_areas)) & (labels >= np.array(self.gates, np.float32))

    def present(self, labels: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return labels (…, M) from label probabilities (…, M)."""
        return labels > np.array(self.labels, np.float32)

    def settle(
        self, bits: NDArray[np.unsignedinteger], labels: NDArray[np.floating]
    ) -> NDArray[np.unsignedinteger]:
        """Remove the dropped masks from a bit field.

        Args:
            bits: (H, W); bit m-1 is set where class m is above its threshold.
            labels: (M,) label probabilities.
        """
        if not any(self.min_areas) and not any(self.gates):
            return bits
        areas = class_areas(bits, len(self.thresholds))
        keep = sum(1 << m for m in np.flatnonzero(self.kept(areas, labels)).tolist())
        return bits & bits.dtype.type(keep)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a JSON file, to be read by :meth:`read`."""
        return {
            "thresholds": list(self.thresholds),
            "min_areas": list(self.min_areas),
            "gates": list(self.gates),
            "labels": list(self.labels),
            "flips": self.flips,
        }

    @classmethod
    def read(cls, content: Any, classes: int, where: str) -> Self:
        """Validate the content of an untrusted file and return its rules.

        Args:
            content: the parsed content.
            classes: M, the number of classes of the network.
            where: the file, for the error message.

        Raises:
            DataError: the content is not rules for M classes.
        """
        if not isinstance(content, Mapping) or content.get("flips") not in FLIPS:
            raise DataError(f"{where}: contains no tuned rules; tlunet tune RUN writes them")
        read = {
            key: _numbers(content.get(key), classes, f"{where}, {key}")
            for key in ("thresholds", "min_areas", "gates", "labels")
        }
        areas = tuple(int(area) for area in read.pop("min_areas"))
        if any(value > 1 for values in read.values() for value in values):
            raise DataError(f"{where}: tuned threshold or gate above 1; expected probabilities")
        return cls(min_areas=areas, flips=content["flips"], **read)


def _numbers(values: Any, classes: int, where: str) -> tuple[float, ...]:
    is_list = isinstance(values, Sequence) and not isinstance(values, str)
    if not is_list or len(values) != classes:
        raise DataError(f"{where}: expected {classes} numbers, one per class")
    if not all(type(v) in (int, float) and 0 <= v < float("inf") for v in values):
        raise DataError(f"{where}: expected {classes} non-negative numbers")
    return tuple(values)
