"""Measures inference speed on the CPU, in strips per second: eager, predictor and ONNX Runtime.

    python benchmarks/inference.py [--encoder resnet18] [--size 256x1600] [--rounds 7]

The sides take turns, so that a slowdown of the machine affects all of them: the unchanged library
network (eager, float32), the network of `tlunet predict`, and the exported one in ONNX Runtime. All
receive the same uint8 strips in memory and return probabilities; decoding and writing are excluded.
Medians over the rounds and ratios per round are written to benchmarks/results/.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from tlunet.bench.bench import about
from tlunet.deploy.card import Card
from tlunet.deploy.export import to_onnx, trace, write_onnx
from tlunet.deploy.predict import Predictor
from tlunet.deploy.runtime import OnnxPredictor, open_session
from tlunet.machine.device import choose
from tlunet.model.network import TLUNet, library_network

RESULTS = Path(__file__).parent / "results"
CLASSES = ("1", "2", "3", "4")
EAGER, OURS, ONNX = "eager", "predict", "onnxruntime"


def sides(encoder: str, images: np.ndarray, folder: Path) -> dict[str, Callable[[], object]]:
    """Make the sides: name → function that runs one batch."""
    size = images.shape[2], images.shape[3]
    network = TLUNet(encoder, len(CLASSES), [80.0], [40.0])
    card = Card(CLASSES, 0.5, size, encoder)
    program = to_onnx(trace(network, card, "onnx"))
    write_onnx(program, card.as_metadata(), folder / "model.onnx")
    exported = OnnxPredictor(open_session(folder / "model.onnx", "cpu"), card)
    predictor = Predictor(TLUNet(encoder, len(CLASSES), [80.0], [40.0]), CLASSES, size=size)
    library = library_network(encoder, len(CLASSES)).eval()
    batch = torch.from_numpy(images)

    @torch.inference_mode()
    def eager() -> object:
        masks, labels = library(((batch.float() - 80) / 40).expand(-1, 3, -1, -1))
        return masks.sigmoid(), labels.sigmoid()

    return {
        EAGER: eager,
        OURS: lambda: predictor.probabilities(batch),
        ONNX: lambda: exported.probabilities(images),
    }


def measure(run: dict[str, Callable[[], object]], strips: int, rounds: int) -> dict[str, Any]:
    """Measure strips per second by side and round, medians, and ratios to the first side."""
    speeds: dict[str, list[float]] = {name: [] for name in run}
    for go in run.values():
        go()  # warm-up, not timed
    for _ in range(rounds):
        for name, go in run.items():
            start = time.perf_counter()
            go()
            speeds[name].append(strips / (time.perf_counter() - start))
    ratios = {
        name: sorted(a / b for a, b in zip(values, speeds[EAGER], strict=True))
        for name, values in speeds.items()
    }
    return {
        "strips_per_second": speeds,
        "median": {name: statistics.median(values) for name, values in speeds.items()},
        "times_eager": {
            name: {"median": statistics.median(r), "least": r[0], "most": r[-1]}
            for name, r in ratios.items()
        },
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--size", default="256x1600")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    machine = choose("cpu", "32-true")
    os.environ["OMP_NUM_THREADS"] = str(machine.threads)
    height, width = map(int, asked.size.split("x"))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (asked.batch_size, 1, height, width), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        run = sides(asked.encoder, images, Path(folder))
        found = measure(run, len(images), asked.rounds)
    record = about(machine) | vars(asked) | {"onnxruntime": onnxruntime.__version__} | found
    path = RESULTS / f"inference-{asked.encoder}-{asked.size}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    for name, ratio in found["times_eager"].items():
        print(
            f"{name:12} {found['median'][name]:7.2f} strips/s, {ratio['median']:.2f} times eager "
            f"({ratio['least']:.2f} to {ratio['most']:.2f})"
        )
    print(path)


if __name__ == "__main__":
    main()
