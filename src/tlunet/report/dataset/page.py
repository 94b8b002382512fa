"""A data set as one page: what a person should know of it before training."""

from collections import Counter

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

SIZES = 3  # named in the subtitle
IGNORED = 20  # files named
FAULTS = 50


def document(facts: Facts) -> Document:
    """Everything about a data set, in the order in which a reader wants it.

    Raises:
        DataError: an image has changed since it was surveyed.
    """
    rows = len(facts.names)
    sections = [
        Section("Images", (examples_of(facts),)),
        Section("Classes", (
            tables.classes(facts),
            _picture("balance", "Class balance", "An image counts for every class that it shows; "
                     "a pixel for every class that covers it.",
                     plots.figure(facts, plots.images_by_class, plots.pixels_by_class,
                                  height=plots.height_of(rows + 1))),
        )),
        Section("Classes that meet", (
            _picture("together", "Which classes are in one image",
                     "On the left the images that show both classes, the darker the larger their "
                     "share of the images with the row's class; on the right the sets of classes.",
                     plots.figure(facts, plots.together, plots.combinations,
                                  height=plots.height_of(max(rows + 1, min(
                                      len(facts.combinations), plots.COMBINATIONS))))),
        )),
        Section("Defect sizes", (
            tables.regions(facts),
            _picture("sizes", "Regions of touching pixels",
                     "How many regions have which area; each class to its own height. A network "
                     "that looks at smaller images loses the left end first.",
                     plots.figure(facts, plots.region_sizes, height=0.9 + 0.5 * rows)),
        )),
        Section("Near-duplicates", _repeats(facts)),
        Section("The split", _split(facts)),
        *_faults(facts),
    ]  # fmt: skip
    return Document(
        title=title(facts),
        subtitle=subtitle(facts),
        answer=tuple(headline(facts)),
        alarms=tuple(map(Alarm, facts.warnings)),
        sections=tuple(sections),
    )


def title(facts: Facts) -> str:
    """What the page is about: the data set's folder."""
    return f"What is in {facts.survey.source.root.resolve().name}"


def subtitle(facts: Facts) -> str:
    """How many images of which size and colour, and how many classes."""
    survey = facts.survey
    name = survey.source.name
    if name == "synthetic":
        name = "synthetic strips, which are not steel"
    kinds = Counter(map(tuple, survey.sizes.tolist())).most_common()
    sizes = ", ".join(
        f"{height}×{width}" + (f" ({n:,})" if len(kinds) > 1 else "")
        for (height, width), n in kinds[:SIZES]
    )
    sizes += f" and {len(kinds) - SIZES} other sizes" if len(kinds) > SIZES else ""
    coloured = int(survey.coloured.sum())
    colour = "grey" if not coloured else "in colour"
    if 0 < coloured < len(survey.records):
        colour = f"{coloured:,} of them in colour"
    return (
        f"{name}: {len(survey.records):,} images of {sizes} pixels "
        f"(height × width), {colour}, {len(facts.names)} "
        + ("class" if len(facts.names) == 1 else "classes")
    )


def headline(facts: Facts) -> list[str]:
    """What a reader should remember, in two or three sentences."""
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
        first += f", each class {counts[most]:,} images."
    elif len(names) > 1:
        first += (
            f"; {names[most]} is the commonest class ({counts[most]:,} images) and "
            f"{names[least]} the rarest ({counts[least]:,})."
        )
    else:
        first += "."
    shares = facts.areas[labels.any(1)] / facts.pixels_each[labels.any(1)]
    areas = np.concatenate(facts.survey.regions)
    if not len(areas):  # all masks vanish at the size that was asked for
        return [first]
    low, high = np.percentile(areas, (25, 75))
    second = (
        f"Half of the images with a defect have more than {percent(float(np.median(shares)))} of "
        f"their area covered; half of all defect regions measure {low:,.0f} to {high:,.0f} pixels."
    )
    return [first, second]


def _picture(name: str, title: str, caption: str, figure: Figure) -> Picture:
    return Picture(name, title, caption, drawn(figure))


def _repeats(facts: Facts) -> tuple[Part, ...]:
    if not facts.repeats:
        return (Text("No two images are nearly the same picture."),)
    images = sum(len(repeat.rows) for repeat in facts.repeats)
    conflicts = sum(repeat.is_conflict for repeat in facts.repeats)
    text = (
        f"{images:,} images are {len(facts.repeats):,} pictures that are there more than once; "
        f"{conflicts:,} of these pictures are labelled with different classes. The split keeps the "
        "images of one picture on one side, so that no network is tested on what it has learnt."
    )
    return Text(text), repeats_of(facts)


def _split(facts: Facts) -> tuple[Part, ...]:
    if facts.split is None:
        return (Text("There are too few images to be split."),)
    figure = plots.figure(facts, plots.split_balance, height=plots.height_of(len(facts.names) + 1))
    caption = "The three marks of a class lie on one another where the split is balanced."
    return tables.split(facts), _picture("split", "Balance of the split", caption, figure)


def _faults(facts: Facts) -> list[Section]:
    """What stands in the way of training, and what is passed over; nothing where all is sound."""
    parts: list[Part] = []
    problems, ignored = facts.survey.problems, facts.survey.source.ignored
    if problems:
        rows = tuple((Entry(problem.where), Entry(problem.what)) for problem in problems[:FAULTS])
        more = len(problems) - len(rows)
        notes = (f"And {more} more: tlunet data check names them.",) if more else ()
        parts.append(Table("Faults", (Column("where"), Column("what")), rows, notes=notes))
    if ignored:
        named = ", ".join(path.name for path in ignored[:IGNORED])
        more_ignored = ", …" if len(ignored) > IGNORED else ""
        parts.append(Text(f"{len(ignored)} files or folders are ignored: {named}{more_ignored}"))
    return [Section("Faults, and what is ignored", tuple(parts))] if parts else []
