"""How often the intervals of a report hold the true difference: a simulation.

    python experiments/interval_coverage/simulate.py        (about a minute on one core)

A paired difference of seed s and image i is δ + a_s + b_i + e_si with normal a, b, e: what training
anew changes on all images, what makes pre-training matter more on one image, and the rest. The
true δ is known, so that it can be counted how often a 95 % interval holds it.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from tlunet.report.analysis.bootstrap import draw_images, draw_seeds
from tlunet.report.analysis.statistics import percentile_interval

TRIALS, REPLICATES = 1000, 1000
IMAGE, REST = 0.15, 0.10  # standard deviations of Dice differences, as seen on synthetic strips
SEED = (0.0, 0.01, 0.03)
SEEDS, IMAGES = (1, 3, 5, 10), (60, 840)


def coverage(n_seeds: int, n_images: int, seed_sd: float, rng: np.random.Generator) -> dict:
    """Share of trials in which each kind of interval holds the true difference.

    Returns:
        ``crossed``: seeds and images drawn, as in a report; ``images_only``: seeds held fixed,
        which is what a report does under three seeds; and the mean widths of both.
    """
    weights = draw_images(np.arange(n_images), REPLICATES).astype(float) / n_images  # (R + 1, N)
    seeds = {"crossed": draw_seeds(n_seeds, REPLICATES)}  # (R + 1, S)
    seeds["images_only"] = np.full_like(seeds["crossed"], 1 / n_seeds)
    held = dict.fromkeys(seeds, 0)
    width = dict.fromkeys(seeds, 0.0)
    for _ in range(TRIALS):
        d = rng.normal(0, seed_sd, (n_seeds, 1)) + rng.normal(0, IMAGE, n_images)
        d = d + rng.normal(0, REST, (n_seeds, n_images))  # (S, N), true difference 0
        per_seed = weights @ d.T  # (R + 1, S)
        for name, of_seeds in seeds.items():
            _, low, high = percentile_interval((per_seed * of_seeds).sum(1))
            held[name] += low <= 0 <= high
            width[name] += (high - low) / TRIALS
    shares = {name: count / TRIALS for name, count in held.items()}
    return shares | {f"width_{name}": value for name, value in width.items()}


def main() -> None:
    """Write ``results.csv`` beside this file."""
    rng = np.random.default_rng(0)
    rows = [
        {"seeds": s, "images": n, "seed_sd": sd, **coverage(s, n, sd, rng)}
        for s in SEEDS
        for n in IMAGES
        for sd in SEED
    ]
    table = pd.DataFrame(rows).assign(trials=TRIALS).round(4)
    table.to_csv(Path(__file__).with_name("results.csv"), index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
