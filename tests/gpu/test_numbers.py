"""Networks, losses, metrics and predictions on a GPU: as in float64, and as on the CPU."""

import copy
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tlunet.deploy.predict import Predictor
from tlunet.machine.device import Hardware
from tlunet.model import losses
from tlunet.model.decoder import upsampled_conv
from tlunet.model.metrics import DefectMetrics
from tlunet.model.network import TLUNet, library_network

pytestmark = pytest.mark.gpu

#: How much farther from float64 than the library's network in the same precision on the CPU.
FARTHER = 3.0


def distance(ours: Tensor, exact: Tensor) -> float:
    """Relative L2 distance."""
    ours, exact = ours.detach().double().cpu(), exact.detach().double().cpu()
    return float((ours - exact).norm() / exact.norm())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("encoder", ["resnet18", "densenet121"])
def test_logits_and_gradients_are_those_of_float64(
    encoder: str,
    precision: str,
    machine: Hardware,
    device: torch.device,
    figures: Callable[..., None],
) -> None:
    torch.manual_seed(0)
    ours = TLUNet(encoder, mean=[80.0], std=[40.0]).train()
    state = copy.deepcopy(ours.state_dict())
    image = torch.randint(0, 256, (4, 1, 64, 96), dtype=torch.uint8)
    truth = torch.rand(4, 4, 64, 96) > 0.8, torch.rand(4, 4) > 0.5
    exact = learnt(library(encoder, state).double(), normalised(image).double(), truth)
    plain = learnt(library(encoder, state), normalised(image), truth, precision)
    layout = Hardware(
        machine.accelerator, precision, "", 1, capability=machine.capability
    ).memory_format
    found = learnt(
        ours.to(device).to(memory_format=layout),
        image.to(device),
        tuple(t.to(device) for t in truth),
        precision,
    )
    for name, value in exact.items():
        own, usual = distance(found[name], value), distance(plain[name], value)
        figures(**{name: own, f"{name}_of_the_library": usual})
        assert own < FARTHER * usual + 1e-6, name


def library(encoder: str, state: dict[str, Tensor]) -> torch.nn.Module:
    """The library's network, with its own decoder and our weights."""
    network: torch.nn.Module = library_network(encoder, 4)
    network.load_state_dict(state, strict=False)
    return network.train()


def normalised(image: Tensor) -> Tensor:
    """Images as the library's network expects them."""
    return ((image.float() - 80) / 40).expand(-1, 3, -1, -1)


def learnt(
    network: torch.nn.Module, image: Tensor, truth: tuple[Tensor, ...], precision: str = "32-true"
) -> dict[str, Tensor]:
    """Logits, and the gradient of eq. (1) with respect to all weights, by their names."""
    is_bf16 = precision == "bf16-mixed"
    with torch.autocast(image.device.type, torch.bfloat16, enabled=is_bf16):
        masks, labels = network(image)
    F = torch.nn.functional
    loss = sum(
        F.binary_cross_entropy_with_logits(x, y.to(x.dtype), reduction="sum")
        for x, y in zip((masks.to(labels.dtype), labels), truth, strict=True)
    )
    loss.backward()
    named = sorted((k, p) for k, p in network.named_parameters())
    return {
        "masks": masks,
        "labels": labels,
        "gradient": torch.cat([p.grad.flatten() for _, p in named]),
    }


@pytest.mark.parametrize(
    "loss",
    [losses.PaperLoss(), losses.BalancedLoss(), losses.BCEDiceLoss(), losses.LogDiceLoss(),
     losses.FocalLoss(), losses.LovaszLoss()],
    ids=lambda loss: type(loss).__name__,
)  # fmt: skip
def test_losses_are_those_of_the_cpu(
    loss: torch.nn.Module, machine: Hardware, device: torch.device
) -> None:
    torch.manual_seed(1)
    logits = 3 * torch.randn(4, 4, 64, 100), 3 * torch.randn(4, 4)
    truth = torch.rand(4, 4, 64, 100) > 0.8, torch.rand(4, 4) > 0.5
    found = []
    for where, layout in (
        (torch.device("cpu"), torch.contiguous_format),
        (device, machine.mask_format),
    ):
        masks = logits[0].to(where).to(memory_format=layout).requires_grad_()
        given = masks, logits[1].to(where), truth[0].to(where).to(memory_format=layout)
        value = loss(*given, truth[1].to(where))
        found.append((value.detach().cpu(), torch.autograd.grad(value, masks)[0].cpu()))
    for ours, expected in zip(*reversed(found), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)


def test_metrics_count_the_same_pixels(machine: Hardware, device: torch.device) -> None:
    torch.manual_seed(2)
    scores = []
    logits = torch.randn(8, 4, 64, 100).bfloat16(), torch.randn(8, 4)
    truth = torch.rand(8, 4, 64, 100) > 0.9, torch.rand(8, 4) > 0.5
    for where, layout in (
        (torch.device("cpu"), torch.contiguous_format),
        (device, machine.mask_format),
    ):
        metrics = DefectMetrics(0.3).to(where)
        maps = (t.to(where).to(memory_format=layout) for t in (logits[0], truth[0]))
        masks_logits, masks = maps
        index = torch.arange(8, device=where)
        metrics.update(masks_logits, logits[1].to(where), masks, truth[1].to(where), index)
        scores.append(metrics.counts())
    ours, expected = scores[1], scores[0]
    for name in ("intersection", "truth", "predicted", "label", "index"):
        assert (getattr(ours, name) == getattr(expected, name)).all(), name
    assert abs(ours.prob - expected.prob).max() < 1e-6


def test_the_predictor_answers_as_on_the_cpu(
    device: torch.device, figures: Callable[..., None]
) -> None:
    torch.manual_seed(3)
    network = TLUNet("resnet18", mean=[80.0], std=[40.0]).eval()
    image = torch.randint(0, 256, (3, 1, 64, 96), dtype=torch.uint8)
    answers = [
        Predictor(copy.deepcopy(network), list("abcd"), device=where).probabilities(image)
        for where in (torch.device("cpu"), device)
    ]
    apart = [float((a.cpu() - b.cpu()).abs().max()) for a, b in zip(*answers, strict=True)]
    figures(masks=apart[0], labels=apart[1])
    assert max(apart) < 1e-4


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_compiled_decoder_is_the_eager_one(
    layout: torch.memory_format, device: torch.device, figures: Callable[..., None]
) -> None:
    torch._dynamo.reset()
    x = torch.randn(2, 6, 8, 10, device=device).to(memory_format=layout).requires_grad_()
    weight = torch.randn(4, 6, 3, 3, device=device, requires_grad=True)
    upstream = torch.randn(2, 4, 16, 20, device=device)
    eager = upsampled_conv(x, weight)
    began = time.perf_counter()
    compiled = torch.compile(upsampled_conv, dynamic=False)(x, weight)
    torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-4)
    for ours, expected in zip(
        *(torch.autograd.grad(out, (x, weight), upstream) for out in (compiled, eager)),
        strict=True,
    ):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-3)
    figures(compile_seconds=time.perf_counter() - began)
    torch._dynamo.reset()
