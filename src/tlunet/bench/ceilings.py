"""What the hardware can do, and where a step's time goes: a roofline, stage by stage.

A stage can be no faster than its arithmetic at the measured matrix peak, nor than its bytes at the
measured copy bandwidth; the larger of the two is its floor.

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

FORWARD_AND_BACKWARD = 4  # times an activation moves: written, read, its gradient likewise
ADAM = 7  # numbers a parameter: weight, gradient, two moments read; all but the gradient written


@dataclass(frozen=True)
class Stage:
    """One part of a training step.

    Attributes:
        name: ``input``, ``encoder``, ``decoder``, ``heads``, ``loss`` or ``optimiser``.
        gflop: arithmetic, forward and backward, as it is really done.
        gbyte: fewest bytes moved.
        seconds: measured, median.
        floor: seconds below which it cannot come on this hardware.
    """

    name: str
    gflop: float
    gbyte: float
    seconds: float
    floor: float


def matrix_peak(machine: Hardware, repeats: int = 10) -> float:
    """FLOP/s of a large matrix product in the precision that is trained in; the median."""
    dtype = torch.bfloat16 if machine.precision == "bf16-mixed" else torch.float32
    n = 8192 if machine.accelerator == "cuda" else 2048
    a, b = (torch.randn(n, n, device=machine.device).to(dtype) for _ in range(2))
    return 2 * n**3 / median_seconds(lambda: a @ b, machine, repeats)


def copy_bandwidth(machine: Hardware, repeats: int = 10) -> float:
    """Bytes a second that a large copy reads and writes; the median."""
    n = (1 << 30) if machine.accelerator == "cuda" else (1 << 28)
    source = torch.ones(n, dtype=torch.uint8, device=machine.device)
    target = torch.empty_like(source)
    return 2 * n / median_seconds(lambda: target.copy_(source), machine, repeats)


def stages(
    data: DefectDataModule, encoder: str, machine: Hardware, peak: float, bandwidth: float
) -> list[dict[str, Any]]:
    """Each stage of a training step alone, forward and backward, on real batches.

    Args:
        data: ready, and trained with before: it knows the device.
        encoder: its name.
        machine: device and precision.
        peak: FLOP/s, from :func:`matrix_peak`.
        bandwidth: bytes a second, from :func:`copy_bandwidth`.

    Returns:
        A dict a :class:`Stage`, in the order of a step.
    """
    network = TLUNet(encoder, len(data.pack.classes), data.mean, data.std)
    network = network.to(machine.device).to(memory_format=machine.memory_format).train()
    task = DefectTask(network)
    batches = _endless(data, machine.device)
    batch = next(batches)
    optimiser = torch.optim.Adam(network.parameters(), betas=(0.99, 0.99), fused=True)

    image = (batch["image"].float() - network.mean) / network.std
    image = image.expand(-1, 3, -1, -1).contiguous(memory_format=machine.memory_format)
    with _precision(machine):
        features = [f.detach() for f in network.encoder(image)]
        decoded = network.decoder(features).detach()
        logits = network.segmentation_head(decoded), network.classification_head(features[-1])
    logits = tuple(x.detach() for x in logits)

    def learn(module: Callable[..., Any], inputs: list[Tensor]) -> Callable[[], None]:
        """Forward, and backward from gradients of ones."""
        leaves = [x.detach().requires_grad_() for x in inputs]

        def step() -> None:
            network.zero_grad()
            with _precision(machine):
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
        flop, kept = _cost(step)
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


def _cost(step: Callable[[], None]) -> tuple[float, float]:
    """FLOP of a forward and backward pass, and bytes that the first keeps for the second."""
    kept: dict[int, int] = {}
    alive = []

    def note(tensor: Tensor) -> Tensor:
        alive.append(tensor)  # an address is unique only as long as its storage lives
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
    """Read packed, written as images and masks."""
    image, mask = batch["image"], batch["mask"]
    return 2.0 * image.nbytes + mask.nbytes + mask.nbytes / mask.shape[1]


def _endless(data: DefectDataModule, device: torch.device) -> Iterator[dict[str, Any]]:
    """Batches as a step gets them, on the device."""
    while True:
        for batch in data.train_dataloader():
            there = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
            yield data.on_after_batch_transfer(there, 0)


def _precision(machine: Hardware) -> torch.autocast:
    is_bf16 = machine.precision == "bf16-mixed"
    return torch.autocast(machine.accelerator, torch.bfloat16, enabled=is_bf16)


def median_seconds(run: Callable[[], Any], machine: Hardware, repeats: int) -> float:
    """Median seconds of a call after a first one, the device's queue emptied around it."""

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
