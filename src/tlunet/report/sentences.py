"""Sentences of a report's answer: what changes Dice, from what to what, and never more."""

from collections.abc import Sequence
from typing import NamedTuple

from tlunet.report.analysis.statistics import SEEDS_NEEDED, Estimate, direction


class Finding(NamedTuple):
    """A sentence of the answer.

    Attributes:
        says: the sentence.
        detail: numbers behind it, in small type: difference, interval, what it is a mean over.
        is_main: whether it is part of the headline.
        place: the block that it is about, in words; empty in a study of one block.
    """

    says: str
    detail: str = ""
    is_main: bool = False
    place: str = ""

    @property
    def sentence(self) -> str:
        """The sentence, with the block that it is about."""
        return f"{self.place}: {self.says}" if self.place else self.says

    @property
    def text(self) -> str:
        """Sentence and detail."""
        return f"{self.sentence} {self.detail}".rstrip()


def says_change(
    what: str, plural: str, gain: Estimate, levels: Sequence[float], n_seeds: int
) -> str:
    """Say from what to what Dice changes, and never more than the interval.

    Args:
        what: the subject.
        plural: ``s`` if the subject is plural, else empty.
        gain: the difference.
        levels: Dice without and with it.
        n_seeds: number of seeds.
    """
    between = f"from {levels[0]:.3f} to {levels[1]:.3f}"
    s = "" if plural else "s"
    match direction(gain, n_seeds):
        case "supported":
            return f"{what} raise{s} Dice {between}."
        case "contradicted":
            return f"{what} lower{s} Dice {between}."
        case "inconclusive":
            return f"{what} show{s} no clear change in Dice ({between})."
        case "one training":
            trained = "this training" if n_seeds == 1 else "these two trainings"
            return f"In {trained}, {what} change{s} Dice {between}."
    return f"The gain from {what} cannot be judged: no common seed."


def says_over(seeds: Sequence[int]) -> str:
    """Say how many seeds there are, and what the interval covers."""
    if len(seeds) >= SEEDS_NEEDED:
        return f"{len(seeds)} seeds, 95% interval over seeds and images"
    trainings = "this training" if len(seeds) == 1 else "these two trainings"
    return f"{trainings} only, 95% interval over test images"
