"""Render a report as GitHub Markdown, with the same content as the HTML page.

Reference: GitHub Flavored Markdown, github.github.com/gfm.
"""

import html
import re
from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import quote

from tlunet.report.document.document import (
    Alarm,
    Browser,
    Column,
    Document,
    Entry,
    Fold,
    Gallery,
    Part,
    Picture,
    Section,
    Table,
    Text,
)

SHOWN = 10  # number of largest gains, and of largest losses

# An underscore within a word is not markup: dice_image stays readable in the source.
_MARKUP = re.compile(r"[\\`*\[\]<>|~$#]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])")
_LIST = re.compile(r"^(\d+(?=[.)](\s|$))|(?=[-+=](\s|$)))")


def render(document: Document, figures: str = "figures") -> str:
    """Render a report as GitHub Markdown.

    Args:
        document: the report.
        figures: folder of the figures' PNG files, relative to the Markdown file.

    Returns:
        The content of the file, ending in one newline; the same text for the same document.

    Raises:
        ValueError: a row has more or fewer entries than columns.
    """
    blocks = [f"# {escape(document.title)}", escape(document.subtitle)]
    blocks += ["\n>\n".join(f"> **{escape(sentence)}**" for sentence in document.answer)]
    blocks += [_paragraph(sentence) for sentence in document.scope]
    blocks += ["\n".join(_alarm(alarm) for alarm in document.alarms)]
    blocks += [_part(part, figures) for part in document.lead]
    facts = [f"- {escape(fact.name)}: {escape(fact.text)}" for fact in document.facts]
    if document.files:
        links = [f"[{escape(name)}]({quote(name)})" for name in document.files]
        facts.append(f"- Tables: {', '.join(links)}")
    blocks += ["\n".join(facts)]
    blocks += [_section(section, figures) for section in document.sections]
    return _join(blocks) + "\n"


def escape(text: str) -> str:
    r"""Escape plain text as one line of Markdown.

    >>> print(escape("a|b *c*  _d_ dice_image <script>"))
    a\|b \*c\* \_d\_ dice_image \<script\>
    """
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def _paragraph(text: str) -> str:
    r"""Escape plain text so that it does not begin a list either: ``- a`` becomes ``\- a``."""
    return _LIST.sub(r"\1\\", escape(text))


def _join(blocks: Iterable[str]) -> str:
    return "\n\n".join(block for block in blocks if block)


def _section(section: Section, figures: str) -> str:
    parts = [_part(part, figures) for part in section.parts]
    title = f"{section.of}: {section.title}" if section.of else section.title
    if not section.folded:
        return _join([f"## {escape(title)}", *parts])
    return _folded(f"<strong>{html.escape(title)}</strong>", parts)


def _folded(summary: str, parts: Iterable[str]) -> str:
    # The blank lines end the HTML: the text between them is Markdown again; in a site of Python
    # Markdown, the attribute does that.
    return _join([f'<details markdown="1">\n<summary>{summary}</summary>', *parts, "</details>"])


def _part(part: Part, figures: str) -> str:
    match part:
        case Text():
            return _paragraph(part.text)
        case Alarm():
            return _alarm(part)
        case Table():
            return render_table(part)
        case Picture():
            image = f"![{escape(part.title)}]({figures}/{quote(part.name)}.png)"
            return f"{image}\n\n*{escape(part.title)}* {escape(part.caption)}"
        case Browser():
            return _browser(part)
        case Gallery():
            return _gallery(part)
        case Fold():
            parts = [_part(inner, figures) for inner in part.parts]
            return _folded(html.escape(part.title), parts)


def _alarm(alarm: Alarm) -> str:
    return f"- ⚠ **Warning** {escape(alarm.text)}"


def render_table(table: Table) -> str:
    """Render a table with its title above (if any), and its notes and details below."""
    names = [escape(column.name) for column in table.columns]
    rules = ["---:" if column.is_number else "---" for column in table.columns]
    rows = [
        texts
        for heading, body in table.bodies
        for texts in (
            *([[f"**{escape(heading)}**", *[""] * (len(names) - 1)]] if heading else []),
            *(_texts(table.columns, row) for row in body),
        )
    ]
    foot = [
        [f"*{text}*" if text else "" for text in _texts(table.columns, row)] for row in table.foot
    ]
    lines = [f"| {' | '.join(row)} |" for row in (names, rules, *rows, *foot)]
    meanings = [
        f"- **{escape(column.name)}**: {escape(column.meaning)}"
        for column in table.columns
        if column.meaning
    ]
    notes = [f"- {_paragraph(note)}" for note in table.notes]
    title = f"**{escape(table.title)}**" if table.title else ""
    parts = [title, "\n".join(lines), "\n".join(notes + meanings)]
    if table.details:
        inner = render_table(replace(table.details, title=""))
        parts.append(_folded(html.escape(table.details.title), [inner]))
    return _join(parts)


def _texts(columns: tuple[Column, ...], row: tuple[Entry, ...]) -> list[str]:
    return [_entry(entry) for _, entry in zip(columns, row, strict=True)]


def _entry(entry: Entry) -> str:
    text = escape(entry.text)
    text = f"**{text}**" if entry.is_best else text
    return f"{text} *{escape(entry.note)}*" if entry.note else text


def _browser(browser: Browser) -> str:
    """Link to the image browser, and list the largest gains and losses of the first pair."""
    intro = (
        f"**{escape(browser.title)}** The images with ground truth and both predictions are in "
        f"[report.html](report.html). {escape(browser.note)}"
    )
    if not browser.pairs:
        return intro
    name, first, second = browser.pairs[0]
    known = []
    for image in browser.images:
        before, after = image.scores[first], image.scores[second]
        if before is not None and after is not None:
            known.append((after - before, image.image_id, before, after))
    gains = sorted((row for row in known if row[0] > 0), key=lambda row: (-row[0], row[1]))
    losses = sorted(row for row in known if row[0] < 0)
    columns = (
        Column("image"),
        *(Column(text, is_number=True) for text in (f"Dice, {first}", f"Dice, {second}")),
        Column("difference", is_number=True),
    )
    blocks = [intro]
    for kind, rows in (("gains", gains[:SHOWN]), ("losses", losses[:SHOWN])):
        entries = tuple(
            (Entry(image_id), Entry(f"{a:.3f}"), Entry(f"{b:.3f}"), Entry(f"{difference:+.3f}"))
            for difference, image_id, a, b in rows
        )
        title = f"Largest {kind}, {name}"
        none = f"**{escape(title)}**: none"
        blocks.append(render_table(Table(title, columns, entries)) if rows else none)
    return _join(blocks)


def _gallery(gallery: Gallery) -> str:
    """List the images of a gallery: Markdown cannot embed them."""
    rows = [
        f"- {escape(row.title)}: {', '.join(escape(tile.name) for tile in row.tiles)}"
        for row in gallery.rows
    ]
    return _join([_paragraph(gallery.rule), "\n".join(rows)])
