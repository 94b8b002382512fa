"""Generate the headline of a report from its numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tlunet.model.scores import DEAD_BELOW
from tlunet.report.alarms import longer, other_recipe
from tlunet.report.analysis.blocks import Block, Key
from tlunet.report.analysis.comparisons import pairs
from tlunet.report.analysis.resampled import Resampled, common_seeds
from tlunet.report.analysis.statistics import (
    direction,
    estimate,
    level,
)
from tlunet.report.document.document import Text
from tlunet.report.sentences import Finding, says_change, says_over
from tlunet.report.settings.answer import changes_of_settings, compares_settings
from tlunet.report.values import with_interval
from tlunet.runs.names import condition, encoder_name, init_name

#: What ``budget`` keeps equal, in words.
BUDGETS = {
    "budget=epochs": "Equal epochs for every fraction of the data",
    "budget=steps": "Equal optimiser steps for every fraction of the data",
}


def scope(blocks: Sequence[Block]) -> str:
    """Say what the results hold for: everything that was not varied with the seed."""
    scopes = {block.title: _scope(block) for block in blocks}
    if len(set(scopes.values())) == 1:
        return f"Scope: {next(iter(scopes.values()))}."
    return " ".join(f"Scope of {title}: {text}." for title, text in scopes.items())


def _scope(block: Block) -> str:
    match block.has_own_splits, block.has_own_starts:
        case True, True:
            return (
                "over seeds, each with its own split of these images and its own starting weights"
            )
        case True, False:
            return "over seeds, each with its own split of these images; these starting weights"
        case False, True:
            return (
                "these training images, this split; over seeds, each with its own starting weights"
            )
    return "these training images, this split, these starting weights"


def headline(blocks: Sequence[Resampled]) -> list[Finding]:
    """Generate the answer of a report from the verdicts: two sentences per block.

    For a study that compares only protocols, the answer is the differences between them. In a study
    that also compares initialisations, they follow in small type.
    """
    between = changes_of_settings(blocks)
    steps = [Finding(s) for a in blocks for b in blocks if (s := _steps(a, b))]
    if compares_settings(blocks):
        return between + steps
    sentences = [
        finding._replace(place=place)
        for block, place in zip(blocks, places(blocks), strict=True)
        for finding in answer(block)
    ]
    return sentences + (steps or [finding._replace(is_main=False) for finding in between])


def places(blocks: Sequence[Resampled]) -> list[str]:
    """Name the blocks of a study in words; the only one needs no name."""
    if len(blocks) == 1:
        return [""]
    parts = [block.data.title.split(" · ") for block in blocks]
    skipped = 1 if len({dataset for dataset, *_ in parts}) == 1 else 0
    return [", ".join(BUDGETS.get(part, part) for part in own[skipped:]) for own in parts]


def _steps(epochs: Resampled, steps: Resampled) -> str | None:
    """Say how much of the loss from less data is a loss of optimiser steps, if it was measured."""
    budgets = [block.data.settings.get("budget") for block in (epochs, steps)]
    rest = [{k: v for k, v in b.data.settings.items() if k != "budget"} for b in (epochs, steps)]
    if budgets != ["epochs", "steps"] or rest[0] != rest[1]:
        return None
    keys = [
        k
        for k in steps.data.keys
        if k.frac < 1 and {k, k._replace(frac=1.0)} <= {*epochs.data.keys}
    ]
    if not keys:
        return None
    frac = min(k.frac for k in keys)
    cells = [
        (epochs.cell(k._replace(frac=1.0)), epochs.cell(k), steps.cell(k))
        for k in keys
        if k.frac == frac
    ]
    seeds = common_seeds(*(cell for trio in cells for cell in trio))
    all_data, less, same_steps = (
        np.mean([trio[i].by_seed("dice_image", seeds) for trio in cells], axis=0) for i in range(3)
    )
    lost, regained = (
        with_interval(*estimate(x - less)[:3], form="{:+.3f}") for x in (all_data, same_steps)
    )
    return (
        f"All training data instead of {100 * frac:g}% change Dice by {lost}; with {100 * frac:g}% "
        f"but as many optimiser steps as with all, it changes by {regained}; {says_over(seeds)}."
    )


def answer(block: Resampled) -> list[Finding]:
    """Summarise a block in two sentences."""
    init_pairs = {(a.key, b.key): (a, b) for factor, a, b in pairs(block) if factor == "init"}
    if all(_dice(block, key) < DEAD_BELOW for key in block.data.keys):
        return [
            Finding(
                "No network finds a defect.",
                f"Every Dice is below {DEAD_BELOW:g}. Train longer (epochs="
                f"{longer(block.data)}){other_recipe(block.data)}.",
                is_main=True,
            )
        ]
    if not init_pairs:
        nothing = Finding(
            "No initialisation was compared with random weights, so this study does not measure "
            "the gain from transfer learning."
        )
        return [_best(block)._replace(is_main=True), nothing]
    inits = sorted({a.key.init for a, _ in init_pairs.values()})
    init = "imagenet" if "imagenet" in inits else inits[0]
    chosen = [(a, b) for a, b in init_pairs.values() if a.key.init == init]
    seeds = sorted(set.intersection(*({*a.seeds} & {*b.seeds} for a, b in chosen)))
    gains = {
        a.key: a.by_seed("dice_image", seeds) - b.by_seed("dice_image", seeds) for a, b in chosen
    }
    levels = [
        np.mean([cell.by_seed("dice_image", seeds)[:, 0].mean() for cell in cells])
        for cells in ([b for _, b in chosen], [a for a, _ in chosen])
    ] if seeds else [np.nan, np.nan]  # fmt: skip
    gain = estimate(np.mean(list(gains.values()), axis=0))
    encoders = list(dict.fromkeys(k.encoder for k in gains))
    fracs = list(dict.fromkeys(k.frac for k in gains))
    detail = (
        f"Difference {with_interval(*gain[:3], form='{:+.3f}')}, mean over "
        f"{' and '.join(map(encoder_name, encoders))} with "
        f"{', '.join(f'{100 * f:g}%' for f in fracs)} of the training data; {says_over(seeds)}."
    )
    says = says_change(f"{init_name(init)} weights", "s", gain, levels, len(seeds))
    second = _growth(gains) if len(fracs) > 1 else _best(block)
    return [Finding(says, detail, is_main=True), second]


def _growth(gains: dict[Any, np.ndarray]) -> Finding:
    fracs = sorted({key.frac for key in gains})
    least, most = fracs[0], fracs[-1]
    encoders = [e for e in {k.encoder for k in gains}
                if {least, most} <= {k.frac for k in gains if k.encoder == e}]  # fmt: skip
    if not encoders:
        return Finding(
            "Whether the gain grows with less data was not measured: no encoder has both."
        )
    change = np.mean(
        [gain * (1 if key.frac == least else -1) for key, gain in gains.items()
         if key.encoder in encoders and key.frac in (least, most)], axis=0,
    ) * 2  # fmt: skip
    interval = estimate(change)
    words = {
        "supported": "is larger than", "contradicted": "is smaller than",
        "inconclusive": "is not clearly different from that",
        "one training": "differs, in this training, from that",
    }.get(direction(interval, len(change)), "cannot be compared with that")  # fmt: skip
    return Finding(
        f"With {100 * least:g}% of the training data the gain {words} with {100 * most:g}%: "
        f"{with_interval(*interval[:3], form='{:+.3f}')}."
    )


def _dice(block: Resampled, key: Key) -> float:
    """Mean Dice of a cell over its seeds; -1 without a score."""
    cell = block.cell(key)
    return float(np.nan_to_num(cell.by_seed("dice_image", cell.seeds)[:, 0].mean(), nan=-1.0))


def _best(block: Resampled) -> Finding:
    key = max(block.data.keys, key=lambda key: _dice(block, key))
    cell = block.cell(key)
    dice = level(cell.by_seed("dice_image", cell.seeds))
    return Finding(f"{condition(*key)} has the highest Dice: {with_interval(*dice[:3])}.")


def note_on_data(block: Block) -> Text | None:
    """Describe the images if they are not the data of the paper."""
    if block.dataset == "severstal":
        return None
    what = {
        "synthetic": "procedural strips, not steel: no number here is a result on steel",
        "neu_seg": "NEU-Seg: real steel, but not the paper's data set",
    }.get(block.dataset, f"the data set {block.dataset}, not the paper's Severstal data")
    return Text(f"The images are {what}.")
