"""Around the cells of one command: checks before the first, a table after the last."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from tlunet.study import results
from tlunet.study.cell import Cell, resolve
from tlunet.study.console import banner, complain, console, progress, say
from tlunet.study.files import read_json


def prepare(cells: Sequence[DictConfig]) -> list[Path]:
    """Prepare data and names of all cells before the first one runs.

    Returns:
        Their run folders.

    Raises:
        UserError: anything that can be known to be wrong before training.
    """
    with progress() as report:
        resolved = [resolve(cfg, report) for cfg in cells]
    for cell in {cell.data.pack.folder: cell for cell in resolved}.values():
        _introduce(cell)
    return [cell.folder for cell in resolved]


def conclude(folders: Sequence[Path]) -> int:
    """Gather ``results.csv`` of every study touched and show the table.

    Returns:
        0 if every cell is finished, else 1.
    """
    for study in dict.fromkeys(folder.parent for folder in folders):
        study.mkdir(parents=True, exist_ok=True)
        table = results.gather(study)
        console.print(results.show(table, {f.name for f in folders if f.parent == study}))
        say(f"results: {study / 'results.csv'}    runs: {study}/<cell>/")
    unfinished = [f for f in dict.fromkeys(folders) if results.state_of(f) != "finished"]
    for folder in unfinished:
        error = read_json(folder / "status.json").get("error")
        complain(f"{folder}: {results.state_of(folder)}" + (f": {error}" if error else ""))
    return 1 if unfinished else 0


def _introduce(cell: Cell) -> None:
    """Say once, before anything is trained, which data this is."""
    data, pack = cell.data, cell.data.pack
    height, width = pack.size
    test = pack.labels[data.rows["test"]]
    balance = ", ".join(
        f"{name} {total} ({in_test})"
        for name, total, in_test in zip(pack.classes, pack.labels.sum(0), test.sum(0), strict=True)
    )
    free, free_in_test = (int((~labels.any(1)).sum()) for labels in (pack.labels, test))
    lines = [
        f"images with class, in all (in the test part): {balance}; "
        f"free of defects {free} ({free_in_test})"
    ]
    if pack.left_out:
        lines.append(f"{len(pack.left_out)} faults; their images are left out (see meta.json)")
    if data.dataset == "synthetic":
        banner(
            "SYNTHETIC DATA",
            f"{len(pack)} procedural strips of {height}×{width}. They are not steel, and no "
            "result on them is a result on steel.",
            *lines,
            "The real data: Kaggle's train_images/ and train.csv in data/severstal (README.md).",
        )
    else:
        say(f"{data.dataset}: {len(pack)} images of {height}×{width} from {data.root}")
        say("\n".join(lines))
    machine = cell.hardware
    mib = (pack.images.nbytes + pack.masks.nbytes) / 2**20
    size = f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib:.1f} MiB"
    where = "on the GPU" if data.lives_on(machine.device) else "memory-mapped"
    say(f"images and masks: {size}, {where}")
    say(
        f"on {machine.name} ({machine.accelerator}, {machine.precision}, {machine.threads} threads)"
    )
