"""A report as GitHub Markdown, for a repository: the same content as `page.py` writes as HTML.

Reference: GitHub Flavored Markdown, github.github.com/gfm.
"""

import html
import re
from collections.abc import Iterable
from urllib.parse import quote

from tlunet.report.document.document import (
    Alarm,
    Browser,
    Column,
    Document,
    Entry,
    Gallery,
    Part,
    Picture,
    Section,
    Table,
    Text,
)

SHOWN = 10  # of the largest gains, and as many of the largest losses

# An underscore within a word is no markup: dice_image stays legible in the file itself.
_MARKUP = re.compile(r"[\\`*\[\]<>|~$#]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])")
_LIST = re.compile(r"^(\d+(?=[.)](\s|$))|(?=[-+=](\s|$)))")


def render(document: Document, figures: str = "figures") -> str:
    """Write a report as GitHub Markdown.

    Args:
        document: what to say.
        figures: the folder of the figures' PNG files, relative to the Markdown file.

    Returns:
        The whole file, ending in one newline; the same text for the same document.

    Raises:
        ValueError: a row with more or fewer entries than columns.
    """
    blocks = [f"# {escape(document.title)}", escape(document.subtitle)]
    blocks += ["\n>\n".join(f"> **{escape(sentence)}**" for sentence in document.answer)]
    blocks += ["\n".join(_alarm(alarm) for alarm in document.alarms)]
    blocks += [_section(section, figures) for section in document.sections]
    return _join(blocks) + "\n"


def escape(text: str) -> str:
    r"""Plain text as Markdown that shows it: markup escaped, one line.

    >>> print(escape("a|b *c*  _d_ dice_image <script>"))
    a\|b \*c\* \_d\_ dice_image \<script\>
    """
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def _paragraph(text: str) -> str:
    r"""As `escape`, and it does not begin a list either: ``- a`` becomes ``\- a``."""
    return _LIST.sub(r"\1\\", escape(text))


def _join(blocks: Iterable[str]) -> str:
    return "\n\n".join(block for block in blocks if block)


def _section(section: Section, figures: str) -> str:
    parts = [_part(part, figures) for part in section.parts]
    if not section.folded:
        return _join([f"## {escape(section.title)}", *parts])
    summary = f"<summary><strong>{html.escape(section.title)}</strong></summary>"
    # The blank lines end the HTML: what is between them is Markdown again.
    return _join([f"<details>\n{summary}", *parts, "</details>"])


def _part(part: Part, figures: str) -> str:
    match part:
        case Text():
            return _paragraph(part.text)
        case Alarm():
            return _alarm(part)
        case Table():
            return table(part)
        case Picture():
            image = f"![{escape(part.title)}]({figures}/{quote(part.name)}.png)"
            return f"{image}\n\n*{escape(part.title)}* {escape(part.caption)}"
        case Browser():
            return _browser(part)
        case Gallery():
            return _gallery(part)


def _alarm(alarm: Alarm) -> str:
    return f"- ⚠ **Alarm** {escape(alarm.text)}"


def table(table: Table) -> str:
    """One table, its title above it (if it has one), its notes below."""
    names = [escape(column.name) for column in table.columns]
    rules = ["---:" if column.is_number else "---" for column in table.columns]
    rows = [_texts(table.columns, row) for row in table.rows]
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
    return _join([title, "\n".join(lines), "\n".join(notes + meanings)])


def _texts(columns: tuple[Column, ...], row: tuple[Entry, ...]) -> list[str]:
    return [escape(entry.text) for _, entry in zip(columns, row, strict=True)]


def _browser(browser: Browser) -> str:
    """Where the pictures are, and the ends of the list for the first pair."""
    intro = (
        f"**{escape(browser.title)}** The images with their truth and both predictions can be "
        f"paged through in [report.html](report.html). {escape(browser.note)}"
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
        blocks.append(table(Table(title, columns, entries)) if rows else none)
    return _join(blocks)


def _gallery(gallery: Gallery) -> str:
    """Which images a gallery shows: Markdown has no pictures inside the file."""
    rows = [
        f"- {escape(row.title)}: {', '.join(escape(tile.name) for tile in row.tiles)}"
        for row in gallery.rows
    ]
    return _join([_paragraph(gallery.rule), "\n".join(rows)])
