"""Hardware limits and the time of each stage of a training step: a roofline per stage.

A stage can be no faster than its FLOPs at the measured matrix peak, nor than its bytes at the
measured copy bandwidth; the longer of the two times is its floor.

Reference: Williams, Waterman and Patterson (2009), Roofline.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tlunet.data.datamodule import DefectDataModule
from tlunet.machine.device import Hardware
from tlunet.model.network import TLUNet
from tlunet.model.task import DefectTask

FORWARD_AND_BACKWARD = 4  # memory transfers per activation: write, read, and both for its gradient
ADAM = 7  # transfers per parameter: read weight, gradient, two moments; write all but gradient


@dataclass(frozen=True)
class Stage:
    """One part of a training step.

    Attributes:
        name: ``input``, ``encoder``, ``decoder``, ``heads``, ``loss`` or ``optimiser``.
        gflop: actual GFLOP, forward and backward.
        gbyte: minimum GB moved.
        seconds: measured median.
        floor: lower bound in seconds on this hardware.
    """

    name: str
    gflop: float
    gbyte: float
    seconds: float
    floor: float


def matrix_peak(machine: Hardware, repeats: int = 10) -> float:
    """Measure the median FLOP/s of a large matrix product in the training precision."""
    dtype = torch.bfloat16 if machine.precision == "bf16-mixed" else torch.float32
    n = 8192 if machine.accelerator == "cuda" else 2048
    a, b = (torch.randn(n, n, device=machine.device).to(dtype) for _ in range(2))
    return 2 * n**3 / median_seconds(lambda: a @ b, machine, repeats)


def copy_bandwidth(machine: Hardware, repeats: int = 10) -> float:
    """Measure the median bytes per second that a large copy reads and writes."""
    n = (1 << 30) if machine.accelerator == "cuda" else (1 << 28)
    source = torch.ones(n, dtype=torch.uint8, device=machine.device)
    target = torch.empty_like(source)
    return 2 * n / median_seconds(lambda: target.copy_(source), machine, repeats)


def stages(
    data: DefectDataModule, encoder: str, machine: Hardware, peak: float, bandwidth: float
) -> list[dict[str, Any]]:
    """Measure each stage of a training step separately, forward and backward, on real batches.

    Args:
        data: datamodule, set up and used for training before, so that it knows the device.
        encoder: name of the encoder.
        machine: device and precision.
        peak: FLOP/s, from :func:`matrix_peak`.
        bandwidth: bytes per second, from :func:`copy_bandwidth`.

    Returns:
        One dict per :class:`Stage`, in the order of a step.
    """
    network = TLUNet(encoder, len(data.pack.classes), data.mean, data.std)
    network = network.to(machine.device).to(memory_format=machine.memory_format).train()
    task = DefectTask(network)
    batches = endless(data, machine.device)
    batch = next(batches)
    optimiser = torch.optim.Adam(network.parameters(), betas=(0.99, 0.99), fused=True)

    image = (batch["image"].float() - network.mean) / network.std
    image = image.expand(-1, 3, -1, -1).contiguous(memory_format=machine.memory_format)
    with precision(machine):
        features = [f.detach() for f in network.encoder(image)]
        decoded = network.decoder(features).detach()
        logits = network.segmentation_head(decoded), network.classification_head(features[-1])
    logits = tuple(x.detach() for x in logits)

    def learn(module: Callable[..., Any], inputs: list[Tensor]) -> Callable[[], None]:
        """Make a step: forward, then backward with gradients of ones."""
        leaves = [x.detach().requires_grad_() for x in inputs]

        def step() -> None:
            network.zero_grad()
            with precision(machine):
                outputs = module(leaves)
            outputs = [o for o in outputs if o.requires_grad]
            torch.autograd.backward(outputs, [torch.ones_like(o) for o in outputs])

        return step

    def heads(x: list[Tensor]) -> list[Tensor]:
        return [network.segmentation_head(x[0]), network.classification_head(x[1])]

    def loss(x: list[Tensor]) -> list[Tensor]:
        return [task.loss(x[0], x[1], batch["mask"], batch["label"])]

    learnt = {
        "encoder": learn(lambda x: network.encoder(image)[1:], []),
        "decoder": learn(lambda x: [network.decoder(x)], features),
        "heads": learn(heads, [decoded, features[-1]]),
        "loss": learn(loss, list(logits)),
    }
    weights = sum(p.numel() for p in network.parameters())

    moved = _batch_bytes(batch)
    found = [_stage("input", lambda: next(batches), machine, 0.0, moved, peak, bandwidth)]
    for name, step in learnt.items():
        flop, kept = cost(step)
        moved = FORWARD_AND_BACKWARD * kept
        found.append(_stage(name, step, machine, flop, moved, peak, bandwidth))
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    found.append(
        _stage("optimiser", optimiser.step, machine, 0.0, ADAM * 4.0 * weights, peak, bandwidth)
    )
    return [asdict(stage) for stage in found]


def _stage(
    name: str,
    step: Callable[[], Any],
    machine: Hardware,
    flop: float,
    moved: float,
    peak: float,
    bandwidth: float,
) -> Stage:
    seconds = median_seconds(step, machine, repeats=5)
    return Stage(name, flop / 1e9, moved / 1e9, seconds, max(flop / peak, moved / bandwidth))


def cost(step: Callable[[], None]) -> tuple[float, float]:
    """FLOPs of a forward and backward pass, and bytes that the forward pass saves for backward."""
    kept: dict[int, int] = {}
    alive = []

    def note(tensor: Tensor) -> Tensor:
        alive.append(tensor)  # an address is unique only while its storage exists
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with (
        FlopCounterMode(display=False) as counter,
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
    ):
        step()
    return float(counter.get_total_flops()), float(sum(kept.values()))


def _batch_bytes(batch: dict[str, Any]) -> float:
    """Bytes moved for a batch: read packed, written as images and masks."""
    image, mask = batch["image"], batch["mask"]
    return 2.0 * image.nbytes + mask.nbytes + mask.nbytes / mask.shape[1]


def endless(data: DefectDataModule, device: torch.device) -> Iterator[dict[str, Any]]:
    """Yield batches on the device, as a training step receives them."""
    while True:
        for batch in data.train_dataloader():
            there = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
            yield data.on_after_batch_transfer(there, 0)


def precision(machine: Hardware) -> torch.autocast:
    """Autocast to the training precision."""
    is_bf16 = machine.precision == "bf16-mixed"
    return torch.autocast(machine.accelerator, torch.bfloat16, enabled=is_bf16)


def median_seconds(run: Callable[[], Any], machine: Hardware, repeats: int) -> float:
    """Median seconds of a call after one warm-up call, synchronised with the device."""

    def wait() -> None:
        if machine.accelerator == "cuda":
            torch.cuda.synchronize()

    run()
    seconds = []
    for _ in range(repeats):
        wait()
        began = time.perf_counter()
        run()
        wait()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
