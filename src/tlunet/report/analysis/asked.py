"""Find the cells, scores and seeds that a claim asks for."""

from collections.abc import Sequence
from itertools import product
from typing import Any

from tlunet.report.analysis.blocks import Key
from tlunet.report.analysis.resampled import Cell, Resampled, common_seeds

Claim = dict[str, Any]


class AbsentError(Exception):
    """A cell, class or score that a claim needs is missing."""


def cells_of(where: dict[str, Any], blocks: Sequence[Resampled]) -> list[Cell]:
    """Find the cells of every combination of the given values; other keys select the block.

    Raises:
        AbsentError: a cell is not finished, or not exactly one block has the settings.
    """
    settings = {k: str(v) for k, v in where.items() if k not in Key._fields}
    fitting = [b for b in blocks if all(b.data.settings.get(k) == v for k, v in settings.items())]
    if len(fitting) != 1:
        raise AbsentError(f"{len(fitting)} protocols with {settings}, expected one")
    values = [v if isinstance(v, list) else [v] for v in (where[f] for f in Key._fields)]
    keys = [Key(e, i, float(f)) for e, i, f in product(*values)]
    absent = [str(key) for key in keys if key not in fitting[0].data.keys]
    if absent:
        raise AbsentError(f"not finished: {', '.join(absent)}")
    return [fitting[0].cell(key) for key in keys]


def pairs_of(claim: Claim, blocks: Sequence[Resampled], **other: Any) -> list[tuple[Cell, Cell]]:
    """Pair the cells ``a`` and ``b`` of a claim.

    Raises:
        AbsentError: a cell is not finished, or the cells do not pair.
    """
    a = claim["a"] | other
    firsts, seconds = cells_of(a, blocks), cells_of(a | claim.get("b", {}) | other, blocks)
    if len(firsts) != len(seconds):
        raise AbsentError(f"a has {len(firsts)} cells, b {len(seconds)}")
    for first, second in zip(firsts, seconds, strict=True):
        if not first.block.data.has_images_of(second.block.data):
            raise AbsentError("a and b have different splits")
    return list(zip(firsts, seconds, strict=True))


def metrics_of(claim: Claim, cell: Cell) -> list[str]:
    """Return the scores that a claim is about.

    Raises:
        AbsentError: the data set has no such score (for example a class that it lacks).
    """
    metrics = claim["metric"] if isinstance(claim["metric"], list) else [claim["metric"]]
    for name in metrics:
        if name not in cell.block.metrics:
            raise AbsentError(f"no score {name} in this data set")
    return metrics


def image_metrics_of(claim: Claim, cell: Cell) -> list[str]:
    """Return the scores that a claim is about, which must be means over images.

    Raises:
        AbsentError: a score is missing or is not a mean over images.
    """
    metrics = metrics_of(claim, cell)
    for name in metrics:
        if name not in cell.block.images[0]:
            raise AbsentError(f"{name} is not a mean over images")
    return metrics


def seeds_of(*cells: Cell) -> tuple[int, ...]:
    """Return the seeds that all cells have.

    Raises:
        AbsentError: the cells have no common seed.
    """
    if not (seeds := common_seeds(*cells)):
        raise AbsentError(f"no common seed: {', '.join(str(c.key) for c in cells)}")
    return seeds
