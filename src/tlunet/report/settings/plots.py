"""The figures of a comparison of settings: differences, and training curves."""

from collections.abc import Sequence

import pandas as pd

from tlunet.report.analysis.blocks import Block
from tlunet.report.analysis.comparisons import PRIMARY
from tlunet.report.comparison_tables import SIDES, sides_and_labels
from tlunet.report.document.document import Part
from tlunet.report.figures.figures import Drawing
from tlunet.report.figures.forest import settings_forest
from tlunet.report.settings.courses import setting_courses
from tlunet.report.values import MAIN, SCORES, spoken

MOST_CURVES = 5  # settings whose training is drawn


def settings_plots(comparisons: pd.DataFrame, draw: Drawing) -> list[Part]:
    """Draw the differences between settings by score; nothing if no settings are compared.

    Args:
        comparisons: as in ``comparisons.csv``.
        draw: saves the figure.
    """
    rows = comparisons[(comparisons["factor"] == "protocol") & comparisons["difference"].notna()]
    is_one = len(rows[["difference_of", "at"]].drop_duplicates()) == 1
    chosen = MAIN if is_one else PRIMARY
    rows = rows[rows["metric"].isin(chosen)]
    if rows.empty:
        return []
    rows = rows.sort_values("metric", key=lambda names: names.map(chosen.index), kind="stable")
    conditions = [at.split(" · ") for at in rows["at"]]
    about = [part for part in conditions[0] if all(part in others for others in conditions)]
    own = [" · ".join(part for part in at if part not in about) for at in conditions]
    sides, labels = sides_and_labels(rows.assign(at=own))
    table = rows[["low", "high", "n_seeds"]].assign(
        score=[SCORES[metric][0] for metric in rows["metric"]],
        label=labels,
        value=rows["difference"],
    )
    table["seeds"] = [[float(d) for d in str(text).split()] for text in rows["by_seed"]]
    caption = (
        "Each row: mean difference with its 95% interval; dots: seeds. Right of the line: "
        f"{'the setting' if sides[0] == SIDES['protocol'][0] else sides[0]} is higher."
    )
    shared = spoken(" · ".join(about))
    title = " · ".join(filter(None, ("Difference between settings", "" if is_one else shared)))
    figure = settings_forest(table, sides, shared)
    return [draw("settings_forest", title, caption, figure)]


def setting_curves(comparisons: pd.DataFrame, blocks: Sequence[Block], draw: Drawing) -> list[Part]:
    """Draw validation Dice by optimiser step of the settings that differ most in test Dice.

    Args:
        comparisons: as in ``comparisons.csv``.
        blocks: of the study.
        draw: saves the figure.
    """
    rows = comparisons[
        (comparisons["factor"] == "protocol") & (comparisons["metric"] == "dice_image")
    ]
    order = rows["difference"].abs().sort_values(ascending=False, kind="stable").index
    compared = [title for pair in rows["difference_of"].loc[order] for title in pair.split(" − ")]
    references = rows["difference_of"].map(lambda pair: pair.split(" − ")[1]).unique()
    first = list(references) if len(references) == 1 else []
    titles = list(dict.fromkeys([*first, *compared]))[:MOST_CURVES]
    histories = {
        block.title.partition(" · ")[2]: block.history
        for title in titles for block in blocks
        if block.title == title and {"step", "val_dice"} <= set(block.history)
    }  # fmt: skip
    if not histories:
        return []
    caption = (
        "Mean over seeds; the band spans the lowest and highest. Of many settings, those whose "
        "test Dice differs most are shown."
    )
    title = "Validation Dice by optimiser step"
    return [draw("setting_courses", title, caption, setting_courses(histories))]
