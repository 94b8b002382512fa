"""Where the time of a training step goes, by kind of kernel."""

import os
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from tlunet.bench.ceilings import cost, endless, precision
from tlunet.data.datamodule import DefectDataModule
from tlunet.machine.device import Hardware
from tlunet.model.network import TLUNet
from tlunet.model.task import DefectTask

#: Kinds of kernels by their names, the first that fits.
KINDS = {
    "convolution": r"conv|gemm|cutlass|xmma|sm\d\d_|nvjet|wgrad|dgrad|mkldnn|addmm|\bmm\b",
    "batch norm": r"batch_?norm|bn_",
    "optimiser": r"adam|multi_tensor",
    "pooling": r"pool",
    "concatenation": r"cat",
    "copies": r"memcpy|memset|copy|clone|fill|zero",
    "compiled": r"triton",
    "sums": r"reduce|sum|mean",
    "element by element": r"elementwise|vectorized|add|mul|relu|clamp|sigmoid|threshold|where|sub",
}


def time_by_kind(step: Callable[[], Any], device: torch.device, steps: int = 3) -> dict[str, Any]:
    """Profile some steps.

    Args:
        step: called once per step, after it has been warmed up.
        device: where it runs.
        steps: number of calls.

    Returns:
        ``milliseconds`` per step by kind of kernel, their sum ``busy_ms``, and ``launches``, the
        kernels (on a CPU, operations) per step.
    """
    is_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if is_gpu else [])
    os.environ.setdefault("KINETO_LOG_LEVEL", "10")  # the profiler's own lines, on standard error
    with profile(activities=activities) as found:
        for _ in range(steps):
            step()
        if is_gpu:
            torch.cuda.synchronize()
    spent: Counter[str] = Counter()
    launches = 0
    for event in found.key_averages():
        if is_gpu and event.device_type != DeviceType.CUDA:
            continue
        micros = event.self_device_time_total if is_gpu else event.self_cpu_time_total
        spent[kind_of(event.key)] += micros / 1e3 / steps
        launches += event.count
    return {
        "launches": launches // steps,
        "busy_ms": sum(spent.values()),
        "milliseconds": {kind: round(ms, 4) for kind, ms in spent.most_common()},
    }


def kind_of(name: str) -> str:
    """Kind of a kernel or operation by its name.

    >>> kind_of("aten::convolution_backward"), kind_of("aten::native_batch_norm"), kind_of("x")
    ('convolution', 'batch norm', 'other')
    """
    return next((kind for kind, words in KINDS.items() if re.search(words, name, re.I)), "other")


def kernels(data: DefectDataModule, encoder: str, machine: Hardware, peak: float) -> dict[str, Any]:
    """Profile whole training steps on real batches.

    Args:
        data: datamodule, set up and used for training before, so that it knows the device.
        encoder: name of the encoder.
        machine: device and precision.
        peak: FLOP/s of a matrix product.

    Returns:
        The values of `time_by_kind`, and ``convolution_utilisation``: the arithmetic of the
        convolutions per second of their own time, relative to ``peak``.
    """
    network = TLUNet(encoder, len(data.pack.classes), data.mean, data.std)
    network = network.to(machine.device).to(memory_format=machine.memory_format).train()
    task = DefectTask(network)
    optimiser = torch.optim.Adam(network.parameters(), betas=(0.99, 0.99), fused=True)
    batches = endless(data, machine.device)

    def step() -> None:
        batch = next(batches)
        with precision(machine):
            logits = network(batch["image"])
        loss = task.loss(*logits, batch["mask"], batch["label"])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    flop, _ = cost(step)  # also warms up
    found = time_by_kind(step, machine.device)
    seconds = found["milliseconds"]["convolution"] / 1e3
    return found | {"convolution_utilisation": flop / seconds / peak}
