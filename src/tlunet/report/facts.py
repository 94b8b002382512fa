"""What a study trained, on what, when and where: the lines at the top of a report."""

from collections.abc import Iterable, Iterator

import pandas as pd

from tlunet.report.analysis.blocks import Block, Study
from tlunet.report.document.document import Fact
from tlunet.report.tables import count_images
from tlunet.runs.names import init_name, percent

DATASETS = {"synthetic": "synthetic strips", "neu_seg": "NEU-Seg", "severstal": "Severstal"}


def facts(study: Study) -> Iterator[Fact]:
    """Yield the facts of all blocks; what differs between blocks is separated by slashes."""
    if not study.blocks:
        return
    cells = pd.concat([block.cells for block in study.blocks])
    for name, one in (
        ("Trained on", _data), ("Training", _training), ("Starting weights", _starts),
        ("Device", _device),
    ):  # fmt: skip
        yield Fact(name, " / ".join(_unique(map(one, study.blocks))))
    commits = _unique("unknown" if pd.isna(c) else str(c)[:8] for c in cells["commit"])
    yield Fact("Commit", ", ".join(commits))
    yield Fact("Last run finished", str(cells["finished"].max())[:16].replace("T", " "))


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _data(block: Block) -> str:
    cells = block.cells
    height, width = cells["size"].iloc[0]
    most = int(cells["train_images"].max())
    fracs = ", ".join(percent(f) for f in sorted(cells["frac"].unique(), reverse=True))
    return (
        f"{DATASETS.get(block.dataset, block.dataset)}: {most:,} images at {height} × {width} "
        f"({fracs} of them); tested on {count_images(block)}"
    )


def _training(block: Block) -> str:
    known = block.settings
    loss = known.get("loss", "")
    return f"{int(block.cells['epochs'].max())} epochs, {loss}, batch {known.get('batch_size')}"


def _starts(block: Block) -> str:
    cells = block.cells.drop_duplicates("init")
    return ", ".join(
        f"{init_name(c['init'])} ({c['recipe']})" if c["recipe"] else init_name(c["init"])
        for _, c in cells.iterrows()
    )


def _device(block: Block) -> str:
    pairs = block.cells[["hardware", "precision"]].drop_duplicates()
    return ", ".join(f"{hardware} ({precision})" for hardware, precision in pairs.to_numpy())
