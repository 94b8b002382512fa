"""Write the overview of a data set to a file."""

from pathlib import Path

from tlunet.errors import DataError, reason_of
from tlunet.machine.files import write_text
from tlunet.report.dataset.facts import Facts
from tlunet.report.dataset.page import document
from tlunet.report.dataset.sheet import sheet
from tlunet.report.document import html
from tlunet.report.figures.style import save_png


def write(facts: Facts, file: Path) -> None:
    """Write a page (``.html``) or an image (``.png``), atomically.

    Raises:
        DataError: an image has changed since the survey, or the file cannot be written.
    """
    try:
        if file.suffix == ".png":
            save_png(sheet(facts), file)
        else:
            write_text(file, html.render(document(facts)))
    except OSError as error:
        raise DataError(f"{file}: cannot be written ({reason_of(error)})") from error
