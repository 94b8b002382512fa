"""Compare cells: differences in scores, paired by image and seed, with intervals."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from tlunet.report.analysis.blocks import Key
from tlunet.report.analysis.resampled import (
    Cell,
    Floats,
    Resampled,
    common_seeds,
    interval_over,
    shares,
)
from tlunet.report.analysis.statistics import (
    SEEDS_NEEDED,
    Estimate,
    direction,
    estimate,
    holm,
    seed_variance,
)
from tlunet.runs.settings import departures

MOST_PAIRED = 3  # protocols of which each is compared with each
PRIMARY = ("dice_image", "mla")  # scores of the primary comparisons


def kindred(metric: str, a: Cell, b: Cell) -> list[float]:
    """Return the variances over seeds of the block's other comparisons of the same factor.

    They steady the variance of ``a - b``, which few seeds estimate poorly; see
    :func:`tlunet.report.analysis.statistics.estimate`.
    """
    mine = [f for f in Key._fields if getattr(a.key, f) != getattr(b.key, f)]
    if a.block is not b.block or len(mine) != 1:
        return []
    variances = []
    for factor, c, d in pairs(a.block):
        seeds = common_seeds(c, d)
        if factor == mine[0] and (c.key, d.key) != (a.key, b.key) and len(seeds) >= SEEDS_NEEDED:
            variances.append(seed_variance(c.by_seed(metric, seeds) - d.by_seed(metric, seeds)))
    return [v for v in variances if not np.isnan(v)]


def pairs(block: Resampled) -> Iterator[tuple[str, Cell, Cell]]:
    """Yield the comparisons inside a block: (factor, a, b); the difference is a - b.

    ``init``: each initialisation with random, for each encoder and fraction. ``frac``: the largest
    fraction with each smaller one. ``encoder``: each encoder with each one before it.
    """
    keys = block.data.keys
    encoders = list(dict.fromkeys(k.encoder for k in keys))
    largest = max(k.frac for k in keys)
    for a in keys:
        if a.init != "random" and (b := a._replace(init="random")) in keys:
            yield "init", block.cell(a), block.cell(b)
    for b in keys:
        if b.frac < largest and (a := b._replace(frac=largest)) in keys:
            yield "frac", block.cell(a), block.cell(b)
    for a in keys:
        for other in encoders[: encoders.index(a.encoder)]:
            if (b := a._replace(encoder=other)) in keys:
                yield "encoder", block.cell(a), block.cell(b)


def protocol_pairs(blocks: Sequence[Resampled]) -> Iterator[tuple[str, Cell, Cell]]:
    """Yield the same cell under two protocols, if both used the same split of the same images.

    The second is the one closer to the paper's. Of more than :data:`MOST_PAIRED` protocols, each is
    compared with one only: that which differs from the others in the fewest settings.
    """
    for a, b in combinations(blocks, 2):
        if not a.data.has_images_of(b.data):
            continue
        alike = [c for c in blocks if c.data.has_images_of(a.data)]
        closer = min(b, a, key=lambda block: departures(block.data.settings))  # to the paper
        reference = _reference(alike) if len(alike) > MOST_PAIRED else closer
        if reference in (a, b):
            other = a if reference is b else b
            for key in other.data.keys:
                if key in reference.data.keys:
                    yield "protocol", other.cell(key), reference.cell(key)


def _reference(blocks: Sequence[Resampled]) -> Resampled:
    """Find the block that differs from the others in the fewest settings."""

    def distance(block: Resampled) -> int:
        mine = block.data.settings.items()
        return sum(len(mine - other.data.settings.items()) for other in blocks)

    return min(blocks, key=distance)


def compare(blocks: Sequence[Resampled]) -> pd.DataFrame:
    """Tabulate every comparison of a study in every score.

    Returns:
        ``block, factor, difference_of, at`` (what is compared, and under which condition),
        ``encoder, init, frac`` (of a, the first), ``metric, mean_a, mean_b, difference, low, high,
        relative`` (difference / mean_b), ``improved, tied, worse`` (fractions of image × seed
        pairs), ``family``: ``primary`` (initialisation × Dice and MLA) or ``exploratory``; ``p``
        (of the interval, primary comparisons only), ``p_holm`` (within the primary comparisons of
        the block), ``n_seeds, interval, verdict`` (higher, lower, undecided, one training or
        undefined), ``by_seed`` (the differences of the seeds, separated by spaces). The factor
        ``gain`` is a difference of differences: the gain from pre-training with less data minus
        the gain with the most data.
    """
    all_pairs = [(block.data.title, *pair) for block in blocks for pair in pairs(block)]
    all_pairs += [("between protocols", *pair) for pair in protocol_pairs(blocks)]
    rows = [row for title, factor, a, b in all_pairs for row in _compared(title, factor, a, b)]
    rows += [row for block in blocks for row in _gains(block)]
    names = [
        *("block", "factor", "difference_of", "at", "encoder", "init", "frac", "metric"),
        *("mean_a", "mean_b", "difference", "low", "high", "relative", "improved", "tied"),
        *("worse", "family", "p", "p_holm", "n_seeds", "interval", "verdict", "by_seed"),
    ]
    table = pd.DataFrame(rows, columns=names)
    is_score = (table["mean_b"] > 0) & (table["factor"] != "gain")
    table["relative"] = table["difference"] / table["mean_b"].where(is_score)
    is_primary = (table["factor"] == "init") & table["metric"].isin(PRIMARY)
    table["family"] = np.where(is_primary, "primary", "exploratory")
    table["p"] = table["p"].astype(float).where(is_primary)
    table["p_holm"] = table.groupby("block")["p"].transform(lambda p: holm(p.tolist()))
    return table


def _compared(title: str, factor: str, a: Cell, b: Cell) -> Iterator[dict[str, object]]:
    seeds = common_seeds(a, b)
    if factor == "protocol":  # the titles name the settings that differ
        difference, at = f"{a.block.data.title} − {b.block.data.title}", str(a.key)
    else:
        of_a, of_b = a.key._asdict(), b.key._asdict()
        difference = f"{of_a.pop(factor)} − {of_b.pop(factor)}"
        at = " · ".join(map(str, of_a.values()))
    for metric in a.block.metrics:
        first, second = (cell.by_seed(metric, seeds) for cell in (a, b))
        yield {
            "block": title, "factor": factor, "difference_of": difference, "at": at,
            **a.key._asdict(), "metric": metric, **_means(first, second),
            **_difference(first - second, kindred(metric, a, b)), **_paired(metric, a, b),
        }  # fmt: skip


def _gains(block: Resampled) -> Iterator[dict[str, object]]:
    inits = {a.key: (a, b) for factor, a, b in pairs(block) if factor == "init"}
    largest = max(k.frac for k in block.data.keys)
    for key, less in inits.items():
        more = inits.get(key._replace(frac=largest))
        if key.frac == largest or more is None:
            continue
        seeds = common_seeds(*less, *more)
        for metric in block.metrics:
            gains = [a.by_seed(metric, seeds) - b.by_seed(metric, seeds) for a, b in (less, more)]
            yield {
                "block": block.data.title, "factor": "gain",
                "difference_of": f"gain with {key.frac} − gain with {largest}",
                "at": f"{key.encoder} · {key.init} − random", **key._asdict(), "metric": metric,
                **_means(*gains), **_difference(gains[0] - gains[1]),
            }  # fmt: skip


def _means(first: Floats, second: Floats) -> dict[str, object]:
    both = (float(x[:, 0].mean()) if len(x) else np.nan for x in (first, second))
    return dict(zip(("mean_a", "mean_b"), both, strict=True))


def _difference(by_seed: Floats, others: Sequence[float] = ()) -> dict[str, object]:
    interval, n_seeds = estimate(by_seed, others), len(by_seed)
    return {
        "difference": interval.value, "low": interval.low, "high": interval.high, "p": interval.p,
        "n_seeds": n_seeds, "interval": interval_over(n_seeds),
        "verdict": higher(interval, n_seeds),
        "by_seed": " ".join(f"{d:.6g}" for d in by_seed[:, 0]),
    }  # fmt: skip


def higher(difference: Estimate, n_seeds: int) -> str:
    """Return ``higher``, ``lower``, ``undecided`` or ``one training``; ``undefined`` if NaN."""
    words = {"supported": "higher", "contradicted": "lower", "inconclusive": "undecided",
             "one training": "one training"}  # fmt: skip
    return words.get(direction(difference, n_seeds), "undefined")


def _paired(metric: str, a: Cell, b: Cell) -> dict[str, float]:
    if not common_seeds(a, b) or metric not in a.block.images[0]:
        return {}  # not a mean over images
    named_shares = zip(("improved", "tied", "worse"), shares(metric, a, b, draws=1), strict=True)
    return {name: float(share.mean()) for name, share in named_shares}
