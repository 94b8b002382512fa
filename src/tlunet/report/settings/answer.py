"""The answer of a study that compares settings."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tlunet.report.analysis.comparisons import MOST_PAIRED, higher, pairs, protocol_pairs
from tlunet.report.analysis.resampled import Resampled, common_seeds
from tlunet.report.analysis.statistics import Estimate, direction, estimate
from tlunet.report.comparison_tables import sides_of
from tlunet.report.sentences import Finding, says_change, says_over
from tlunet.report.values import with_interval


def compares_settings(blocks: Sequence[Resampled]) -> bool:
    """Whether a study compares settings and no initialisations."""
    has_inits = any(factor == "init" for block in blocks for factor, *_ in pairs(block))
    return not has_inits and any(True for _ in protocol_pairs(blocks))


class Change(NamedTuple):
    """What one setting instead of another changes, as a mean over the cells that both have.

    Attributes:
        names: the two settings.
        gains: the difference in Dice, MLA and AUC, by name.
        dice: with the first setting and with the second.
        seeds: those that all cells have.
    """

    names: tuple[str, str]
    gains: dict[str, Estimate]
    dice: tuple[float, float]
    seeds: tuple[int, ...]


def changes_of_settings(blocks: Sequence[Resampled]) -> list[Finding]:
    """Compare settings pair by pair; of many, those without a clear change share one sentence."""
    between = protocol_pairs(blocks)
    both = {(a.block.data.title, b.block.data.title): (a.block, b.block) for _, a, b in between}
    changes = [_change(a, b) for a, b in both.values()]
    unclear = [c for c in changes if direction(c.gains["Dice"], len(c.seeds)) == "inconclusive"]
    seeds = {change.seeds for change in unclear}
    if len(changes) <= MOST_PAIRED or len(unclear) < 2 or len(seeds) > 1:
        return [_says(change) for change in changes]
    references = {change.names[1] for change in unclear}
    names = ", ".join(
        change.names[0] if len(references) == 1 else " instead of ".join(change.names)
        for change in unclear
    )
    of = f" with any of these instead of {references.pop()}" if len(references) == 1 else ""
    differences = (
        f"{change.names[0]} {with_interval(*change.gains['Dice'][:3], form='{:+.3f}')}"
        for change in unclear
    )
    return [
        *(_says(change) for change in changes if change not in unclear),
        Finding(
            f"No clear change in Dice{of}: {names}.",
            f"Dice: {', '.join(differences)}; {says_over(seeds.pop())}.",
            is_main=True,
        ),
    ]


def _change(a: Resampled, b: Resampled) -> Change:
    cells = [(a.cell(key), b.cell(key)) for key in a.data.keys if key in b.data.keys]
    seeds = common_seeds(*(cell for pair in cells for cell in pair))
    gains = {
        name: estimate(
            np.mean([x.by_seed(metric, seeds) - y.by_seed(metric, seeds) for x, y in cells], axis=0)
        )
        for metric, name in (("dice_image", "Dice"), ("mla", "MLA"), ("auc", "AUC"))
    }
    first, second = (
        float(np.mean([cell.by_seed("dice_image", seeds)[:, 0].mean() for cell in side]))
        if seeds else np.nan for side in zip(*cells, strict=True)
    )  # fmt: skip
    names = sides_of(f"{a.data.title} − {b.data.title}")
    return Change(names, gains, (first, second), seeds)


def _says(change: Change) -> Finding:
    what = " instead of ".join(change.names)
    says = says_change(what, "", change.gains["Dice"], change.dice[::-1], len(change.seeds))
    differences = (
        f"{name} {with_interval(*gain[:3], form='{:+.3f}')} ({higher(gain, len(change.seeds))})"
        for name, gain in change.gains.items()
    )
    return Finding(says, f"{', '.join(differences)}; {says_over(change.seeds)}.", is_main=True)
