"""Tables of the runs: what each trained, what it cost, and what all share."""

from typing import Any

import pandas as pd

from tlunet.report.analysis.blocks import Block, Key
from tlunet.report.document.document import Column, Entry, Table
from tlunet.report.values import entry, words
from tlunet.runs.names import condition


def cell_tables(block: Block) -> list[Table]:
    """Build the tables of runs, of encoders with their costs, and of the shared settings.

    What is the same in all runs is in the last one only.
    """
    facts = (
        ("best epoch", "best_epoch", "{:.0f}", 1), ("epochs", "epochs", "{:.0f}", 1),
        ("training images", "train_images", "{:.0f}", 1), ("training s", "seconds", "{:.0f}", 1),
        ("images/s", "images_per_second", "{:.1f}", 1),
        ("peak memory (GiB)", "peak_memory", "{:.2f}", 2**30),
    )  # fmt: skip
    costs = (
        ("parameters (M)", "parameters", "{:.2f}", 1e6),
        ("encoder (M)", "encoder_parameters", "{:.2f}", 1e6),
        ("GFLOP per image", "gflop_per_image", "{:.2f}", 1),
    )
    cells = block.cells
    texts = {
        "starting weights": [c["recipe"] or c["init"] for _, c in cells.iterrows()],
        "hardware": cells["hardware"].tolist(), "precision": cells["precision"].tolist(),
        "commit": [_commit(c) for _, c in cells.iterrows()],
    }  # fmt: skip
    differing = {k: v for k, v in texts.items() if len(set(v)) > 1 and k != "starting weights"}
    runs = [f"{condition(*_key(c))} · seed {c['seed']:.0f}" for _, c in cells.iterrows()]
    main = Table(
        "All runs",
        (Column("run"), *(Column(name, True) for name, *_ in facts)),
        tuple(
            (Entry(run, run), *(_fact(c, key, form, unit) for _, key, form, unit in facts))
            for run, (_, c) in zip(runs, cells.iterrows(), strict=True)
        ),
    )
    origin = Table(
        "Origin of the runs",
        (Column("run"), Column("starting weights"), *map(Column, differing), Column("folder")),
        tuple(
            (
                Entry(run, run), *words(texts["starting weights"][k]),
                *words(*(values[k] for values in differing.values())),
                *words(cells["folder"].iloc[k]),
            )
            for k, run in enumerate(runs)
        ),
        notes=("A + after the commit: uncommitted changes. The folder has the run's config.yaml.",),
    )  # fmt: skip
    encoders = cells.drop_duplicates("encoder")
    cost = Table(
        "Encoders",
        (Column("encoder"), *(Column(name, True) for name, *_ in costs)),
        tuple(
            (*words(c["encoder"]), *(_fact(c, key, form, unit) for _, key, form, unit in costs))
            for _, c in encoders.iterrows()
        ),
        notes=(
            "GFLOP: forward pass, one multiply-add counts as two operations; training costs about "
            "three times as much.",
        ),
    )
    first = cells.iloc[0]
    splits = ", ".join(dict.fromkeys(block.splits.values()))
    prints = [("data set", block.dataset), ("split fingerprint", splits),
              ("data fingerprint", first["data_fingerprint"]),
              ("images (height × width)", " × ".join(map(str, first["size"]))),
              *((k, v[0]) for k, v in texts.items()
                if k not in differing and k != "starting weights"),
              *first["versions"].items()]  # fmt: skip
    shared = [(k, v) for k, v in (*block.settings.items(), *prints)]
    rows = tuple((Entry(k, k), Entry(str(v), str(v))) for k, v in shared)
    return [
        main,
        origin,
        cost,
        Table("Shared settings", (Column("setting"), Column("value")), rows),
    ]


def _key(cell: "pd.Series[Any]") -> Key:
    return Key(cell["encoder"], cell["init"], cell["frac"])


def _fact(cell: "pd.Series[Any]", key: str, form: str, unit: float) -> Entry:
    value = cell.get(key)
    value = value if value is None or pd.isna(value) else value / unit
    if key == "best_epoch" and value is not None and not pd.isna(value):
        value += 1  # counted from 0 in the files
    return entry(value, form)


def _commit(cell: "pd.Series[Any]") -> str:
    commit = "unknown" if pd.isna(cell["commit"]) else cell["commit"][:8]
    return commit + ("+" if cell["dirty"] is True else "")
