"""Generate the headline and the warnings of a report from its numbers."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tlunet.model.scores import DEAD_BELOW
from tlunet.report.analysis.blocks import Block, Study
from tlunet.report.analysis.comparisons import (
    Resampled,
    common_seeds,
    higher,
    pairs,
    protocol_pairs,
)
from tlunet.report.analysis.statistics import (
    SEEDS_NEEDED,
    Estimate,
    direction,
    estimate,
    level,
)
from tlunet.report.document.document import Alarm, Text
from tlunet.report.figures.style import condition, init_name
from tlunet.report.tables import with_interval


def alarms(study: Study) -> list[Alarm]:
    """Collect the warnings shown at the top of a report."""
    found = [
        f"{title}: {state}{f' ({error})' if error else ''}"
        for title, state, error in study.unfinished
    ]
    found += list(study.faults)
    # An unfinished run does not record its block: with several blocks, none is excluded.
    named = {title for title, *_ in study.unfinished} if len(study.blocks) == 1 else set()
    for block in study.blocks:
        where = f"{block.title}: " if len(study.blocks) > 1 else ""
        absent = [m for m in block.missing if m not in named]
        if absent:
            are = "cell is" if len(absent) == 1 else "cells are"
            found.append(f"{where}{len(absent)} grid {are} missing: {'; '.join(absent)}")
        found += [where + text for text in _block_alarms(block)]
    return [Alarm(text) for text in found]


def _block_alarms(block: Block) -> Iterable[str]:
    for m, name in enumerate(block.classes, start=1):
        dead = {key: sum(m in classes for classes in block.runs(key)["dead_classes"])
                for key in block.keys}  # fmt: skip
        where = [f"{key} ({n} of {len(block.runs(key))} seeds)" for key, n in dead.items() if n]
        if where:
            yield (
                f"class {m} ({name}) is not found by {'; '.join(where)}: pooled Dice below "
                f"{DEAD_BELOW:g}; train longer (epochs=), or try loss=balanced"
            )
    for seed, counts in block.of_each_split.items():
        of_seed = f" of seed {seed}" if block.has_own_splits else ""
        for m, name in enumerate(block.classes):
            has = counts.label[:, m]
            if has.all() or not has.any():
                which = "every" if has.any() else "no"
                yield (
                    f"class {m + 1} ({name}) is in {which} test image{of_seed}: its AUC is "
                    "undefined and excluded from the mean"
                )
    few = sum(len(block.runs(key)) < SEEDS_NEEDED for key in block.keys)
    if few:
        yield (
            f"fewer than {SEEDS_NEEDED} seeds in {few} of {len(block.keys)} rows: intervals cover "
            "test images only, and nothing is judged; add seed=0,1,2,3,4 to the command"
        )
    last = (block.cells["best_epoch"] + 1 >= block.cells["epochs"]).sum()
    if last:
        yield (
            f"the best epoch is the last in {last} of {len(block.cells)} cells: differences are of "
            "speed, not of final quality; train longer (epochs=)"
        )
    cells = block.cells
    for name in ("commit", "hardware"):
        if cells[name].nunique(dropna=False) > 1:
            values = ", ".join(map(str, cells[name].unique()))
            yield f"cells come from different {'commits' if name == 'commit' else name}: {values}"
    if (cells["dirty"] == True).any():  # noqa: E712  (None: not a checkout)
        yield "some cells were run with uncommitted changes"
    if left_out := cells["left_out"].iloc[0]:
        yield f"{len(left_out)} problems in the data; the affected images are excluded"


def scope(blocks: Sequence[Block]) -> str:
    """Say what the results hold for: everything that was not varied with the seed."""
    found = {block.title: _scope(block) for block in blocks}
    if len(set(found.values())) == 1:
        return f"Scope: {next(iter(found.values()))}."
    return " ".join(f"Scope of {title}: {text}." for title, text in found.items())


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


def headline(blocks: Sequence[Resampled]) -> list[str]:
    """Generate the answer of a report from the verdicts: two sentences per block.

    For a study that compares only protocols, the answer is the differences between them.
    """
    between = list(protocol_pairs(blocks))
    several = len(blocks) > 1
    if between and not any(factor == "init" for block in blocks for factor, *_ in pairs(block)):
        both = {
            (a.block.block.title, b.block.block.title): (a.block, b.block) for _, a, b in between
        }
        sentences = [_between(a, b) for a, b in both.values()]
    else:
        sentences = [
            f"{block.block.title}: {sentence}" if several else sentence
            for block in blocks
            for sentence in answer(block)
        ]
    return sentences + [s for a in blocks for b in blocks if (s := _steps(a, b))]


def _steps(epochs: Resampled, steps: Resampled) -> str | None:
    """Say how much of the loss from less data is a loss of optimiser steps, if it was measured."""
    budgets = [block.block.settings.get("budget") for block in (epochs, steps)]
    rest = [{k: v for k, v in b.block.settings.items() if k != "budget"} for b in (epochs, steps)]
    if budgets != ["epochs", "steps"] or rest[0] != rest[1]:
        return None
    keys = [
        k
        for k in steps.block.keys
        if k.frac < 1 and {k, k._replace(frac=1.0)} <= {*epochs.block.keys}
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
        f"but as many optimiser steps as with all, it changes by {regained}; {_over(seeds)}."
    )


def _between(a: Resampled, b: Resampled) -> str:
    """Compare two protocols by the mean over the cells that both have."""
    cells = [(a.cell(key), b.cell(key)) for key in a.block.keys if key in b.block.keys]
    seeds = common_seeds(*(cell for pair in cells for cell in pair))
    found = []
    for metric, name in (("dice_image", "Dice"), ("mla", "MLA"), ("auc", "AUC")):
        gains = [x.by_seed(metric, seeds) - y.by_seed(metric, seeds) for x, y in cells]
        gain = estimate(np.mean(gains, axis=0))
        verdict = higher(gain, len(seeds))
        found.append(f"{name} {with_interval(*gain[:3], form='{:+.3f}')} ({verdict})")
    return f"{a.block.title} vs. {b.block.title}: {', '.join(found)}; {_over(seeds)}."


def _over(seeds: Sequence[int]) -> str:
    """Say how many seeds there are, and what the interval covers."""
    if len(seeds) >= SEEDS_NEEDED:
        return f"{len(seeds)} seeds, 95% interval over seeds and images"
    trainings = "this training" if len(seeds) == 1 else "these two trainings"
    return f"{trainings} only, 95% interval over test images"


def answer(block: Resampled) -> list[str]:
    """Summarise a block in two sentences."""
    found = {(a.key, b.key): (a, b) for factor, a, b in pairs(block) if factor == "init"}
    if not found:
        return [
            "No initialisation was compared with random weights, so this study does not measure "
            "the gain from transfer learning.",
            _best(block),
        ]
    inits = sorted({a.key.init for a, _ in found.values()})
    init = "imagenet" if "imagenet" in inits else inits[0]
    chosen = [(a, b) for a, b in found.values() if a.key.init == init]
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
    return [
        _changes(init_name(init), gain, levels, len(seeds))
        + f"mean over {' and '.join(encoders)} with {', '.join(f'{100 * f:g}%' for f in fracs)} "
        f"of the training data{f', {_over(seeds)}' if len(seeds) >= SEEDS_NEEDED else ''}.",
        _growth(gains) if len(fracs) > 1 else _best(block),
    ]


def _changes(init: str, gain: Estimate, levels: Sequence[float], n_seeds: int) -> str:
    """Say by how much, from what to what, and never more than the interval."""
    signed = with_interval(*gain[:3], form="{:+.3f}")
    between = f"from {levels[0]:.3f} to {levels[1]:.3f}"
    match direction(gain, n_seeds):
        case "supported":
            return f"{init} weights raise Dice {between}, by {signed}: "
        case "contradicted":
            return f"{init} weights lower Dice {between}, by {signed}: "
        case "inconclusive":
            return f"{init} weights show no clear change in Dice ({between}, {signed}): "
        case "one training":
            return (
                f"In this training, {init} weights change Dice {between} ({signed}, over test "
                "images only): "
            )
    return f"The gain from {init} weights cannot be judged (no common seed): "


def _growth(gains: dict[Any, np.ndarray]) -> str:
    fracs = sorted({key.frac for key in gains})
    least, most = fracs[0], fracs[-1]
    encoders = [e for e in {k.encoder for k in gains}
                if {least, most} <= {k.frac for k in gains if k.encoder == e}]  # fmt: skip
    if not encoders:
        return "Whether the gain grows with less data was not measured: no encoder has both."
    change = np.mean(
        [gain * (1 if key.frac == least else -1) for key, gain in gains.items()
         if key.encoder in encoders and key.frac in (least, most)], axis=0,
    ) * 2  # fmt: skip
    found = estimate(change)
    words = {
        "supported": "is larger than", "contradicted": "is smaller than",
        "inconclusive": "is not clearly different from that",
        "one training": "differs, in this training, from that",
    }.get(direction(found, len(change)), "cannot be compared with that")  # fmt: skip
    return (
        f"With {100 * least:g}% of the training data the gain {words} with {100 * most:g}%: "
        f"{with_interval(*found[:3], form='{:+.3f}')}."
    )


def _best(block: Resampled) -> str:
    levels = {
        key: level(block.cell(key).by_seed("dice_image", block.cell(key).seeds))
        for key in block.block.keys
    }
    key = max(levels, key=lambda k: np.nan_to_num(levels[k].value, nan=-1.0))
    dice = with_interval(*levels[key][:3])
    return f"{condition(*key)} has the highest Dice: {dice}."


def note_on_data(block: Block) -> Text | None:
    """Describe the images if they are not the data of the paper."""
    if block.dataset == "severstal":
        return None
    what = {
        "synthetic": "procedural strips, not steel: no number here is a result on steel",
        "neu_seg": "NEU-Seg: real steel, but not the paper's data set",
    }.get(block.dataset, f"the data set {block.dataset}, not the paper's Severstal data")
    return Text(f"The images are {what}.")
