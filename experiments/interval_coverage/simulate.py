"""How often the intervals of a report cover the true difference: a simulation.

    python experiments/interval_coverage/simulate.py        (some minutes on one core)

A paired difference of comparison c, seed s and image i is δ + a_cs + b_ci + e_csi: what training
again changes on all images, what makes pre-training matter more on one image, and the rest. The
true δ is known, so we can count how often a 95% interval covers it, and how often a report would
claim an effect where there is none. The intervals are computed by the functions of a report.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tlunet.model.scores import PixelCounts
from tlunet.report.analysis.bootstrap import draw_images, resampled
from tlunet.report.analysis.label_worth import label_worth
from tlunet.report.analysis.statistics import estimate, seed_variance, t_interval

TRIALS, REPLICATES = 600, 400
IMAGE, REST = 0.15, 0.10  # standard deviations of Dice differences, as seen on synthetic strips
SEEDS, IMAGES = (3, 5, 10), (60, 840)
SEED_SD = (0.0, 0.01, 0.03, 0.06)  # of Dice between trainings; recorded studies have up to 0.067
COMPARISONS = (1, 2, 4, 12)  # of the same factor in a block
Floats = NDArray[np.float64]


def normal(rng: np.random.Generator, sd: float, size: tuple[int, ...]) -> Floats:
    """Normal seed effects."""
    return rng.normal(0, sd, size)


def skewed(rng: np.random.Generator, sd: float, size: tuple[int, ...]) -> Floats:
    """Exponential seed effects: most trainings are a little better, some much worse."""
    return sd * (1 - rng.exponential(1, size))


def collapsing(rng: np.random.Generator, sd: float, size: tuple[int, ...]) -> Floats:
    """One training in five collapses."""
    p = 0.2
    return sd * (p - (rng.random(size) < p)) / np.sqrt(p * (1 - p))


def crossed_bootstrap(by_seed: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """The interval of earlier versions: seeds are drawn with replacement, too."""
    S = len(by_seed)
    weights = rng.multinomial(S, np.full(S, 1 / S), size=by_seed.shape[1] - 1) / S  # (R, S)
    low, high = np.quantile((weights * by_seed[:, 1:].T).sum(1), [0.025, 0.975])
    return float(low), float(high)


def coverage(
    n_seeds: int,
    n_images: int,
    sds: list[float],
    effect: Callable[..., Floats],
    rng: np.random.Generator,
    trials: int = TRIALS,
) -> dict[str, float]:
    """Fraction of trials in which the interval of the first comparison covers the truth.

    Args:
        n_seeds: S.
        n_images: N.
        sds: standard deviation between trainings of each comparison; the first one is counted.
        effect: draws seed effects.
        rng: random generator.
        trials: number of simulated studies.

    Returns:
        ``report``: the interval of a report; ``crossed``: that of earlier versions, which draws
        seeds; ``one_training``: of the first seed, over images only. And the mean widths.
    """
    weights = draw_images(np.arange(n_images), REPLICATES).astype(float) / n_images  # (R + 1, N)
    names = ("report", "crossed", "one_training")
    covered, width = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for _ in range(trials):
        by_seed = []
        for sd in sds:
            d = effect(rng, sd, (n_seeds, 1)) + rng.normal(0, IMAGE, n_images)
            d = d + rng.normal(0, REST, (n_seeds, n_images))  # (S, N), true difference 0
            by_seed.append((weights @ d.T).T)  # (S, R + 1)
        mine, *others = by_seed
        found = estimate(mine, [seed_variance(x) for x in others])
        intervals = {
            "report": (found.low, found.high),
            "crossed": crossed_bootstrap(mine, rng),
            "one_training": estimate(mine[:1])[1:3],
        }
        for name, (low, high) in intervals.items():
            covered[name] += (low <= 0 <= high) / trials
            width[name] += (high - low) / trials
    return covered | {f"width_{name}": value for name, value in width.items()}


def auc_coverage(n_seeds: int, n_images: int, sd: float, rng: np.random.Generator) -> float:
    """The same for a difference in AUC between two networks of equal quality."""
    draws = draw_images(np.arange(n_images), REPLICATES)
    covered, trials = 0, 200
    for _ in range(trials):
        label = rng.random(n_images) < 0.4
        easy = rng.normal(0, 0.7, n_images)  # difficulty, shared by all networks
        aucs = []
        for _ in range(2 * n_seeds):
            skill = 1.0 + rng.normal(0, sd)
            score = skill * np.where(label, 1, -1) + easy + rng.normal(0, 1, n_images)
            prob = (1 / (1 + np.exp(-score)))[:, None]
            zero = np.zeros((n_images, 1), np.int64)
            counts = PixelCounts(np.arange(n_images), zero, zero, zero, label[:, None], prob)
            aucs.append(resampled(counts, 0.5, draws)["auc"])
        found = estimate(np.array(aucs[:n_seeds]) - np.array(aucs[n_seeds:]))
        covered += found.low <= 0 <= found.high
    return covered / trials


def split_coverage(
    n_seeds: int, n_images: int, sd: float, rng: np.random.Generator, trials: int = TRIALS
) -> dict[str, float]:
    """Coverage if each seed has its own split: an eighth of the images, drawn for every seed.

    Args:
        n_seeds: S.
        n_images: images of the data set.
        sd: standard deviation between trainings.
        rng: random generator.
        trials: number of simulated studies.

    Returns:
        ``report``: an image is drawn for all seeds that were tested on it; ``in_order``: as if
        all seeds had been tested on the same images; ``seeds_only``: Student's t.
    """
    weights = draw_images(np.arange(n_images), REPLICATES).astype(float)  # (R + 1, N)
    n_tested = n_images // 8
    crossed = draw_images(np.arange(n_tested), REPLICATES).astype(float) / n_tested
    covered = dict.fromkeys(("report", "in_order", "seeds_only"), 0.0)
    for _ in range(trials):
        image, own, same = rng.normal(0, IMAGE, n_images), [], []
        for effect in normal(rng, sd, (n_seeds,)):
            tested = rng.choice(n_images, n_tested, replace=False)
            d = effect + image[tested] + rng.normal(0, REST, n_tested)
            own.append(weights[:, tested] @ d / weights[:, tested].sum(1))
            same.append(crossed @ d)
        values = [float(x[0]) for x in own]
        intervals = zip(
            covered, (estimate(np.stack(own)), estimate(np.stack(same)), t_interval(values)),
            strict=True,
        )  # fmt: skip
        for name, found in intervals:
            covered[name] += (found.low <= 0 <= found.high) / trials
    return covered


def worth_coverage(
    n_seeds: int, sd: float, worth: float, rng: np.random.Generator, trials: int = TRIALS
) -> dict[str, float]:
    """Coverage of label-worth for pre-trained weights with a quarter of the labels.

    Args:
        n_seeds: S.
        sd: standard deviation between trainings.
        worth: the true k, from 0.4 to 4.
        rng: random generator.
        trials: number of simulated studies.

    Returns:
        ``covered``: fraction of the trials whose interval contains k. ``beyond``: fraction in
        which a report would say that all labels do not suffice.
    """
    n_images, frac = 60, 0.25
    weights = draw_images(np.arange(n_images), REPLICATES // 2).astype(float) / n_images
    fracs = (0.1, 0.25, 0.5, 1.0)

    def level(share: float) -> float:
        return 0.45 + 0.06 * float(np.log2(share))

    covered, beyond = 0, 0
    for _ in range(trials):
        image = rng.normal(0, IMAGE, n_images)
        cells = []
        for share in (*fracs, worth * frac):
            own = level(share) + image + rng.normal(0, REST, n_images)
            x = own + normal(rng, sd, (n_seeds, 1)) + rng.normal(0, REST / 2, (n_seeds, n_images))
            cells.append((weights @ x.T).T)
        found = label_worth(dict(zip(fracs, cells, strict=False)), cells[-1], frac)
        covered += found.low - 1e-9 <= worth <= found.high + 1e-9
        beyond += found.low >= max(fracs) / frac - 1e-9
    return {"covered": covered / trials, "beyond": beyond / trials}


def main() -> None:
    """Write the tables next to this file."""
    rng = np.random.default_rng(0)
    here = Path(__file__).parent
    rows = [
        {"seeds": s, "images": n, "seed_sd": sd, **coverage(s, n, [sd], normal, rng)}
        for s in SEEDS
        for n in IMAGES
        for sd in SEED_SD
    ]
    _write(rows, here / "results.csv")
    rows = []
    for s in (3, 5):
        for sd in (0.03, 0.06):
            for k in COMPARISONS:
                equal = coverage(s, 840, [sd] * k, normal, rng)
                unequal = coverage(s, 840, [sd, *[sd / 2] * (k - 1)], normal, rng)
                rows.append(
                    {"seeds": s, "seed_sd": sd, "comparisons": k, "equal": equal["report"],
                     "width_equal": equal["width_report"], "others_half": unequal["report"]}
                )  # fmt: skip
    _write(rows, here / "comparisons.csv")
    effects = {"normal": normal, "skewed": skewed, "one in five collapses": collapsing}
    rows = []
    for name, effect in effects.items():
        for s in SEEDS:
            found = coverage(s, 840, [0.03], effect, rng)
            rows.append({"seed effects": name, "seeds": s, "report": found["report"],
                         "crossed": found["crossed"]})  # fmt: skip
    _write(rows, here / "skewed.csv")
    rng = np.random.default_rng(1)
    rows = [
        {"seeds": s, "images": n, "seed_sd": sd, "report": auc_coverage(s, n, sd, rng)}
        for s in (3, 5)
        for n in (60, 240)
        for sd in (0.0, 0.2)
    ]
    _write(rows, here / "auc.csv")
    rng = np.random.default_rng(2)
    rows = [
        {"seeds": s, "images": n, "seed_sd": sd, **split_coverage(s, n, sd, rng)}
        for s in SEEDS
        for n in (480, 3360)
        for sd in (0.0, 0.03)
    ]
    _write(rows, here / "splits.csv")
    rng = np.random.default_rng(3)
    rows = [
        {"seeds": s, "seed_sd": sd, "worth": k, **worth_coverage(s, sd, k, rng)}
        for s in (3, 5)
        for sd in (0.01, 0.03)
        for k in (1.0, 1.5, 3.0, 4.0)
    ]
    _write(rows, here / "label_worth.csv")


def _write(rows: list[dict], path: Path) -> None:
    table = pd.DataFrame(rows).round(4)
    table.to_csv(path, index=False)
    print(table.to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
