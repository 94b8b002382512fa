"""Overview of a data set on one page: what to know before training."""

import numpy as np
from matplotlib.figure import Figure

from tlunet.report.dataset import plots, tables
from tlunet.report.dataset.facts import Facts
from tlunet.report.dataset.pictures import examples_of, repeats_of
from tlunet.report.dataset.plots import percent
from tlunet.report.document.document import (
    Alarm,
    Column,
    Document,
    Entry,
    Part,
    Picture,
    Section,
    Table,
    Text,
)
from tlunet.report.figures.style import drawn

IGNORED = 20  # files listed
FAULTS = 50


def document(facts: Facts) -> Document:
    """Build the page of a data set.

    Raises:
        DataError: an image has changed since the survey.
    """
    rows = len(facts.names)
    sections = [
        Section("Images", (examples_of(facts),)),
        Section("Classes", (
            tables.classes(facts),
            _picture("balance", "Class balance", "An image counts once for every class it shows, "
                     "a pixel once for every class that covers it.",
                     plots.figure(facts, plots.images_by_class, plots.pixels_by_class,
                                  height=plots.height_of(rows + 1))),
        )),
        Section("Co-occurring classes", (
            _picture("together", "Classes in the same image",
                     "Left: images that show both classes; darker means a larger fraction of the "
                     "images with the row's class. Right: combinations of classes.",
                     plots.figure(facts, plots.together, plots.combinations,
                                  height=plots.height_of(max(rows + 1, min(
                                      len(facts.combinations), plots.COMBINATIONS))))),
        )),
        Section("Defect sizes", (
            tables.regions(facts),
            _picture("sizes", "Areas of connected regions",
                     "Histogram of region areas, scaled per class. A network trained on smaller "
                     "images loses the smallest defects first.",
                     plots.figure(facts, plots.region_sizes, height=0.9 + 0.5 * rows)),
        )),
        Section("Near-duplicates", _repeats(facts)),
        Section("The split", _split(facts)),
        *_problems(facts),
    ]  # fmt: skip
    return Document(
        title=title(facts),
        subtitle=facts.summary.overview(),
        answer=tuple(headline(facts)),
        alarms=tuple(map(Alarm, facts.warnings)),
        sections=tuple(sections),
    )


def title(facts: Facts) -> str:
    """Name the data set by its folder."""
    return f"Overview of {facts.survey.source.root.resolve().name}"


def headline(facts: Facts) -> list[str]:
    """Summarise the data set in one or two sentences."""
    labels, names = facts.survey.labels, facts.names
    total, defective = len(labels), int(labels.any(1).sum())
    if not defective:
        return ["No image of this data set shows a defect."]
    first = f"{percent(defective / total)} of the images show a defect"
    if defective == total:
        first = "Every image shows a defect"
    counts = labels.sum(0)
    most, least = int(counts.argmax()), int(counts.argmin())
    if len(names) > 1 and counts[most] == counts[least]:
        first += f"; each class is in {counts[most]:,} images."
    elif len(names) > 1:
        first += (
            f"; the most frequent class is {names[most]} ({counts[most]:,} images), the rarest "
            f"{names[least]} ({counts[least]:,})."
        )
    else:
        first += "."
    shares = facts.areas[labels.any(1)] / facts.pixels_each[labels.any(1)]
    areas = np.concatenate(facts.survey.regions)
    if not len(areas):  # all masks vanish at the requested size
        return [first]
    low, high = np.percentile(areas, (25, 75))
    second = (
        f"Median defect area: {percent(float(np.median(shares)))} of the image, over images with a "
        f"defect; the middle half of all defect regions has {low:,.0f} to {high:,.0f} pixels."
    )
    return [first, second]


def _picture(name: str, title: str, caption: str, figure: Figure) -> Picture:
    return Picture(name, title, caption, drawn(figure))


def _repeats(facts: Facts) -> tuple[Part, ...]:
    summary = facts.summary
    text = summary.duplicated()
    conflicts = sum(repeat.is_conflict for repeat in summary.repeats)
    if not summary.repeats:
        return (Text(f"{text.capitalize()} found."),)
    if conflicts:
        text += f"; {conflicts:,} with conflicting labels"
    return Text(f"{text}."), repeats_of(facts)


def _split(facts: Facts) -> tuple[Part, ...]:
    if facts.summary.split is None:
        return (Text("There are too few images for a split."),)
    figure = plots.figure(facts, plots.split_balance, height=plots.height_of(len(facts.names) + 1))
    caption = "If the split is balanced, the three markers of a class overlap."
    return tables.split(facts), _picture("split", "Balance of the split", caption, figure)


def _problems(facts: Facts) -> list[Section]:
    """List problems that prevent training, and ignored files; empty if there are none."""
    parts: list[Part] = []
    problems, ignored = facts.survey.problems, facts.survey.source.ignored
    if problems:
        rows = tuple((Entry(problem.where), Entry(problem.what)) for problem in problems[:FAULTS])
        more = len(problems) - len(rows)
        notes = (f"And {more} more: tlunet data check lists them.",) if more else ()
        parts.append(Table("Problems", (Column("location"), Column("problem")), rows, notes=notes))
    if ignored:
        named = ", ".join(path.name for path in ignored[:IGNORED])
        more_ignored = ", …" if len(ignored) > IGNORED else ""
        parts.append(Text(f"{len(ignored)} files or folders are ignored: {named}{more_ignored}"))
    return [Section("Problems and ignored files", tuple(parts))] if parts else []
