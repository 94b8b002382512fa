"""The table of all runs."""

from pathlib import Path

from studies import make_truth, write_run
from tlunet.report.analysis.blocks import collect
from tlunet.report.run_tables import cell_tables


def test_the_best_epoch_counts_from_one(tmp_path: Path) -> None:
    write_run(tmp_path, make_truth(20), facts={"best_epoch": 2, "epochs": 3})  # the last of three
    [block] = collect(tmp_path).blocks
    runs, *_ = cell_tables(block)
    shown = dict(zip((c.name for c in runs.columns), runs.rows[0], strict=True))
    assert (shown["best epoch"].text, shown["epochs"].text) == ("3", "3")
