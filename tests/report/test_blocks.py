"""Which cells share a table, which must not, and how missing cells are reported."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from studies import CLASSES, make_truth, set_state, write_grid, write_run
from tlunet.errors import DataError
from tlunet.report.analysis.blocks import Key, Study, collect, display_order
from tlunet.report.analysis.comparisons import compare
from tlunet.report.analysis.resampled import Resampled, score_table

BALANCED = "tlunet.model.losses.BalancedLoss"


@pytest.fixture
def truth() -> dict[str, np.ndarray]:
    return make_truth(12)


def keys(study: Study) -> list[str]:
    (block,) = study.blocks
    return [str(key) for key in block.keys]


def test_cells_stand_in_the_papers_order(tmp_path: Path, truth: dict[str, np.ndarray]) -> None:
    for encoder in ("efficientnet", "densenet", "resnet"):
        for init in ("synthetic", "random", "imagenet"):
            for frac in (0.5, 1.0):
                write_run(tmp_path, truth, encoder=encoder, init=init, frac=frac)
    found = keys(collect(tmp_path))
    assert found[:4] == [
        "resnet · random · 1.0", "resnet · imagenet · 1.0", "resnet · synthetic · 1.0",
        "densenet · random · 1.0",
    ]  # fmt: skip
    assert found[8:10] == ["efficientnet · synthetic · 1.0", "resnet · random · 0.5"]
    assert len(found) == 18


def test_names_that_the_paper_does_not_have_follow_by_name() -> None:
    assert display_order(["b", "densenet", "a", "random", "resnet", "a"]) == [
        "resnet", "densenet", "random", "a", "b",
    ]  # fmt: skip


def test_a_block_holds_what_its_runs_say(tmp_path: Path, truth: dict[str, np.ndarray]) -> None:
    for seed in (2, 0):
        write_run(tmp_path, truth, seed=seed, dead=[4] if seed else [])
    (block,) = collect(tmp_path).blocks
    assert block.title == block.dataset == "synthetic"
    assert block.classes == CLASSES
    assert block.image_ids == tuple(sorted(truth))
    assert block.seeds == [0, 2]
    assert block.missing == ()
    assert (block.threshold, block.splits) == (0.5, {0: "5" * 64, 2: "5" * 64})
    assert len(block.history) == 6
    runs = block.runs(Key("resnet", "random", 1.0))
    assert runs["dead_classes"].tolist() == [[], [4]]
    assert block.empty_predictor["dice_image"] == 0
    assert block.settings["loss"] == "PaperLoss"
    assert block.settings["betas"] == "[0.99, 0.99]"
    metrics = json.loads((tmp_path / runs["folder"].iloc[0] / "metrics.json").read_text())
    assert block.empty_predictor == metrics["empty_predictor"]


def test_another_loss_is_another_block(tmp_path: Path, truth: dict[str, np.ndarray]) -> None:
    write_run(tmp_path, truth)
    write_run(tmp_path, truth, loss=BALANCED)
    titles = [block.title for block in collect(tmp_path).blocks]
    assert titles == ["synthetic · loss=BalancedLoss", "synthetic · loss=PaperLoss"]


def test_another_split_is_another_block(tmp_path: Path, truth: dict[str, np.ndarray]) -> None:
    write_run(tmp_path, truth)
    other = {"data": {"split_seed": 1}, "facts": {"split_fingerprint": "9" * 64}}
    write_run(tmp_path, truth, tag="b", science={"split": "t"}, **other)
    first, second = collect(tmp_path).blocks
    assert [first.title, second.title] == ["synthetic · split_seed=0", "synthetic · split_seed=1"]
    assert (first.splits, second.splits) == ({0: "5" * 64}, {0: "9" * 64})


def test_versions_of_a_data_set_are_told_apart(
    tmp_path: Path, truth: dict[str, np.ndarray]
) -> None:
    for fingerprint, n in (("a" * 64, 90), ("b" * 64, 120)):
        write_run(
            tmp_path, truth, tag=fingerprint[0], science={"data": fingerprint},
            facts={"data_fingerprint": fingerprint, "train_images": n},
        )  # fmt: skip
    titles = [block.title for block in collect(tmp_path).blocks]
    totals = [int(title.partition("images=")[2].split(" ")[0]) for title in titles]
    assert sorted(totals)[1] - sorted(totals)[0] == 30
    assert [title.partition("data=")[2] for title in titles] in (
        ["a" * 8, "b" * 8],
        ["b" * 8, "a" * 8],
    )


def test_another_data_set_is_another_block(tmp_path: Path, truth: dict[str, np.ndarray]) -> None:
    write_run(tmp_path, truth)
    write_run(tmp_path, truth, tag="b", dataset="neu_seg", science={"data": "e"})
    assert [b.title for b in collect(tmp_path).blocks] == ["neu_seg", "synthetic"]


@pytest.mark.parametrize(
    ("science", "facts"),
    [
        ({"data": "e"}, {"data_fingerprint": "e" * 64}),
        ({"split": "t"}, {"split_fingerprint": "e" * 64}),
        ({"optimizer": {"eps": 1e-4}}, {}),
        ({"augment": {"_target_": "tlunet.data.augment.Augment", "vertical": 0.0}}, {}),
    ],
)
def test_blocks_that_differ_in_what_has_no_short_name_are_told_apart(
    tmp_path: Path, truth: dict[str, np.ndarray], science: dict, facts: dict
) -> None:
    """Tables are selected by block title: equal titles would be mixed up."""
    write_run(tmp_path, truth, skill=0.9)
    write_run(tmp_path, truth, skill=0.2, tag="b", science=science, facts=facts)
    blocks = collect(tmp_path).blocks
    assert len(blocks) == 2
    assert len({block.title for block in blocks}) == 2


def test_near_duplicates_are_those_of_the_split(
    tmp_path: Path, truth: dict[str, np.ndarray]
) -> None:
    write_run(tmp_path, truth, groups=[7, 7, 3, *range(20, 29)])
    (block,) = collect(tmp_path).blocks
    assert block.groups.tolist() == [1, 1, 0, *range(2, 11)]


def test_names_of_images_stay_as_they_are_written(tmp_path: Path) -> None:
    names = ["NA", "007", "7", "1e3", "null"]
    write_run(tmp_path, dict(zip(names, make_truth(5).values(), strict=True)), groups=range(5))
    (block,) = collect(tmp_path).blocks
    assert block.image_ids == tuple(sorted(names))
    assert block.groups.tolist() == [names.index(name) for name in sorted(names)]


@pytest.mark.parametrize("names", [["0000.jpg", "more.jpg"], ["other.jpg"], []])
def test_a_split_with_other_test_images_is_a_problem(
    tmp_path: Path, truth: dict[str, np.ndarray], names: list[str]
) -> None:
    run = write_run(tmp_path, truth)
    split = pd.read_csv(run / "split.csv").iloc[1:]  # in place of the first, 0000.jpg
    other = pd.DataFrame({"image_id": names, "subset": "test", "group": 99})
    pd.concat([split, other]).to_csv(run / "split.csv", index=False)
    (problem,) = collect(tmp_path).problems
    assert "are not the test set of split.csv" in problem


def test_missing_cells_of_the_grid_are_named(tmp_path: Path) -> None:
    write_grid(tmp_path, 12, seeds=(0, 1))
    shutil.rmtree(next(tmp_path.glob("resnet-imagenet-0.5-s1-*")))
    shutil.rmtree(next(tmp_path.glob("densenet-random-1.0-s0-*")))
    (block,) = collect(tmp_path).blocks
    assert set(block.missing) == {
        "resnet · imagenet · 0.5 · seed 1", "densenet · random · 1.0 · seed 0",
    }  # fmt: skip


def test_a_baseline_needs_no_more_than_its_own_grid(
    tmp_path: Path, truth: dict[str, np.ndarray]
) -> None:
    """As in make run without the hub: one encoder from random weights, one seed."""
    write_run(tmp_path, truth, encoder="densenet")
    for seed in (0, 1):
        write_run(tmp_path, truth, seed=seed)
        write_run(tmp_path, truth, seed=seed, init="imagenet")
    (block,) = collect(tmp_path).blocks
    assert block.missing == ()


def test_failed_and_running_cells_are_listed(tmp_path: Path, truth: dict[str, np.ndarray]) -> None:
    write_run(tmp_path, truth)
    set_state(write_run(tmp_path, truth, init="imagenet"), "failed", "no weights")
    set_state(write_run(tmp_path, truth, seed=1), "running")
    study = collect(tmp_path)
    assert study.unfinished == (
        ("resnet · imagenet · 1.0 · seed 0", "failed", "no weights"),
        ("resnet · random · 1.0 · seed 1", "running", ""),
    )
    assert keys(study) == ["resnet · random · 1.0"]
    assert study.problems == ()


def _truncate(name: str) -> object:
    def harm(run: Path) -> None:
        content = (run / name).read_bytes()
        (run / name).write_bytes(content[: len(content) // 2])

    return harm


def _remove(name: str) -> object:
    return lambda run: (run / name).unlink()


def _replace(name: str, text: str) -> object:
    return lambda run: (run / name).write_text(text)


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(_truncate("test_images.parquet"), id="parquet truncated"),
        pytest.param(_remove("test_images.parquet"), id="no parquet"),
        pytest.param(_remove("metrics.json"), id="no metrics"),
        pytest.param(_truncate("metrics.json"), id="metrics truncated"),
        pytest.param(_replace("status.json", "{"), id="status truncated"),
        pytest.param(_replace("status.json", "{}"), id="status without a state"),
        pytest.param(_remove("meta.json"), id="no meta"),
        pytest.param(_remove("split.csv"), id="no split"),
        pytest.param(_replace("split.csv", "image_id,subset,group\n"), id="split without rows"),
        pytest.param(_replace("history.csv", ""), id="history empty"),
        pytest.param(_remove("config.yaml"), id="no config"),
        pytest.param(_replace("config.yaml", "a: [1\nb"), id="config is not YAML"),
        pytest.param(_replace("config.yaml", "epochs: 3\n"), id="config without keys"),
    ],
)
def test_a_run_that_cannot_be_read_is_a_problem_and_the_others_stay(
    tmp_path: Path, truth: dict[str, np.ndarray], harm: object
) -> None:
    write_run(tmp_path, truth)
    broken = write_run(tmp_path, truth, init="imagenet")
    harm(broken)  # type: ignore[operator]
    study = collect(tmp_path)
    assert keys(study) == ["resnet · random · 1.0"]
    (problem,) = study.problems
    assert problem.startswith(f"{broken.name}: cannot be read (")
    assert "force=true" in problem
    assert "\n" not in problem


def test_two_recipes_of_one_name_are_two_initialisations(
    tmp_path: Path, truth: dict[str, np.ndarray]
) -> None:
    write_run(tmp_path, truth)
    write_run(tmp_path, truth, init="synthetic", n=192)
    write_run(tmp_path, truth, init="synthetic", n=1024, tag="b", science={"start": "other"})
    study = collect(tmp_path)
    assert keys(study) == [
        "resnet · random · 1.0", "resnet · synthetic n=1024 · 1.0",
        "resnet · synthetic n=192 · 1.0",
    ]  # fmt: skip
    assert study.problems == ()


def test_of_two_runs_of_one_cell_the_newer_is_kept(
    tmp_path: Path, truth: dict[str, np.ndarray]
) -> None:
    """By the time in status.json, whatever the folder names."""
    for tag, day, skill in (("a", 3, 0.9), ("b", 2, 0.3)):
        write_run(
            tmp_path, truth, init="imagenet", tag=tag, skill=skill, science={"start": tag},
            time=f"2026-01-0{day}T00:00:00",
        )  # fmt: skip
    study = collect(tmp_path)
    (block,) = study.blocks
    assert block.cells["folder"].str.endswith("a").tolist() == [True]
    (problem,) = study.problems
    assert problem.startswith("resnet-imagenet-1.0-s0-PaperLoss"[:20])
    assert problem.split(":")[0].endswith("b")
    assert "the newer one is shown" in problem


def test_no_study(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        collect(tmp_path / "nowhere")
    (tmp_path / "figures").mkdir()
    with pytest.raises(DataError, match="no run folder in it"):
        collect(tmp_path)


def test_order_of_rows_and_folders_changes_nothing(tmp_path: Path) -> None:
    study = write_grid(tmp_path / "a", 60, seeds=(0, 1), encoders=("resnet",), fracs=(1.0,))
    shuffled = tmp_path / "b"
    rng = np.random.default_rng(0)
    for k, run in enumerate(rng.permutation(sorted(study.iterdir()))):
        to = shutil.copytree(run, shuffled / f"cell{k}")
        table = pd.read_parquet(to / "test_images.parquet")
        table.sample(frac=1, random_state=k).to_parquet(to / "test_images.parquet", index=False)
        split = pd.read_csv(to / "split.csv")
        split.sample(frac=1, random_state=k).to_csv(to / "split.csv", index=False)
    found = []
    for folder in (study, shuffled):
        (block,) = collect(folder).blocks
        resampled = [Resampled(block, 50)]
        found.append((score_table(resampled), compare(resampled), block.history))
    for before, after in zip(*found, strict=True):
        pd.testing.assert_frame_equal(before, after)
