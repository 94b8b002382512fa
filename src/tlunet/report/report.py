"""Build the report of a study: collect runs, compare them, judge claims, draw figures.

Everything is derived from the run folders, so a report can be regenerated at any time.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from tlunet.machine.command_line import tlunet_command
from tlunet.machine.console import complain, say
from tlunet.machine.files import write_text, write_whole
from tlunet.report.alarms import alarms
from tlunet.report.analysis.blocks import Study, collect
from tlunet.report.analysis.claims import judge, read_claims
from tlunet.report.analysis.comparisons import compare
from tlunet.report.analysis.flags import flags
from tlunet.report.analysis.label_worth import worth_table
from tlunet.report.analysis.resampled import Resampled, score_table
from tlunet.report.document.document import Document
from tlunet.report.document.html import render as to_html
from tlunet.report.document.markdown import escape
from tlunet.report.document.markdown import render as to_markdown
from tlunet.report.facts import facts
from tlunet.report.findings import headline, scope
from tlunet.report.sections import Results, block_sections, lead, protocol_sections
from tlunet.report.sentences import Finding
from tlunet.report.settings.answer import compares_settings
from tlunet.report.tables import count_images
from tlunet.runs import results


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
    flagged = flags(study.blocks)
    tables["flags"] = None if flagged.empty else flagged
    for name, table in tables.items():
        if table is None:
            (folder / f"{name}.csv").unlink(missing_ok=True)  # from an earlier report
        else:
            write_text(folder / f"{name}.csv", table.to_csv(index=False))

    all_results = Results(study, scores, comparisons, worth, flagged, judged, asked, set())
    sentences = headline(blocks)
    are_settings = compares_settings(blocks)
    between = protocol_sections(all_results, is_led=are_settings)
    document = Document(
        title=_title(study, "settings compared" if are_settings else "transfer learning"),
        subtitle=_subtitle(study),
        answer=tuple(finding.sentence for finding in sentences if finding.is_main),
        scope=tuple(_small(sentences)),
        alarms=tuple(alarms(study)),
        lead=tuple(lead(all_results, blocks)),
        facts=tuple(facts(study)),
        files=tuple(
            f"{name}.csv" for name in ("results", *tables) if (folder / f"{name}.csv").exists()
        ),
        sections=(*between, *(s for block in blocks for s in block_sections(all_results, block))),
    )
    for file in (folder / "figures").glob("*.*"):
        if file.stem not in all_results.drawn:
            file.unlink()  # from an earlier report, of cells that no longer exist
    answer = "\n\n".join(escape(finding.text) for finding in sentences)
    write_text(folder / "answer.md", answer + "\n")
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


def _title(study: Study, about: str) -> str:
    datasets = " and ".join(dict.fromkeys(block.dataset for block in study.blocks)) or "no data yet"
    named = {"synthetic": "synthetic strips (not steel)", "neu_seg": "NEU-Seg (not Severstal)",
             "severstal": "Severstal"}.get(datasets, f"{datasets} (not Severstal)")  # fmt: skip
    return f"{study.folder.resolve().name}: {about} on {named}"


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


def _small(findings: Sequence[Finding]) -> Iterator[str]:
    """What is below the headline, in small type: one paragraph per sentence of the headline."""
    paragraphs: list[list[Finding]] = []
    for finding in findings:
        if finding.is_main or not paragraphs or paragraphs[-1][0].place != finding.place:
            paragraphs.append([])
        paragraphs[-1].append(finding)
    for own in paragraphs:
        texts = (f.detail if f.is_main else f"{f.says} {f.detail}".rstrip() for f in own)
        place = f"{own[0].place}: " if own[0].place else ""
        if text := " ".join(filter(None, texts)):
            yield place + text
