"""What the stages of ``benchmarks/gpu.py`` do; each returns plain figures for its JSON line."""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tlunet.bench import sides
from tlunet.bench.about import about
from tlunet.bench.bench import AMP, PLAIN, TUNED, Plan, file_name, measure
from tlunet.bench.commands import real_cell
from tlunet.bench.kernels import time_by_kind
from tlunet.data.augment import flip
from tlunet.data.batches import unpack_bits
from tlunet.data.datamodule import DefectDataModule
from tlunet.machine.device import Hardware, choose
from tlunet.model.network import TLUNet
from tlunet.model.task import DefectTask

ROOT = Path(__file__).resolve().parents[1]
WORK, OUT = Path(os.environ["WORK"]), Path(os.environ["OUT"])
IS_CPU = os.environ.get("TLUNET_GPU_TESTS") == "cpu"
CACHE = WORK / "data"
STRIPS, SIZE, BATCH = (64, (32, 64), 4) if IS_CPU else (12568, (256, 1600), 16)
GRID_EPOCHS, FRACTIONS, INITS = 10, (1.0, 0.5), 2


def versions() -> dict[str, Any]:
    """Hardware, driver, settings and versions."""
    facts = about(_machine())
    hardware = facts["hardware"]
    return {
        "machine": hardware["name"],
        "precision": hardware["precision"],
        "memory_format": hardware["memory_format"],
        "cores": len(os.sched_getaffinity(0)),
        **(hardware["gpu"] or {}),
        "cuda": hardware["cuda"],
        "python": facts["python"],
        **{name: facts["versions"].get(name) for name in ("torch", "pytorch-lightning")},
        "commit": facts["commit"],
        "dirty": facts["dirty"],
    }


def strips() -> dict[str, Any]:
    """Draw and pack the strips of the paper's data set, as many and as large."""
    began = time.perf_counter()
    data = _strips()
    return {
        "strips": len(data.pack),
        "pack_bytes": data.pack.nbytes,
        "draw_and_pack_seconds": time.perf_counter() - began,
    }


def _machine() -> Hardware:
    return choose("cpu", "32-true", threads=1) if IS_CPU else choose("cuda")


def _strips() -> DefectDataModule:
    return sides.strips(CACHE, STRIPS, SIZE, BATCH, _machine())


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return (32, 64) if IS_CPU else (int(height), int(width))


# --- a step -------------------------------------------------------------------------------------


def _step(encoder: str, size: tuple[int, int], machine: Hardware) -> Callable[[], torch.Tensor]:
    """Make a whole training step on a resident batch: flips, masks, network, loss, Adam."""
    torch.manual_seed(0)
    device = machine.device
    task = DefectTask(TLUNet(encoder, 4, [80.0], [40.0])).to(device)
    task.network.to(memory_format=machine.memory_format).train()
    if machine.compile:
        task.compile_for(BATCH, backend="eager" if IS_CPU else "inductor")  # that takes minutes
    optimiser = torch.optim.Adam(
        task.parameters(), betas=(0.99, 0.99), fused=True, capturable=device.type == "cuda"
    )
    pixels = torch.randint(0, 256, (BATCH, 1, *size), dtype=torch.uint8, device=device)
    bits = torch.randint(0, 16, (BATCH, *size), dtype=torch.uint8, device=device)
    flips = torch.rand(BATCH, 2, device=device) > 0.5
    label = torch.rand(BATCH, 4, device=device) > 0.5
    is_bf16 = machine.precision == "bf16-mixed"

    def step() -> torch.Tensor:
        image, mask = flip(pixels, flips), unpack_bits(flip(bits, flips), 4, machine.mask_format)
        with torch.autocast(device.type, torch.bfloat16, enabled=is_bf16):
            logits = task._logits(image)
        loss: torch.Tensor = task.loss(*logits, mask, label)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        return loss

    return step


def _wait() -> None:
    if not IS_CPU:
        torch.cuda.synchronize()


def _timed(step: Callable[[], Any], warmup: int = 5, steps: int = 20) -> dict[str, float]:
    """Milliseconds of a step, and of the host until it has queued one."""
    warmup, steps = (1, 2) if IS_CPU else (warmup, steps)
    for _ in range(warmup):
        step()
    _wait()
    walls, hosts = [], []
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(steps):
            step()
        hosts.append((time.perf_counter() - began) / steps)
        _wait()
        walls.append((time.perf_counter() - began) / steps)
    step_seconds = statistics.median(walls)
    return {
        "step_ms": 1e3 * step_seconds,
        "host_ms": 1e3 * statistics.median(hosts),
        "images_per_second": BATCH / step_seconds,
    }


# --- stages -------------------------------------------------------------------------------------


def profile(encoder: str, size: str) -> dict[str, Any]:
    """A step in both memory formats, by kind of kernel, and as one CUDA graph."""
    machine = _machine()
    found = _kernels_and_times(encoder, size, machine)
    other = _FirstChannels(**vars(machine))
    found["channels_first_ms"] = _timed(_step(encoder, _size(size), other))["step_ms"]
    if IS_CPU:
        return found | {"graph_ms": "none on a CPU"}
    return found | {"graph_ms": _graphed(encoder, size, machine)}


class _FirstChannels(Hardware):
    """The same hardware, with channels first."""

    @property
    def is_channels_last(self) -> bool:
        return False


def _kernels_and_times(encoder: str, size: str, machine: Hardware) -> dict[str, Any]:
    torch.backends.cudnn.benchmark = True  # as full training batches have it
    step = _step(encoder, _size(size), machine)
    return _timed(step) | time_by_kind(step, machine.device)


def _graphed(encoder: str, size: str, machine: Hardware) -> float:
    """Milliseconds of the whole step replayed as one CUDA graph."""
    step = _step(encoder, _size(size), machine)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(5):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()
    found = _timed(graph.replay)["step_ms"]
    assert bool(loss.isfinite())
    return found


def compiled(encoder: str, size: str) -> dict[str, Any]:
    """A compiled step, and the number of steps after which compiling has paid for itself."""
    machine = _machine()
    eager = _timed(_step(encoder, _size(size), machine))
    step = _step(encoder, _size(size), replace(machine, compile=True))
    began = time.perf_counter()
    step()
    _wait()
    first = time.perf_counter() - began
    found = _timed(step)
    gained = (eager["step_ms"] - found["step_ms"]) / 1e3
    return {
        "first_step_seconds": first,
        "eager_ms": eager["step_ms"],
        **found,
        **time_by_kind(step, machine.device),
        "earned_at_step": round(first / gained) if gained > 0 else "never",
    }


def bench(encoder: str, size: str) -> dict[str, Any]:
    """``tlunet bench --only training`` against the plain recipe, as it is and with AMP."""
    return _bench(encoder, size, (PLAIN, AMP))


def tuned(encoder: str, size: str) -> dict[str, Any]:
    """The same against the tuned recipe, which is compiled first."""
    return _bench(encoder, size, (TUNED,))


def _bench(encoder: str, size: str, recipes: tuple[str, ...]) -> dict[str, Any]:
    machine = _machine()
    height, width = _size(size)
    is_full = (height, width) == SIZE
    plan = Plan.of(
        encoder, f"{height}x{width}", machine, batch_size=BATCH, rounds=1 if IS_CPU else 3,
        steps=2 if IS_CPU else 30, warmup=1 if IS_CPU else 10,
        strips=STRIPS if is_full else 1024, only=("training",), recipes=recipes,
    )  # fmt: skip
    record = measure(plan, machine, CACHE, say=lambda text: print(text, file=sys.stderr))
    if not IS_CPU and PLAIN in recipes:  # the whole record, for the tables
        (OUT / file_name(record)).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    ratios = {
        f"times_{name.replace(',', '').replace(' ', '_')}": side["ours_faster"]["median"]
        for name in (PLAIN, AMP, TUNED)
        if (side := record["sides"].get(name))
    }
    keys = ("images_per_second", "model_flop_utilisation", "waiting", "residency", "peak_memory")
    return {key: record[key] for key in keys} | ratios


def epoch(encoder: str) -> dict[str, Any]:
    """One epoch of a real cell with validation and test, on strips as many and as large as real."""
    data = _strips()
    with tempfile.TemporaryDirectory() as runs:
        cell = real_cell(data, encoder, _machine(), Path(runs), epochs=1)
        assert cell is not None
        [meta] = Path(runs).glob("bench/*/meta.json")
        peak = json.loads(meta.read_text())["peak_memory"]
    training = cell["images"] / cell["images_per_second"][0]
    found = {
        "training_seconds": training,
        "validation_seconds": cell["epoch_seconds"][0] - training,
        "rest_seconds": cell["seconds"] - cell["epoch_seconds"][0],  # start, pack to the GPU, test
        "images_per_second": cell["images_per_second"][0],
        "waiting": cell["waiting"][0],
        "peak_memory": peak,
    }
    (WORK / "epochs.json").write_text(json.dumps(_epochs() | {encoder: found}), encoding="utf-8")
    return found


def _epochs() -> dict[str, Any]:
    file = WORK / "epochs.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def grid() -> dict[str, Any]:
    """The paper's grid, extrapolated from one epoch of each encoder; it was not run."""
    epochs = _epochs()
    missing = {"resnet18", "densenet121"} - set(epochs)
    if missing:
        raise SystemExit(f"no epoch of {', '.join(sorted(missing))} was measured")
    total = 0.0
    for found in epochs.values():
        for fraction in FRACTIONS:
            per_epoch = fraction * found["training_seconds"] + found["validation_seconds"]
            total += INITS * (GRID_EPOCHS * per_epoch + found["rest_seconds"])
    cells = INITS * len(FRACTIONS) * len(epochs)
    what = f"{cells} cells × {GRID_EPOCHS} epochs from one epoch per encoder, not run"
    return {"grid_minutes": total / 60, "extrapolated": what}
