"""What tuning brought, as tables for the console."""

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from tlunet.deploy.tune import Tuned

STEPS = {
    "": "as trained",
    "thresholds": "+ thresholds",
    "min_areas": "+ smallest areas",
    "gates": "+ gate",
    "flips": "+ flips",
}


def show(tuned: Tuned, classes: Sequence[str]) -> Group:
    """The gain of each part on both parts of the data, and the rules themselves."""
    return Group(_gains(tuned), _rules(tuned, classes))


def _gains(tuned: Tuned) -> Table:
    table = Table(
        title=f"{tuned.goal}, fitted on validation",
        caption="Only the test column says what is gained; a minus there is a loss.",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("", no_wrap=True)
    for part in ("validation", "test"):
        table.add_column(part, justify="right")
        table.add_column("gain", justify="right")
    before = tuned.steps[0]
    for step in tuned.steps:
        row = [STEPS[step.name]]
        for now, then in ((step.validation, before.validation), (step.test, before.test)):
            row += [f"{now:.4f}", f"{now - then:+.4f}" if step.name else ""]
        table.add_row(*row)
        before = step
    table.add_section()
    row = ["in all"]
    for part in ("validation", "test"):
        first, last = (getattr(tuned.steps[k], part) for k in (0, -1))
        row += [f"{last:.4f}", f"{last - first:+.4f}"]
    table.add_row(*row)
    row = ["mla, by the labels' thresholds"]
    for scores in (tuned.validation, tuned.test):
        row += [f"{scores['tuned_mla']:.4f}", f"{scores['tuned_mla'] - scores['mla']:+.4f}"]
    table.add_row(*row)
    return table


def _rules(tuned: Tuned, classes: Sequence[str]) -> Table:
    rules = tuned.rules
    table = Table(title=f"The rules (flips: {rules.flips})", title_justify="left")
    table.add_column("class")
    for heading in ("threshold", "smallest area", "gate", "label's threshold"):
        table.add_column(heading, justify="right")
    columns = rules.thresholds, rules.min_areas, rules.gates, rules.labels
    for name, threshold, area, gate, label in zip(classes, *columns, strict=True):
        table.add_row(
            Text(name), f"{threshold:g}", f"{area} pixels" if area else "–",
            f"{gate:g}" if gate else "–", f"{label:g}",
        )  # fmt: skip
    return table
