"""Generate the warnings of a report: what limits its results, and what to do about it."""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from itertools import combinations

from tlunet.machine.counted import counted
from tlunet.model.scores import DEAD_BELOW
from tlunet.report.analysis.blocks import Block, Study
from tlunet.report.analysis.statistics import SEEDS_NEEDED
from tlunet.report.document.document import Alarm
from tlunet.report.values import spoken
from tlunet.runs.names import condition


class Severity(IntEnum):
    """How much a warning changes what the report can say; the most severe first."""

    FAILED = 0
    NOT_FOUND = 1
    MISSING = 2
    UNTRAINED = 3
    FEW_SEEDS = 4
    UNDEFINED = 5
    ORIGIN = 6


def alarms(study: Study) -> list[Alarm]:
    """Collect the warnings of a report, the most severe first; each says what to do."""
    warnings = [
        (Severity.FAILED if state == "failed" else Severity.MISSING, _unfinished(title, state, why))
        for title, state, why in study.unfinished
    ]
    warnings += [(Severity.FAILED, problem) for problem in study.problems]
    # An unfinished run does not record its block: with several blocks, none is excluded.
    named = {title for title, *_ in study.unfinished} if len(study.blocks) == 1 else set()
    for block in study.blocks:
        where = f"{block.title}: " if len(study.blocks) > 1 else ""
        absent = [m for m in block.missing if m not in named]
        if absent:
            are = "cell is" if len(absent) == 1 else "cells are"
            names = "; ".join(map(spoken, absent))
            text = f"{len(absent)} grid {are} missing: {names}; run them to compare all"
            warnings.append((Severity.MISSING, where + text))
        warnings += [(severity, where + text) for severity, text in _block_alarms(block)]
    warnings += [(Severity.ORIGIN, text) for text in _versions(study.blocks)]
    return [Alarm(text) for _, text in sorted(warnings, key=lambda one: one[0])]


def _versions(blocks: Sequence[Block]) -> Iterable[str]:
    """Say how the ground truth differs between versions of one data set, where it is comparable."""
    for a, b in combinations(blocks, 2):
        versions = {str(block.cells["data_fingerprint"].iloc[0]) for block in (a, b)}
        alike = all(a.settings.get(key) == b.settings.get(key) for key in ("size", "fit"))
        if a.dataset != b.dataset or len(versions) == 1 or a.classes != b.classes or not alike:
            continue
        first, second = (_truth(block) for block in (a, b))
        both = first.keys() & second.keys()
        changed = sum(first[name] != second[name] for name in both)
        yield (
            f"{a.title} and {b.title} were trained on different versions of the data: the defects "
            f"of {changed} of {counted(len(both), 'common test image')} differ in size; run all "
            "cells with one version to compare them"
        )


def _truth(block: Block) -> dict[str, tuple[int, ...]]:
    """True pixels of each class, by test image."""
    return {
        block.image_ids[row]: tuple(pixels)
        for counts in block.of_each_split.values()
        for row, pixels in zip(counts.index.tolist(), counts.truth.tolist(), strict=True)
    }


def _unfinished(title: str, state: str, error: str) -> str:
    title = spoken(title)
    if state == "failed":
        return f"{title} failed{f' ({error})' if error else ''}: run the same command to retry"
    why = f" ({error})" if error else ""
    return f"{title} is {state}{why}: its result is not in this report; run the same command"


def _block_alarms(block: Block) -> Iterable[tuple[Severity, str]]:
    yield from _not_found(block)
    for seed, counts in block.of_each_split.items():
        of_seed = f" of seed {seed}" if block.has_own_splits else ""
        for m, name in enumerate(block.classes):
            has = counts.label[:, m]
            if has.all() or not has.any():
                which = "every" if has.any() else "no"
                yield (
                    Severity.UNDEFINED,
                    f"class {m + 1} ({name}) is in {which} test image{of_seed}: its AUC is "
                    "undefined and excluded from the mean; another data.split_seed may help",
                )
    few = sum(len(block.runs(key)) < SEEDS_NEEDED for key in block.keys)
    if few:
        yield (
            Severity.FEW_SEEDS,
            f"fewer than {SEEDS_NEEDED} seeds in {few} of {len(block.keys)} rows: intervals cover "
            "test images only, and nothing is judged; add seed=0,1,2,3,4 to the command",
        )
    last = (block.cells["best_epoch"] + 1 >= block.cells["epochs"]).sum()
    if last:
        yield (
            Severity.UNTRAINED,
            f"{last} of {len(block.cells)} models were best in their last epoch: differences are "
            f"of speed, not of final quality; train longer (epochs={longer(block)})",
        )
    yield from ((Severity.ORIGIN, text) for text in _origin(block))


def other_recipe(block: Block) -> str:
    """Suggest the recipe for networks to use, unless it was used."""
    return " or use recipe=production" if block.settings.get("recipe") == "paper" else ""


def _not_found(block: Block) -> Iterable[tuple[Severity, str]]:
    """Name the classes that models never find, the most often missed first."""
    total, texts, use = len(block.cells), [], other_recipe(block)
    for m, name in enumerate(block.classes, start=1):
        dead = {key: sum(m in classes for classes in block.runs(key)["dead_classes"])
                for key in block.keys}  # fmt: skip
        seeds = {key: len(block.runs(key)) for key in block.keys}
        where = [
            condition(*key) + (f", {n} of {seeds[key]} seeds" if seeds[key] > 1 else "")
            for key, n in dead.items() if n
        ]  # fmt: skip
        count = sum(dead.values())
        which = f": {'; '.join(where)}" if 0 < len(where) <= 2 and count < total else ""
        text = (
            f"class {m} ({name}) is not found by {count} of {total} models (pooled Dice below "
            f"{DEAD_BELOW:g}{which}): train longer (epochs={longer(block)}){use}"
        )
        if count:
            texts.append((-count, text))
    yield from ((Severity.NOT_FOUND, text) for _, text in sorted(texts, key=lambda one: one[0]))


def longer(block: Block) -> int:
    """Suggest a number of epochs: twice as many."""
    return 2 * int(block.cells["epochs"].max())


def _origin(block: Block) -> Iterable[str]:
    cells = block.cells
    for name in ("commit", "hardware"):
        if cells[name].nunique(dropna=False) > 1:
            short = 8 if name == "commit" else None
            values = ", ".join(str(value)[:short] for value in cells[name].unique())
            yield (
                f"cells come from different {'commits' if name == 'commit' else name}: {values}; "
                "run all with one to compare them exactly"
            )
    if (cells["dirty"] == True).any():  # noqa: E712  (None: not a checkout)
        yield "some cells were run with uncommitted changes; commit before you run"
    if left_out := cells["left_out"].iloc[0]:
        yield (
            f"{len(left_out)} problems in the data; the affected images are excluded "
            "(tlunet data check lists them)"
        )
