"""Build the report of a study: collect runs, compare them, judge claims, draw figures.

Everything is derived from the run folders, so a report can be regenerated at any time.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tlunet.machine.command_line import tlunet_command
from tlunet.machine.console import complain, say
from tlunet.machine.files import write_text, write_whole
from tlunet.report.analysis.asked import Claim
from tlunet.report.analysis.blocks import Study, collect
from tlunet.report.analysis.claims import judge, read_claims
from tlunet.report.analysis.comparisons import Resampled, compare, score_table
from tlunet.report.analysis.label_worth import worth_table
from tlunet.report.document.document import Document, Part, Section
from tlunet.report.document.html import render as to_html
from tlunet.report.document.markdown import escape
from tlunet.report.document.markdown import render as to_markdown
from tlunet.report.figures.figures import Drawing, figures, forest_plot, pictures, slug
from tlunet.report.findings import alarms, headline, note_on_data, scope
from tlunet.report.labels import HEADING, worth_parts
from tlunet.report.tables import (
    FACTORS,
    MAIN,
    SCORES,
    cell_tables,
    claim_table,
    class_table,
    comparison_table,
    count_images,
    score_tables,
)
from tlunet.runs import results

PAIRED = "Paired difference by image and seed"
OTHERS = tuple(name for name in SCORES if name not in MAIN)


def write_report(folder: Path, claims: Path | None = None) -> Path:
    """Write ``report.html``, ``report.md``, ``figures/`` and the tables behind them.

    The tables are ``results.csv`` (one row per cell), ``scores.csv`` (with intervals),
    ``comparisons.csv``, ``label_worth.csv`` and ``claims.csv``. ``answer.md`` holds the headline.

    Args:
        folder: the study folder.
        claims: a ``claims.yaml`` to copy into the study; default: the study's own, if it has one.

    Returns:
        The path of ``report.html``.

    Raises:
        DataError: the folder is not a study folder.
        ConfigError: the claims cannot be read.
    """
    study = collect(folder)
    own = folder / "claims.yaml"
    if claims and claims.resolve() != own.resolve():
        read_claims(claims)  # an invalid file must not replace a valid one
        write_whole(own, lambda path: shutil.copyfile(claims, path))
    results.gather(folder)
    blocks = [Resampled(block, study=folder) for block in study.blocks]
    scores, comparisons, worth = score_table(blocks), compare(blocks), worth_table(blocks)
    asked = read_claims(own) if own.exists() else []
    judged = judge(asked, blocks) if own.exists() and blocks else None
    tables = {"scores": scores, "comparisons": comparisons, "claims": judged}
    tables["label_worth"] = None if worth.empty else worth
    for name, table in tables.items():
        if table is None:
            (folder / f"{name}.csv").unlink(missing_ok=True)  # from an earlier report
        else:
            write_text(folder / f"{name}.csv", table.to_csv(index=False))

    drawn: set[str] = set()
    sections = [
        section
        for block in blocks
        for section in _block_sections(
            study, block, scores, comparisons, worth, judged, asked, drawn
        )
    ]
    sections += _protocol_sections(comparisons, judged)
    sentences = tuple(headline(blocks))
    document = Document(
        title=_title(study),
        subtitle=_subtitle(study),
        answer=sentences,
        alarms=tuple(alarms(study)),
        sections=tuple(sections),
    )
    for file in (folder / "figures").glob("*.*"):
        if file.stem not in drawn:
            file.unlink()  # from an earlier report, of cells that no longer exist
    write_text(folder / "answer.md", "\n\n".join(map(escape, sentences)) + "\n")
    write_text(folder / "report.md", to_markdown(document))
    write_text(folder / "report.html", to_html(document))
    return folder / "report.html"


def conclude_study(folder: Path, claims: Path | None) -> bool:
    """Write the report at the end of a sweep, unless it is up to date.

    Args:
        folder: the study folder.
        claims: the claims to judge; see :func:`write_report`.

    Returns:
        Whether it was written.
    """
    report = folder / "report.html"
    written = report.stat().st_mtime if report.exists() else 0.0
    is_due = any(s.stat().st_mtime >= written for s in folder.glob("*/status.json"))
    if is_due:
        say("writing the report")
        try:
            write_report(folder, claims)
        except OSError as error:  # for example a full disk: the runs are safe
            complain(
                f"report: cannot be written ({error}); run: {tlunet_command('report', folder)}"
            )
            return False
    say(f"report: {report}")
    return is_due


def _title(study: Study) -> str:
    datasets = " and ".join(dict.fromkeys(block.dataset for block in study.blocks)) or "no data yet"
    named = {"synthetic": "synthetic strips (not steel)", "neu_seg": "NEU-Seg (not Severstal)",
             "severstal": "Severstal"}.get(datasets, f"{datasets} (not Severstal)")  # fmt: skip
    return f"{study.folder.resolve().name}: transfer learning on {named}"


def _subtitle(study: Study) -> str:
    if not study.blocks:
        return "No finished cells."
    cells = len({folder for block in study.blocks for folder in block.cells["folder"]})
    images = " / ".join(dict.fromkeys(map(count_images, study.blocks)))
    seeds = sorted({seed for block in study.blocks for seed in block.seeds})
    return (
        f"{cells} finished {'cell' if cells == 1 else 'cells'}, {images}, "
        f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}. "
        f"{scope(study.blocks)}"
    )


def _block_sections(
    study: Study,
    block: Resampled,
    scores: pd.DataFrame,
    comparisons: pd.DataFrame,
    worth: pd.DataFrame,
    judged: pd.DataFrame | None,
    asked: Sequence[Claim],
    drawn: set[str],
) -> list[Section]:
    title = block.block.title
    several = len(study.blocks) > 1
    prefix = f"{title}: " if several else ""
    stem = f"{slug(title)}-" if several else ""
    scores = scores[scores["block"] == title]
    comparisons = comparisons[comparisons["block"] == title]
    worth = worth[worth["block"] == title]
    draw = Drawing(study.folder, stem, drawn)
    note = note_on_data(block.block)
    main, other = score_tables(scores, block.block)

    sections = [Section(f"{prefix}Test scores", (*([note] if note else []), main))]
    if plot := forest_plot(comparisons, asked, draw):
        sections.insert(0, Section(f"{prefix}Forest plot", tuple(plot)))
    for factor, heading in FACTORS.items():
        if table := comparison_table(PAIRED, comparisons, factor, MAIN):
            sections.append(Section(prefix + heading, (table,)))
    if parts := worth_parts(worth):
        sections.append(Section(prefix + HEADING, tuple(parts)))
    if judged is not None and (judged["block"] == title).any():
        own = judged[judged["block"] == title]
        sections.append(Section(f"{prefix}The paper's claims", (claim_table(own),)))
    sections.append(Section(f"{prefix}Figures", tuple(figures(block, scores, draw, worth))))
    sections.append(Section(f"{prefix}Images", tuple(pictures(study.folder, block, draw))))
    sections.append(Section(f"{prefix}Classes", (class_table(scores, block.block),)))
    rest: list[Part] = [other]
    for factor, heading in FACTORS.items():
        if table := comparison_table(heading, comparisons, factor, OTHERS):
            rest.append(table)
    sections.append(Section(f"{prefix}Additional metrics", tuple(rest), folded=True))
    sections.append(Section(f"{prefix}Runs", tuple(cell_tables(block.block)), folded=True))
    return sections


def _protocol_sections(comparisons: pd.DataFrame, judged: pd.DataFrame | None) -> list[Section]:
    title = "between protocols"
    sections = []
    heading = FACTORS["protocol"]
    if table := comparison_table(PAIRED, comparisons, "protocol", (*MAIN, *OTHERS)):
        sections.append(Section(heading, (table,)))
    if judged is not None and (judged["block"] == title).any():
        table = claim_table(judged[judged["block"] == title])
        sections.append(Section("The paper's claims", (table,)))
    return sections
