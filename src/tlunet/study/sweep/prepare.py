"""Checks and messages before the first cell of a sweep."""

from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from tlunet.data.checks.describe import gaps, require_training_image, vanished
from tlunet.data.grouping.groups import alike_lines, kept_together
from tlunet.data.sizes import exchanged
from tlunet.machine.console import banner, progress, say
from tlunet.runs.cell import Cell
from tlunet.study.sweep.launcher import Launcher
from tlunet.study.sweep.locate import PlannedCell
from tlunet.study.sweep.sweep import Sweep
from tlunet.study.sweep.weights import fetch_weights
from tlunet.study.training.memory import step_bytes
from tlunet.study.training.resolve import resolve


def prepare(cells: Sequence[DictConfig], launcher: Launcher) -> "Sweep":
    """Prepare the data and run folders of all cells before the first one runs.

    Raises:
        UserError: any problem that can be found before training.
    """
    if not launcher.is_here:
        cells = [_for_elsewhere(cfg) for cfg in cells]
    # Fetched here also for other machines, as many nodes cannot reach the hub.
    fetch_weights(cells, may_run=launcher.is_search or not launcher.is_here)
    with progress() as report:
        resolved = [resolve(cfg, report) for cfg in cells]
    for cell in resolved:
        require_training_image(cell.data.split, cell.frac)
    for folder, cell in {cell.data.pack.folder: cell for cell in resolved}.items():
        _introduce(cell)
        same = [cell for cell in resolved if cell.data.pack.folder == folder]
        _tell_groups(same)
        _warn_of_gaps(same)
    if not launcher.is_here:
        say(
            "shown above: this machine; the cells run wherever "
            f"hydra/launcher={launcher.name} starts them"
        )
    studies = list(dict.fromkeys(cell.folder.parent for cell in resolved))
    if launcher.is_search:
        return Sweep([], launcher, studies)
    return Sweep([PlannedCell(cell.folder, cell.science) for cell in resolved], launcher, studies)


def _for_elsewhere(cfg: DictConfig) -> DictConfig:
    """The cell without hardware that this machine may lack: a login node has no GPU."""
    accelerator = "cpu" if cfg.trainer.accelerator == "cpu" else "auto"
    trainer = {"accelerator": accelerator, "devices": 1, "nodes": 1}
    merged = OmegaConf.merge(cfg, {"trainer": trainer, "data": {"residency": "auto"}})
    assert isinstance(merged, DictConfig)
    return merged


def _introduce(cell: Cell) -> None:
    """Describe the data and the machine once, before training."""
    data, pack = cell.data, cell.data.pack
    height, width = pack.size
    test = pack.labels[data.rows["test"]]
    balance = ", ".join(
        f"{name} {total} ({in_test})"
        for name, total, in_test in zip(pack.classes, pack.labels.sum(0), test.sum(0), strict=True)
    )
    free, free_in_test = (int((~labels.any(1)).sum()) for labels in (pack.labels, test))
    lines = [
        f"images per class, total (test): {balance}; defect-free {free} ({free_in_test})",
        *vanished(pack.labels, pack.mask_labels, pack.classes, pack.size),
        *exchanged(pack.native_sizes, pack.size),
    ]
    if pack.left_out:
        lines.append(f"{len(pack.left_out)} problems; affected images are skipped (see meta.json)")
    if data.dataset.name == "synthetic":
        banner(
            "SYNTHETIC DATA",
            f"{len(pack)} procedural strips of {height}×{width}. They are not steel: "
            "results do not transfer to steel.",
            *lines,
            "Real data: tlunet data get severstal downloads Kaggle's to data/severstal.",
        )
    else:
        say(f"{data.dataset.name}: {len(pack)} images of {height}×{width} from {data.dataset.root}")
        say("\n".join(lines))
    machine = cell.hardware
    mib = pack.nbytes / 2**20
    if machine.accelerator == "cuda":
        data.reserved = step_bytes(cell, cell.config["batch_size"])
    size = f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib:.1f} MiB"
    where = "on the GPU" if data.lives_on(machine.device) else "memory-mapped"
    say(f"images and masks: {size}, {where}")
    say(
        f"on {machine.name} ({machine.accelerator}, {machine.precision}, {machine.threads} threads)"
    )


def _warn_of_gaps(cells: Sequence[Cell]) -> None:
    """Report classes that some subset of the data lacks, each gap once."""
    lines: dict[str, None] = {}
    for cell in cells:
        split, pack = cell.data.split, cell.data.pack
        is_split = pack.index["image_id"].isin(split["image_id"]).to_numpy()  # same order
        lines |= dict.fromkeys(gaps(split, pack.labels[is_split], pack.classes, cell.frac))
    if lines:
        banner("CLASSES ARE MISSING", *lines)


def _tell_groups(cells: Sequence[Cell]) -> None:
    """Say what the splits keep together, each line once."""
    lines: dict[str, None] = {}
    for data in (cell.data for cell in cells):
        is_official = data.split_kind == "official"
        ids = data.split["image_id"].tolist()
        lines |= dict.fromkeys(alike_lines(ids, data.near, duplicates=data.duplicates))
        lines |= dict.fromkeys(kept_together(data.split, rule=data.groups, official=is_official))
    for line in lines:
        say(line)
