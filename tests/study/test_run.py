"""The whole command: the grid in its own process, later runs in this one."""

import fcntl
import hashlib
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tlunet.model.scores import from_table, summarise
from tlunet.runs.masks import read_masks

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]
GRID = ("-m", "encoder=resnet", "init=random,synthetic", "frac=1.0,0.5")
PAPERS = ("-m", "encoder=resnet,densenet", *GRID[2:])


@pytest.fixture(scope="module")
def grid(
    run_py: Run, tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Half of the paper's grid in miniature, and its output."""
    cwd = tmp_path_factory.mktemp("grid")
    return cwd, run_py(*GRID, *tiny, cwd=cwd)


def test_the_grid_runs_to_its_end(grid: tuple) -> None:
    ended_well(*grid, encoders=("resnet",))


@pytest.mark.slow
def test_the_papers_grid_runs_to_its_end(
    run_py: Run, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    done = run_py(*PAPERS, *tiny, cwd=tmp_path)
    ended_well(tmp_path, done, encoders=("resnet", "densenet"))
    has_report(tmp_path, done, cells=8, factors={"init", "frac", "encoder", "gain"})


def ended_well(
    cwd: Path, done: subprocess.CompletedProcess[str], encoders: tuple[str, ...]
) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SYNTHETIC DATA" in done.stdout
    assert "They are not steel" in done.stdout
    folders = [p.parent for p in (cwd / "runs/synthetic").glob("*/status.json")]
    n = len(folders)
    for k in range(1, n + 1):  # start, one epoch, end
        assert len(re.findall(rf"^[✓ ]*\[{k}/{n}\] \w+ · ", done.stdout, re.M)) >= 3
    assert "\x1b" not in done.stdout
    assert sorted(f.name.rpartition("-")[0] for f in folders) == sorted(
        f"{e}-{i}-{f}-s0" for e in encoders for i in ("random", "synthetic")
        for f in (1.0, 0.5)
    )  # fmt: skip
    for folder in folders:
        assert json.loads((folder / "status.json").read_text())["state"] == "finished"
        for name in ("config.yaml", "split.csv", "history.csv", "metrics.json", "meta.json"):
            assert (folder / name).stat().st_size
        history = pd.read_csv(folder / "history.csv")
        assert history["epoch"].tolist() == [0]
        assert history[["seconds", "train_loss", "val_loss", "val_mla"]].notna().all(axis=None)


def test_results_hold_one_row_a_cell(grid: tuple) -> None:
    cwd, done = grid
    table = pd.read_csv(cwd / "runs/synthetic/results.csv")
    assert len(table) == 4
    assert set(table["state"]) == {"finished"}
    assert set(table["dataset"]) == {"synthetic"}
    assert table["split_fingerprint"].nunique() == 1
    assert table.groupby("frac")["train_images"].first().to_dict() == {0.5: 12, 1.0: 24}
    for name in table["folder"]:
        metrics = json.loads((cwd / "runs/synthetic" / name / "metrics.json").read_text())
        row = table.set_index("folder").loc[name]
        assert row["dice_kaggle"] == pytest.approx(metrics["dice_kaggle"])
        assert row["empty_mla"] == pytest.approx(metrics["empty_predictor"]["mla"])
        assert row["dice_class_3"] == pytest.approx(
            metrics["dice_class"]["per_class"]["3"], nan_ok=True
        )
        assert name in done.stdout


def test_every_summary_follows_from_the_table_of_test_images(grid: tuple) -> None:
    cwd, _ = grid
    for folder in (cwd / "runs/synthetic").glob("resnet*/"):
        table = pd.read_parquet(folder / "test_images.parquet")
        split = pd.read_csv(folder / "split.csv")
        assert set(table["image_id"]) == set(split.query("subset == 'test'")["image_id"])
        metrics = json.loads((folder / "metrics.json").read_text())
        assert summarise(from_table(table), metrics["threshold"]) == metrics


def test_the_kept_masks_are_those_that_were_counted(grid: tuple) -> None:
    cwd, _ = grid
    for folder in sorted((cwd / "runs/synthetic").glob("*-s0-*")):
        counted = pd.read_parquet(folder / "test_images.parquet")
        counted = counted[counted["predicted_pixels"] > 0]
        by_pair = counted.set_index(["image_id", "class_id"])["predicted_pixels"].to_dict()
        runs = read_masks(folder)
        assert {k: sum(map(int, r.split()[1::2])) for k, r in runs.items()} == by_pair


def test_a_sweep_ends_with_its_report(grid: tuple) -> None:
    has_report(*grid, cells=4, factors={"init", "frac", "gain"})


def has_report(
    cwd: Path, done: subprocess.CompletedProcess[str], cells: int, factors: set[str]
) -> None:
    study = cwd / "runs/synthetic"
    assert done.stdout.rstrip().endswith("report: runs/synthetic/report.html")
    text = (study / "report.md").read_text(encoding="utf-8")
    assert text.startswith("# synthetic: transfer learning on synthetic strips (not steel)")
    assert f"{cells} finished cells, 4 test images, seed 0" in text
    claims = pd.read_csv(study / "claims.csv")
    assert set(claims["direction"]) == {"not measured"}  # no cell has ImageNet weights
    for name in ("figure_4", "figure_5", "figure_6", "figure_7", "figure_8", "figure_9"):
        assert (study / "figures" / f"{name}.png").stat().st_size > 1000, name
        assert f"figures/{name}.png" in text
    differences = pd.read_csv(study / "comparisons.csv")
    assert set(differences["factor"]) == factors


def test_cells_of_one_seed_are_paired(grid: tuple) -> None:
    cwd, _ = grid
    states = {}
    for folder in (cwd / "runs/synthetic").glob("resnet-*-1.0-*/"):
        meta = json.loads((folder / "meta.json").read_text())
        states[meta["init"]] = meta["starting_weights"]
    assert states["random"]["identity"] == "random"
    assert states["synthetic"]["identity"].startswith("synthetic:")
    assert states["synthetic"]["loaded"] > 50


def test_the_same_line_again_skips_everything(
    grid: tuple, run_here: Run, tiny: tuple[str, ...]
) -> None:
    cwd, _ = grid
    before = {p: p.stat().st_mtime_ns for p in cwd.glob("runs/synthetic/*/[!.]*")}
    again = run_here(*GRID, *tiny, cwd=cwd)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("already finished") == 4
    assert {p: p.stat().st_mtime_ns for p in cwd.glob("runs/synthetic/*/[!.]*")} == before


def test_frac_1_is_frac_1_0_and_loggers_are_not_in_the_digest(
    grid: tuple, run_here: Run, tiny: tuple[str, ...]
) -> None:
    cwd, _ = grid
    done = run_here("frac=1", "data.residency=memmap", *tiny, cwd=cwd)
    assert done.returncode == 0
    assert done.stdout.count("already finished") == 1


@pytest.mark.slow
def test_wandb_offline_has_one_id_a_cell_and_attempt(
    grid: tuple, run_here: Run, tiny: tuple[str, ...]
) -> None:
    cwd, _ = grid
    ids = []
    for extra in ((), ("force=true",)):
        done = run_here(*tiny, "frac=0.25", "logger=wandb", *extra, cwd=cwd)
        assert done.returncode == 0, done.stdout + done.stderr
        [folder] = (cwd / "runs/synthetic").glob("resnet-random-0.25-*/")
        meta = json.loads((folder / "meta.json").read_text())
        [run] = folder.glob("wandb/offline-run-*/")
        key = f"synthetic|{meta['digest']}|{meta['attempt']}"
        ids.append(hashlib.sha256(key.encode()).hexdigest()[:16])
        assert run.name.endswith(ids[-1])
        assert next(run.glob("*.wandb")).stat().st_size > 1000
    assert ids[0] != ids[1]


def test_force_starts_over(grid: tuple, run_here: Run, tiny: tuple[str, ...]) -> None:
    cwd, _ = grid
    [folder] = (cwd / "runs/synthetic").glob("resnet-random-0.5-*/")
    before = (folder / "metrics.json").stat().st_mtime_ns
    done = run_here("frac=0.5", "force=true", *tiny, cwd=cwd)
    assert done.returncode == 0
    assert (folder / "metrics.json").stat().st_mtime_ns > before
    assert json.loads((folder / "meta.json").read_text())["attempt"] == 1


def test_a_locked_cell_is_not_run_twice(grid: tuple, run_here: Run, tiny: tuple[str, ...]) -> None:
    cwd, _ = grid
    [folder] = (cwd / "runs/synthetic").glob("resnet-random-0.5-*/")
    with (folder / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = run_here("frac=0.5", "force=true", *tiny, cwd=cwd)
    assert "already running in another process" in done.stdout


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (("frac=0",), "frac=0: expected a number above 0 and at most 1"),
        (("encoder=resnt",), "encoder=resnt: no such choice"),
        (("data.root=/nowhere", "data=severstal"), "/nowhere: no such folder"),
        (
            ("-m", "encoder.name=resnet18,tu-vit_tiny_patch16_224"),
            "tu-vit_tiny_patch16_224: does not work with",
        ),
        (("init=checkpoint", "init.path=/nowhere"), "init.path=/nowhere"),
        (("data.split=official",), "the official split has no test images"),
        (("data.n=9", "data.size=[32,32]"), "data=synthetic: size=(32, 32)"),
    ],
)
def test_a_wrong_command_ends_with_2_before_anything_is_run(
    run_here: Run, tiny: tuple[str, ...], tmp_path: Path, line: tuple[str, ...], says: str
) -> None:
    done = run_here(*line[:1], *tiny, *line[1:], cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.glob("runs/*/*/status.json"))
