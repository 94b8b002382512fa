"""What a study's page in W&B opens with: the answer, the forest plot, where the report is."""

import re
import socket
from dataclasses import dataclass
from pathlib import Path

FOREST = "forest"  # what the names of forest plots end in; a study of several blocks has several


@dataclass(frozen=True)
class Opening:
    """The first lines of a report in W&B.

    Attributes:
        answer: the sentences of the report's headline, in plain text.
        forests: keys of the forest plots, as the report's run logs them.
        where: where the whole report is.
    """

    answer: tuple[str, ...]
    forests: tuple[str, ...]
    where: str

    @property
    def markdown(self) -> str:
        """The answer and where the report is; the first sentence is bold."""
        first, *rest = map(_escaped, self.answer)
        return "\n\n".join([f"**{first}**", *rest, self.where])


def read_opening(study: Path) -> Opening:
    """Read what a study's report says first; say so if there is no report yet."""
    folder = study.resolve()
    report, answer = folder / "report.html", folder / "answer.md"
    if not (report.exists() and answer.exists()):
        return Opening(("No report yet.",), (), f"To write it: tlunet report {study}")
    text = re.sub(r"\\(.)", r"\1", answer.read_text(encoding="utf-8"))  # it is Markdown
    where = (
        f"The whole report: {report} on {socket.gethostname()}, "
        f"and the artifact report-{folder.name} of this project."
    )
    drawn = sorted(folder.glob(f"figures/*{FOREST}.png"))
    sentences = tuple(part.strip() for part in text.split("\n\n") if part.strip())
    return Opening(sentences or ("No finished cells.",), tuple(map(figure_key, drawn)), where)


def figure_key(file: Path) -> str:
    """Return the name under which a figure is logged."""
    return f"figures/{file.stem}"


def _escaped(text: str) -> str:
    return re.sub(r"[*_\[\]<>`~]", r"\\\g<0>", text)
