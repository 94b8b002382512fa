import io
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch.utils.data import DataLoader

from tlunet.bench import bench, page
from tlunet.bench.about import INSTRUCTIONS
from tlunet.bench.bench import AMP, OURS, PLAIN, TUNED, Plan, file_name, measure, show
from tlunet.bench.commands import Prompt, start_up
from tlunet.bench.turns import Clock, Side, Watched, earned_at, ratios, take_turns
from tlunet.data.datamodule import DefectDataModule
from tlunet.errors import ConfigError
from tlunet.machine import device as hardware
from tlunet.machine import memory
from tlunet.report.render import render

ROOT = Path(__file__).parents[2]

# Raised by a separately compiled part of the network: dynamo inspects its input.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The smallest real record."""
    machine = hardware.choose("cpu", threads=1)
    cache = tmp_path_factory.mktemp("cache")
    plan = Plan(
        "resnet18", (32, 64), batch_size=2, strips=16, rounds=1, steps=1, warmup=1,
        variants=("compile_heads",),
    )  # fmt: skip
    loader, trainers, said = DefectDataModule._loader, [], []

    def note(data: DefectDataModule, subset: str, train: bool) -> DataLoader:
        trainers.append(data.trainer)
        return loader(data, subset, train)

    with pytest.MonkeyPatch.context() as patch:
        commands = {"nothing": Prompt(["-c", ""]), "wrong": Prompt(["-c", "raise SystemExit(3)"])}
        patch.setattr(
            bench, "start_up", lambda study, say: start_up(commands, repeats=1, say=said.append)
        )
        patch.setattr(DefectDataModule, "_loader", note)
        record = measure(plan, machine, cache, say=lambda text: None)
    assert all(trainers)  # else the first turn would not know the GPU
    assert said == ["wrong: exit code 3, expected 0; not measured"]
    return record


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is smaller than what this DataLoader")
@pytest.mark.filterwarnings("ignore:Trying to infer the `batch_size`")
def test_a_record_says_what_was_measured(record: dict) -> None:
    record = json.loads(json.dumps(record))  # plain values only
    sides = record["sides"]
    assert set(sides) == {OURS, PLAIN, TUNED, "torch.compile: heads"} | ({AMP} & set(sides))
    for side in sides.values():
        assert len(side["images_per_second"]) == len(side["eval_images_per_second"]) == 1
        assert all(0 <= share < 1 for share in side["waiting"])
        assert 0 < side["first_step_seconds"][0] < 600
    assert "earned_at_step" in sides["torch.compile: heads"]
    assert "earned_at_step" not in sides[OURS]
    (ours,), (plain,) = (sides[name]["images_per_second"] for name in (OURS, PLAIN))
    assert record["ratio_cpu_resnet18_32x64"] == pytest.approx(ours / plain)
    spent = record["kernels"]["milliseconds"]
    assert {"convolution", "batch norm", "optimiser"} <= set(spent)
    assert sum(spent.values()) == pytest.approx(record["kernels"]["busy_ms"], abs=0.01)
    assert record["kernels"]["convolution_utilisation"] > 0
    assert [stage["name"] for stage in record["stages"]] == [
        "input", "encoder", "decoder", "heads", "loss", "optimiser",
    ]  # fmt: skip
    arithmetic = sum(stage["gflop"] for stage in record["stages"]) / record["batch_size"]
    # Forward and backward cost three forward passes; the first layer needs no gradient for its
    # input, and the decoder's small kernels save FLOPs.
    assert 0.7 < arithmetic / (3 * record["forward_gflop"]) < 1
    tflop = record["images_per_second"] * 3 * record["forward_gflop"] / 1e3
    assert record["tflop_per_second"] == pytest.approx(tflop)
    assert record["model_flop_utilisation"] == pytest.approx(tflop / record["matrix_peak_tflop"])
    assert record["pack_building"]["images"] == 16
    assert record["pack_building"]["peak_memory"] >= record["pack_building"]["memory_before"] > 0
    assert 0 < record["start_up"]["nothing"] < 60
    assert "wrong" not in record["start_up"]  # a command that failed is not timed
    cell = record["cell"]
    assert (cell["epochs"], cell["images"], len(cell["epoch_seconds"])) == (2, 12, 2)
    assert 0 < cell["beside_training"] < 1  # validation, checkpoints
    assert cell["seconds"] > sum(cell["epoch_seconds"])
    assert record["hardware"]["gpu"] is None
    if cpu := record["hardware"]["cpu"]:  # lscpu exists
        assert cpu["Model name"]
        assert set(cpu["instructions"]) <= set(INSTRUCTIONS)
    assert record["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert file_name(record).endswith("-resnet18-32x64.json")


@pytest.mark.slow
def test_the_page_shows_every_number_of_a_record(record: dict, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / file_name(record)).write_text(json.dumps(record))
    (tmp_path / "results" / "other.json").write_text(json.dumps({"rows": [{"a_b": 1, "c": None}]}))
    kinds = [kind for kind in page.BLOCKS if kind != "table"]
    text = "".join(f"<!-- {kind} results -->\n<!-- end -->\n" for kind in kinds)
    text = text.replace("gpu results", "gpu results/gpu.jsonl")
    text += "<!-- table results/other.json rows -->\n<!-- end -->\n"
    (tmp_path / "README.md").write_text(text)
    shown = render(tmp_path / "README.md", page.BLOCKS)
    for value in (record["images_per_second"], record["eval_images_per_second"]):
        assert f"| {value:.3g} |" in shown
    assert f"**{record['ratio_cpu_resnet18_32x64']:.2f}**" in shown
    assert "| not measured |" in shown  # the later rounds of the only one
    assert f"| {record['cell']['epoch_seconds'][-1]:.3g} |" in shown
    assert f"{record['sides'][OURS]['first_step_seconds'][0]:.3g} | not measured |" in shown
    assert "| a b | c |\n| --- | ---: |\n| 1 | not measured |" in shown


def test_the_committed_page_is_rendered_from_the_records() -> None:
    file = ROOT / "benchmarks" / "README.md"
    assert render(file, page.BLOCKS) == file.read_text(encoding="utf-8")


class _Module:
    """Fake trainer with 10 images per step."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, steps: int, callbacks: list[Clock]) -> None:
        batches = iter(Watched([{"id": list(range(10))}] * 3, callbacks[0]))
        for i in range(steps):
            batch = next(batches)
            time.sleep(self.seconds)
            callbacks[0].on_train_batch_end(None, None, None, batch, i)


def test_sides_take_turns_and_the_warm_up_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda accelerator: None)  # slow in a suite
    order = []
    sides = [
        Side(name, _Module(0.002), before=lambda name=name: order.append(name)) for name in "ab"
    ]
    take_turns(sides, rounds=2, steps=4, warmup=2, accelerator="cpu")
    assert order == ["a", "b"] * 2
    assert [len(side.images) for side in sides] == [2, 2]
    assert all(0 < speed < 10 / 0.002 for side in sides for speed in side.images)


def test_waiting_is_what_the_loader_takes() -> None:
    class Slow:
        def __iter__(self):
            while True:
                time.sleep(0.03)
                yield {"id": [0]}

    clock = Clock(warmup=1, steps=3, accelerator="cpu")
    batches = iter(Watched(Slow(), clock))
    for i in range(4):
        batch = next(batches)
        time.sleep(0.01)
        clock.on_train_batch_end(None, None, None, batch, i)
    assert 0.5 < clock.waiting < 0.95  # three quarters
    assert math.isfinite(clock.images_per_second)


def test_ratios_are_taken_turn_by_turn() -> None:
    found = ratios([2.0, 6.0, 4.0, 5.0], [1.0, 2.0, 1.0, 5.0])
    assert found == {"median": 2.5, "min": 1.0, "max": 4.0}


@pytest.mark.slow
def test_the_console_shows_it(record: dict) -> None:
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(show([record]))
    text = console.export_text()
    assert "resnet18 32×64, batch 2" in text
    assert f"{record['ratio_cpu_resnet18_32x64']:.2f} (" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"size": "256"}, "--size 256: expected height x width"),
        ({"size": "64x400", "variants": ("jpeg",)}, "--variant jpeg: expected layout"),
        ({"size": "64x400", "only": ("trainig",)}, "--only trainig: expected training, eval"),
        ({"size": "64x400", "encoder": "resnt18"}, "encoder.name=resnt18: no such encoder"),
    ],
)
def test_what_cannot_be_measured_is_said(words: dict, says: str) -> None:
    machine = hardware.choose("cpu", threads=1)
    with pytest.raises(ConfigError, match=says):
        Plan.of(**({"encoder": "resnet18", "machine": machine} | words))


def test_only_what_was_asked_for_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fit(side: Side, **given: Any) -> None:
        assert given["evaluates"] is False
        for one in side:
            one.images, one.waiting, one.peak, one.first = [2.0], [0.0], [1], [1.0]

    machine = hardware.choose("cpu", threads=1)
    monkeypatch.setattr(bench, "take_turns", fit)
    monkeypatch.setattr(bench.ceilings, "matrix_peak", lambda machine: 1e12)
    monkeypatch.setattr(bench.ceilings, "copy_bandwidth", lambda machine: 1e9)
    plan = Plan.of("resnet18", "32x64", machine, strips=16, warmup=7, only=("training",))
    assert plan.warmup == 7
    record = measure(plan, machine, tmp_path, say=lambda text: None)
    left_out = {
        "inference",
        "stages",
        "pack_building",
        "cell",
        "start_up",
        "eval_images_per_second",
    }
    assert not left_out & set(record)
    assert record["images_per_second"] == 2.0


@pytest.mark.parametrize(
    ("first", "speeds", "step"),
    [
        ((61.0, 1.0), (20.0, 10.0), 121),
        ((1.0, 1.0), (20.0, 10.0), 1),
        ((9.0, 1.0), (10.0, 10.0), None),
    ],
)
def test_when_compiling_has_paid_for_itself(
    first: tuple[float, float], speeds: tuple[float, float], step: int | None
) -> None:
    sides = [
        Side(name, _Module(0), images=[speed], first=[start])
        for name, speed, start in zip("ab", speeds, first, strict=True)
    ]
    assert earned_at(*sides, batch_size=10) == step  # steps of 0.5 and 1 s


def test_two_kinds_of_cpu_with_one_name_have_two_records() -> None:
    cpu = {"accelerator": "cpu", "name": "AMD EPYC"}
    names = {
        file_name({"hardware": cpu | {"precision": p}, "encoder": "resnet18", "size": [64, 400]})
        for p in ("32-true", "bf16-mixed")
    }
    assert names == {
        "cpu-amd-epyc-resnet18-64x400.json", "cpu-amd-epyc-bf16-resnet18-64x400.json",
    }  # fmt: skip


def test_the_stages_of_a_gpu_are_shown_and_the_last_try_counts(tmp_path: Path) -> None:
    lines = [
        {"stage": "versions", "ok": True, "seconds": 1.0, "driver": "580.1"},
        {"stage": "epoch resnet18", "ok": False, "seconds": 2.0, "error": "a\nbroken"},
        {"stage": "profile resnet18 64x400", "ok": True, "seconds": 3.0, "launches": 900,
         "milliseconds": {"convolution": 4.25}},
        {"stage": "epoch resnet18", "ok": True, "seconds": 40.0, "images_per_second": 250.5},
        {"stage": "grid", "ok": False, "seconds": 0.0, "error": "not reached"},
    ]  # fmt: skip
    file = tmp_path / "gpu.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    shown = page.gpu(file)
    assert shown.startswith("driver 580.1.\n")
    assert "| epoch resnet18 | yes | 40.0 | images per second 250.5 |" in shown
    assert "| grid | **no** | 0.0 | error not reached |" in shown
    assert "| profile resnet18 64x400 | 4.25 |" in shown
    assert "broken" not in shown
    (tmp_path / "README.md").write_text("<!-- gpu missing.jsonl -->\n<!-- end -->\n")
    assert "*Not measured.*" in render(tmp_path / "README.md", page.BLOCKS)


def test_a_plan_follows_from_the_hardware() -> None:
    cpu = hardware.choose("cpu", threads=1)
    small, large = (Plan.of("resnet18", size, cpu) for size in ("64x400", "256x1600"))
    assert (small.batch_size, large.batch_size) == (16, 4)
    gpu = Plan.of("resnet18", "256x1600", replace(cpu, accelerator="cuda"))
    assert gpu.batch_size == 16
    assert gpu.warmup * gpu.batch_size >= 2 * 16 * gpu.batch_size  # 16 workers, 2 batches each
    assert gpu.strips > gpu.batch_size * gpu.warmup
