"""Console tables of the gains from tuning."""

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from tlunet.deploy.tuning.tune import Gain, Tuned
from tlunet.machine.counted import counted
from tlunet.model.flags import ANY

STEPS = {
    "": "as trained",
    "thresholds": "+ thresholds",
    "min_areas": "+ minimum areas",
    "gates": "+ gates",
    "flips": "+ flips",
}


def show(tuned: Tuned, classes: Sequence[str]) -> Group:
    """Return the gain of each step on both subsets, the rules, and what they flag."""
    return Group(_gains(tuned), _rules(tuned, classes), _flags(tuned, classes))


def _gains(tuned: Tuned) -> Table:
    table = Table(
        title=f"{tuned.goal}, fitted on validation",
        caption="Only the test columns measure the gain; negative values are a loss. Brackets: "
        "95% interval over test images.",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("", no_wrap=True)
    for part in ("validation", "test"):
        table.add_column(part, justify="right")
        table.add_column("gain", justify="right", no_wrap=True)
    first, last, before = tuned.steps[0], tuned.steps[-1], tuned.steps[0]
    table.add_row(STEPS[first.name], f"{first.validation:.4f}", "", f"{first.test:.4f}", "")
    for step in tuned.steps[1:]:
        rise = step.validation - before.validation
        _row(table, STEPS[step.name], step.validation, rise, step.test, step.gain)
        before = step
    table.add_section()
    rise = last.validation - first.validation
    _row(table, "total", last.validation, rise, last.test, tuned.gains[tuned.goal])
    validation, test = tuned.validation, tuned.test
    rise = validation["tuned_mla"] - validation["mla"]
    name = "mla, with label thresholds"
    _row(table, name, validation["tuned_mla"], rise, test["tuned_mla"], tuned.gains["mla"])
    return table


def _row(
    table: Table, name: str, validation: float, rise: float, test: float, gain: Gain | None
) -> None:
    brackets = f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]" if gain else ""
    table.add_row(name, f"{validation:.4f}", f"{rise:+.4f}", f"{test:.4f}", Text(brackets))


def _rules(tuned: Tuned, classes: Sequence[str]) -> Table:
    rules = tuned.rules
    table = Table(title=f"Rules (flips: {rules.flips})", title_justify="left")
    table.add_column("class")
    for heading in ("threshold", "minimum area", "gate", "label threshold"):
        table.add_column(heading, justify="right")
    columns = rules.thresholds, rules.min_areas, rules.gates, rules.labels
    for name, threshold, area, gate, label in zip(classes, *columns, strict=True):
        table.add_row(
            Text(name), f"{threshold:g}", f"{area} pixels" if area else "–",
            f"{gate:g}" if gate else "–", f"{label:g}",
        )  # fmt: skip
    return table


def _flags(tuned: Tuned, classes: Sequence[str]) -> Table:
    free = tuned.flags[0]["defect_free"]
    flagged = f", and flagged of {counted(free, 'defect-free image')}" if free else ""
    table = Table(
        title=f"Test images missed{flagged}",
        caption="As trained → with the rules.",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("class")
    table.add_column("images", justify="right")
    columns = {f"missed_{by}": f"missed by {by}" for by in ("masks", "labels")}
    if free:
        columns |= {f"false_{by}": f"flagged by {by}" for by in ("masks", "labels")}
    for heading in columns.values():
        table.add_column(heading, justify="right")
    for name, row in zip((ANY, *classes), tuned.flags, strict=True):
        cells = (f"{row[column]} → {row[f'tuned_{column}']}" for column in columns)
        table.add_row(Text(name), str(row["defective"]), *cells, end_section=name == ANY)
    return table
