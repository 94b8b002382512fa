"""The sections of a report in the order in which they are read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from tlunet.report.analysis.asked import Claim
from tlunet.report.analysis.blocks import Study
from tlunet.report.analysis.resampled import Resampled
from tlunet.report.comparison_tables import comparison_table
from tlunet.report.document.document import Browser, Fold, Part, Picture, Section, Text
from tlunet.report.figures.figures import (
    Drawing,
    class_gains,
    figures,
    forest_plot,
    pictures,
    slug,
)
from tlunet.report.findings import note_on_data, places
from tlunet.report.labels import HEADING, worth_parts
from tlunet.report.run_tables import cell_tables
from tlunet.report.settings.answer import compares_settings
from tlunet.report.settings.plots import setting_curves, settings_plots
from tlunet.report.tables import FACTORS, claim_table, class_table, flag_table, score_tables
from tlunet.report.values import MAIN, SCORES

OTHERS = tuple(name for name in SCORES if name not in MAIN)
LED = 2  # blocks; the forest plots of more are not on the first screen
BETWEEN = "between protocols"  # the block of the comparisons of whole blocks
VERDICTS = ("supported", "contradicted", "inconclusive", "one training", "not measured")


@dataclass(frozen=True)
class Results:
    """Everything computed for a study.

    Attributes:
        study: the runs.
        scores: as in ``scores.csv``.
        comparisons: as in ``comparisons.csv``.
        worth: as in ``label_worth.csv``.
        flags: as in ``flags.csv``.
        judged: as in ``claims.csv``; ``None`` without claims.
        asked: the claims.
        drawn: names of the figures, filled while they are drawn.
    """

    study: Study
    scores: pd.DataFrame
    comparisons: pd.DataFrame
    worth: pd.DataFrame
    flags: pd.DataFrame
    judged: pd.DataFrame | None
    asked: Sequence[Claim]
    drawn: set[str]

    def drawing(self, block: Resampled) -> Drawing:
        """Return what saves the figures of a block."""
        stem = f"{slug(block.data.title)}-" if len(self.study.blocks) > 1 else ""
        return Drawing(self.study.folder, stem, self.drawn)


def lead(results: Results, blocks: Sequence[Resampled]) -> list[Part]:
    """Draw the figures of the first screen: the gains of one or two blocks, or the settings."""
    if compares_settings(blocks):
        return _settings(results)
    if len(blocks) > LED:
        return []
    return [
        part
        for block, place in zip(blocks, places(blocks), strict=True)
        for part in _forest_of(results, block, place)
    ]


def _settings(results: Results) -> list[Part]:
    """Draw the differences between settings, if there are any."""
    return settings_plots(results.comparisons, Drawing(results.study.folder, "", results.drawn))


def _forest_of(results: Results, block: Resampled, place: str = "") -> list[Part]:
    """Draw the forest plot of a block, if it has a gain to show."""
    own = results.comparisons[results.comparisons["block"] == block.data.title]
    return forest_plot(own, results.asked, results.drawing(block), place)


def block_sections(results: Results, block: Resampled) -> list[Section]:
    """Build the sections of a block: pictures and figures first, tables folded."""
    title = block.data.title
    several, is_led = len(results.study.blocks) > 1, len(results.study.blocks) <= LED
    scores = results.scores[results.scores["block"] == title]
    comparisons = results.comparisons[results.comparisons["block"] == title]
    worth = results.worth[results.worth["block"] == title]
    draw = results.drawing(block)
    shown = pictures(results.study.folder, block, draw)
    browsers = [part for part in shown if isinstance(part, Browser)]
    drawings = figures(block, scores, draw, worth)
    labels, courses, rest = _sorted(drawings, draw.prefix)
    note = note_on_data(block.data)

    contents: list[tuple[str, Sequence[Part | None], bool]] = [
        ("Gain from pre-training", [] if is_led else _forest_of(results, block), False),
        ("Example images", [part for part in shown if not isinstance(part, Browser)], False),
        ("Label efficiency", [*labels, *_worth(worth)], False),
        ("Test images", browsers, False),
        ("Classes", [
            *class_gains(block, comparisons, draw),
            flag_table(results.flags[results.flags["block"] == title]),
            Fold("Scores of every class", (class_table(scores, block.data),)),
        ], False),
        ("Learning curves", courses, False),
        ("Further figures", rest, False),
        ("Scores and comparisons", [note, *_tables(scores, comparisons, block)], False),
        ("The paper's claims", _claims(results.judged, title), False),
        ("Runs", cell_tables(block.data), True),
    ]  # fmt: skip
    return [
        Section(heading, tuple(part for part in parts if part), folded, title if several else "")
        for heading, parts, folded in contents
        if any(parts)
    ]


def protocol_sections(results: Results, is_led: bool) -> list[Section]:
    """Build the sections of the comparisons between protocols.

    Args:
        results: everything computed.
        is_led: whether their figure is on the first screen already.
    """
    sections = []
    comparisons = results.comparisons
    tables = {
        "Differences": comparison_table("", comparisons, "protocol", MAIN),
        "Additional metrics": comparison_table("", comparisons, "protocol", OTHERS),
    }
    folds = [Fold(heading, (table,)) for heading, table in tables.items() if table]
    if folds:
        flagged = flag_table(results.flags)
        folds.append(Fold(flagged.title, (replace(flagged, title=""),)))
        drawn = [] if is_led else _settings(results)
        drawing = Drawing(results.study.folder, "", results.drawn)
        drawn += setting_curves(comparisons, results.study.blocks, drawing)
        sections.append(Section(FACTORS["protocol"], (*drawn, *folds)))
    if claims := _claims(results.judged, BETWEEN):
        sections.append(Section("The paper's claims", tuple(claims)))
    return sections


def _worth(worth: pd.DataFrame) -> list[Part]:
    """Say how many labels pre-training is worth, and fold the table."""
    parts = worth_parts(worth)
    return [*parts[:-1], Fold(HEADING, (parts[-1],))] if parts else []


def _sorted(parts: Sequence[Part], prefix: str) -> tuple[list[Part], list[Part], list[Part]]:
    """Separate the figures of label efficiency and of training from the others."""
    labels: list[Part] = []
    courses: list[Part] = []
    rest: list[Part] = []
    for part in parts:
        name = part.name.removeprefix(prefix) if isinstance(part, Picture) else ""
        chosen = (
            labels if name.startswith("label_efficiency")
            else courses if name.startswith("figure_8") else rest
        )  # fmt: skip
        chosen.append(part)
    return labels, courses, rest


def _tables(scores: pd.DataFrame, comparisons: pd.DataFrame, block: Resampled) -> list[Part]:
    """Build the tables of scores and comparisons, each folded."""
    main, *others = score_tables(scores, block.data)
    folds: list[Part] = [Fold("Test scores", (main,))]
    for factor, heading in FACTORS.items():
        if table := comparison_table("", comparisons, factor, MAIN):
            folds.append(Fold(heading, (table,)))
    more = [comparison_table(heading, comparisons, factor, OTHERS)
            for factor, heading in FACTORS.items()]  # fmt: skip
    folds.append(Fold("Additional metrics", (*others, *(table for table in more if table))))
    return folds


def _claims(judged: pd.DataFrame | None, title: str) -> list[Part]:
    """Count the verdicts, show what was tested, and fold the rest."""
    own = None if judged is None else judged[judged["block"] == title]
    if own is None or own.empty:
        return []
    counts = own["direction"].value_counts()
    words = ", ".join(f"{counts[v]} {v}" for v in VERDICTS if v in counts)
    parts: list[Part] = [Text(f"Of {len(own)} claims: {words}.")]
    is_tested = own["direction"] != "not measured"
    if is_tested.any():
        parts.append(claim_table(own[is_tested]))
    if not is_tested.all():
        n = int((~is_tested).sum())
        fold = f"{n} {'claim is' if n == 1 else 'claims are'} not measured by this study"
        parts.append(Fold(fold, (claim_table(own[~is_tested]),)))
    return parts
