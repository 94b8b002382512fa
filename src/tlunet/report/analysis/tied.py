"""Find what follows the seed: splits and starting weights that count as part of it.

With ``seed=0,1,2 data.split_seed='${seed}'`` every seed has its own split, and with
``init.seed='${seed}'`` its own starting weights. Such runs differ from one another in nothing but
their seed, so they belong to one block and one row. A run folder has only resolved values, so this
is read from the values: they equal the seeds.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from tlunet.report.analysis.finished import Run
from tlunet.runs.settings import what_differs

FOLLOWS = "${seed}"  # as typed on the command line
FEWEST = 2  # values that occur with their own seed only, and so follow it


def by_split(runs: Sequence[Run]) -> Iterator[list[Run]]:
    """Group runs by protocol and split; splits that follow the seed count as one.

    Yields:
        Runs of one block. Where the split follows the seed, ``settings`` say so; a run is in two
        groups if its split is also that of other seeds.
    """
    families: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        others = (item for item in run.settings.items() if item[0] != "split_seed")
        families.setdefault((run.protocol, *others), []).append(run)
    splits: dict[tuple[str, str], list[Run]] = {}
    for family in families.values():
        following, rest = _separated(family, lambda run: run.settings["split_seed"])
        if following:
            yield [replace(r, settings=r.settings | {"split_seed": FOLLOWS}) for r in following]
        for run in rest:
            splits.setdefault((run.protocol, run.split), []).append(run)
    yield from splits.values()


def name_inits(runs: Sequence[Run]) -> list[Run]:
    """Name the initialisations of a block by their recipes, where one name has several.

    Starting weights whose seed follows the run's are one recipe.
    """
    named = []
    for init in dict.fromkeys(run.meta["init"] for run in runs):
        namesakes = list(_by_recipe([run for run in runs if run.meta["init"] == init]))
        differing = what_differs([run.recipe for run in namesakes])
        for run, words in zip(namesakes, differing, strict=True):
            named.append(replace(run, meta=run.meta | {"init": " ".join([init, *words])}))
    return named


def _by_recipe(namesakes: Sequence[Run]) -> Iterator[Run]:
    families: dict[tuple[object, ...], list[Run]] = {}
    for run in namesakes:
        others = (item for item in run.recipe.items() if item[0] != "seed")
        families.setdefault(tuple(others), []).append(run)
    for family in families.values():
        following, rest = _separated(family, lambda run: run.recipe.get("seed"))
        yield from (replace(r, recipe=r.recipe | {"seed": FOLLOWS}) for r in following)
        yield from rest


def _separated(
    runs: Sequence[Run], value: Callable[[Run], str | None]
) -> tuple[list[Run], list[Run]]:
    """Separate the runs whose value follows the seed from the others.

    It does if at least two values occur with the seed of the same number only. Runs of another
    seed with its own value are then among both, if that value is also that of other seeds: they
    were trained before, by a sweep that left the value alone.
    """
    seeds: dict[str | None, set[str]] = {}
    for run in runs:
        seeds.setdefault(value(run), set()).add(str(run.meta["seed"]))
    alone = {v for v, own in seeds.items() if own == {v}}
    if len(alone) < FEWEST:
        return [], list(runs)
    following = [run for run in runs if value(run) == str(run.meta["seed"])]
    return following, [run for run in runs if value(run) not in alone]
