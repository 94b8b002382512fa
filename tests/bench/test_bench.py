import io
import json
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch.utils.data import DataLoader

from tlunet.bench import bench, page
from tlunet.bench.bench import AMP, OURS, PLAIN, Plan, file_name, measure, show
from tlunet.bench.commands import start_up
from tlunet.bench.turns import Clock, Side, Watched, ratios, take_turns
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
    loader, trainers = DefectDataModule._loader, []

    def note(data: DefectDataModule, subset: str, train: bool) -> DataLoader:
        trainers.append(data.trainer)
        return loader(data, subset, train)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "start_up", lambda: start_up({"nothing": ["-c", ""]}, repeats=1))
        patch.setattr(DefectDataModule, "_loader", note)
        record = measure(plan, machine, cache, say=lambda text: None)
    assert all(trainers)  # else the first turn would not know the GPU
    return record


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is smaller than what this DataLoader")
@pytest.mark.filterwarnings("ignore:Trying to infer the `batch_size`")
def test_a_record_says_what_was_measured(record: dict) -> None:
    record = json.loads(json.dumps(record))  # plain values only
    sides = record["sides"]
    assert set(sides) == {OURS, PLAIN, "torch.compile: heads"} | ({AMP} & set(sides))
    for side in sides.values():
        assert len(side["images_per_second"]) == len(side["eval_images_per_second"]) == 1
        assert all(0 <= share < 1 for share in side["waiting"])
    (ours,), (plain,) = (sides[name]["images_per_second"] for name in (OURS, PLAIN))
    assert record["ratio_cpu_resnet18_32x64"] == pytest.approx(ours / plain)
    assert [stage["name"] for stage in record["stages"]] == [
        "input", "encoder", "decoder", "heads", "loss", "optimiser",
    ]  # fmt: skip
    arithmetic = sum(stage["gflop"] for stage in record["stages"]) / record["batch_size"]
    # Forward and backward cost three forward passes; the first layer needs no gradient for its
    # input, and the decoder's small kernels save FLOPs.
    assert 0.7 < arithmetic / (3 * record["forward_gflop"]) < 1
    tflop = record["images_per_second"] * 3 * record["forward_gflop"] / 1e3
    assert record["tflop_per_second"] == pytest.approx(tflop)
    assert record["share_of_peak"] == pytest.approx(tflop / record["matrix_peak_tflop"])
    assert record["pack_building"]["images"] == 16
    assert record["pack_building"]["peak_memory"] >= record["pack_building"]["memory_before"] > 0
    assert 0 < record["start_up"]["nothing"] < 60
    assert record["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert file_name(record).endswith("-resnet18-32x64.json")


@pytest.mark.slow
def test_the_page_shows_every_number_of_a_record(record: dict, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / file_name(record)).write_text(json.dumps(record))
    (tmp_path / "results" / "other.json").write_text(json.dumps({"rows": [{"a_b": 1, "c": None}]}))
    kinds = [kind for kind in page.BLOCKS if kind != "table"]
    text = "".join(f"<!-- {kind} results -->\n<!-- end -->\n" for kind in kinds)
    text += "<!-- table results/other.json rows -->\n<!-- end -->\n"
    (tmp_path / "README.md").write_text(text)
    shown = render(tmp_path / "README.md", page.BLOCKS)
    for value in (record["images_per_second"], record["eval_images_per_second"]):
        assert f"| {value:.3g} |" in shown
    assert f"**{record['ratio_cpu_resnet18_32x64']:.2f}**" in shown
    assert "| not measured |" in shown  # the recipe with AMP
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
        ({"size": "64x400", "encoder": "resnt18"}, "encoder.name=resnt18: no such encoder"),
    ],
)
def test_what_cannot_be_measured_is_said(words: dict, says: str) -> None:
    machine = hardware.choose("cpu", threads=1)
    with pytest.raises(ConfigError, match=says):
        Plan.of(**({"encoder": "resnet18", "machine": machine} | words))


def test_a_plan_follows_from_the_hardware() -> None:
    cpu = hardware.choose("cpu", threads=1)
    small, large = (Plan.of("resnet18", size, cpu) for size in ("64x400", "256x1600"))
    assert (small.batch_size, large.batch_size) == (16, 4)
    gpu = Plan.of("resnet18", "256x1600", replace(cpu, accelerator="cuda"))
    assert gpu.batch_size == 16
    assert gpu.warmup * gpu.batch_size >= 2 * 16 * gpu.batch_size  # 16 workers, 2 batches each
    assert gpu.strips > gpu.batch_size * gpu.warmup
