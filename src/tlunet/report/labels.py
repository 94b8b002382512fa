"""The section of a report on label-worth: one sentence per score, and a table."""

from typing import Any

import numpy as np
import pandas as pd

from tlunet.report.analysis.label_worth import one_fraction
from tlunet.report.document.document import Part, Text
from tlunet.report.tables import worth_table
from tlunet.report.values import SCORES, times
from tlunet.runs.names import condition, init_name, percent

HEADING = "How many labels is pre-training worth?"


def worth_parts(worth: pd.DataFrame) -> list[Part]:
    """Build the section of a block; empty without label-worth."""
    if worth.empty:
        return []
    rows = [row for _, row in one_fraction(worth).iterrows()]
    return [*(Text(worth_sentence(row)) for row in rows), worth_table(worth)]


def worth_sentence(row: "pd.Series[Any]") -> str:
    """Say what a row of label-worth means, and never more than its interval."""
    name, encoder = f"{init_name(row['init'])} weights", condition(row["encoder"])
    by = SCORES[row["metric"]][0]
    if row["verdict"] == "undefined":
        return f"Label-worth in {by} is undefined ({encoder}, {row['n_seeds']} common seeds)."
    start = f"In this training, by {by}" if row["verdict"] == "one training" else f"By {by}"
    value, bracket, interval = times(row["worth"], row["low"], row["high"]).partition(" [")
    shown = f"{value.replace('×', ' times')} the labels{bracket}{interval}"
    says = f"{start}, {name} are worth {shown}"
    if row["verdict"] == "undecided":
        bracket = f" ({shown})" if row["low"] > 0 else ""
        says = f"{start}, it is not clear whether {name} are worth more labels{bracket}"
    seeds = "1 seed" if row["n_seeds"] == 1 else f"{row['n_seeds']} seeds"
    over = f"{encoder}, {seeds}, 95% interval over {row['interval']}"
    return f"{says}: {_reached(row, name)}; {over}."


def _reached(row: "pd.Series[Any]", name: str) -> str:
    largest, less = percent(row["most"] * row["frac"]), percent(row["frac"])
    of_these = f"what {name} reach with {less}"
    if np.isinf(row["share"]):
        on_average = "" if row["low"] >= row["most"] * (1 - 1e-9) else "on average "
        return f"random weights {on_average}do not reach with {largest} {of_these}"
    if row["share"] == 0:
        return f"random weights reach with the smallest fraction {of_these}"
    return f"random weights reach with {row['share']:.0%} {of_these}"
