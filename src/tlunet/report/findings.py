"""Generate the headline and the warnings of a report from its numbers."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tlunet.model.scores import DEAD_BELOW
from tlunet.report.analysis.blocks import Block, Study
from tlunet.report.analysis.bootstrap import SEEDS_NEEDED
from tlunet.report.analysis.comparisons import (
    Resampled,
    common_seeds,
    higher,
    interval_over,
    pairs,
    protocol_pairs,
)
from tlunet.report.analysis.statistics import direction, percentile_interval
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
            limit = f"pooled Dice below {DEAD_BELOW:g}"
            yield f"class {m} ({name}) is not found by {'; '.join(where)}: {limit}"
    label = block.counts[0].label
    for m, name in enumerate(block.classes):
        if label[:, m].all() or not label[:, m].any():
            which = "every" if label[:, m].any() else "no"
            yield (
                f"class {m + 1} ({name}) is in {which} test image: its AUC is undefined and "
                "excluded from the mean"
            )
    few = [f"{key} ({n})" for key in block.keys if (n := len(block.runs(key))) < SEEDS_NEEDED]
    if few:
        yield (
            f"fewer than {SEEDS_NEEDED} seeds in {len(few)} of {len(block.keys)} rows: intervals "
            "cover test images only, not retraining; effect sizes are not judged"
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


def headline(blocks: Sequence[Resampled]) -> list[str]:
    """Generate the answer of a report from the verdicts: two sentences per block.

    For a study that compares only protocols, the answer is the differences between them.
    """
    between = list(protocol_pairs(blocks))
    if between and not any(factor == "init" for block in blocks for factor, *_ in pairs(block)):
        both = {
            (a.block.block.title, b.block.block.title): (a.block, b.block) for _, a, b in between
        }
        return [_between(a, b) for a, b in both.values()]
    several = len(blocks) > 1
    return [
        f"{block.block.title}: {sentence}" if several else sentence
        for block in blocks
        for sentence in answer(block)
    ]


def _between(a: Resampled, b: Resampled) -> str:
    """Compare two protocols by the mean over the cells that both have."""
    cells = [(a.cell(key), b.cell(key)) for key in a.block.keys if key in b.block.keys]
    seeds = common_seeds(*(cell for pair in cells for cell in pair))
    found = []
    for metric, name in (("dice_image", "Dice"), ("mla", "MLA"), ("auc", "AUC")):
        gains = [x.mean(metric, seeds) - y.mean(metric, seeds) for x, y in cells]
        estimate = percentile_interval(np.mean(gains, axis=0))
        found.append(f"{name} {with_interval(*estimate, form='{:+.3f}')} ({higher(estimate)})")
    return (
        f"{a.block.title} vs. {b.block.title}: {', '.join(found)}; "
        f"{len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}, 95% intervals over "
        f"{interval_over(len(seeds))}."
    )


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
    gains = {a.key: a.mean("dice_image", seeds) - b.mean("dice_image", seeds) for a, b in chosen}
    estimate = percentile_interval(np.mean(list(gains.values()), axis=0))
    verb = {
        "supported": f"raises Dice by {with_interval(*estimate)}",
        "contradicted": f"lowers Dice by {with_interval(*-estimate)}",
        "inconclusive": "changes Dice by " + with_interval(*estimate, form="{:+.3f}")
        + ", which shows no clear change",
    }.get(direction(estimate), "cannot be judged (no common seed)")  # fmt: skip
    encoders = list(dict.fromkeys(k.encoder for k in gains))
    fracs = list(dict.fromkeys(k.frac for k in gains))
    first = (
        f"Pre-training ({init_name(init)}) {verb}: mean over {' and '.join(encoders)} with "
        f"{', '.join(f'{100 * f:g}%' for f in fracs)} of the training data, {len(seeds)} "
        f"{'seed' if len(seeds) == 1 else 'seeds'}, 95% interval over {interval_over(len(seeds))}."
    )
    return [first, _growth(gains) if len(fracs) > 1 else _best(block)]


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
    estimate = percentile_interval(change)
    words = {
        "supported": "is larger than", "contradicted": "is smaller than",
        "inconclusive": "is not clearly different from that",
    }.get(direction(estimate), "cannot be compared with that")  # fmt: skip
    return (
        f"With {100 * least:g}% of the training data the gain {words} with {100 * most:g}%: "
        f"{with_interval(*estimate, form='{:+.3f}')}."
    )


def _best(block: Resampled) -> str:
    means = {
        key: block.cell(key).mean("dice_image", block.cell(key).seeds) for key in block.block.keys
    }
    key = max(means, key=lambda k: np.nan_to_num(means[k][0], nan=-1.0))
    dice = with_interval(*percentile_interval(means[key]))
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
