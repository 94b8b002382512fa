import copy

import pytest
import torch

from tlunet.model.losses import PaperLoss
from tlunet.model.memory import forward_flops, kept_bytes
from tlunet.model.network import TLUNet, library_network


@pytest.mark.parametrize("encoder", ["resnet18", "densenet121"])
def test_recomputing_the_encoder_changes_no_number(encoder: str) -> None:
    torch.manual_seed(0)
    plain = TLUNet(encoder, mean=[120.0], std=[60.0])
    frugal = copy.deepcopy(plain)
    frugal.recompute_encoder = True
    image = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    masks, labels = torch.rand(2, 4, 64, 64) > 0.9, torch.rand(2, 4) > 0.5
    for network in (plain, frugal):
        PaperLoss()(*network(image), masks, labels).backward()
    for ours, theirs in zip(frugal.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)
    for name, state in plain.state_dict().items():  # including running statistics
        assert torch.equal(frugal.state_dict()[name], state), name


def test_kept_bytes_are_those_of_a_real_step() -> None:
    network = TLUNet("resnet18")
    seen: dict[int, int] = {}
    alive = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        alive.append(tensor)
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        network.train()(torch.zeros(2, 1, 64, 64))
    real = sum(nbytes for pointer, nbytes in seen.items() if pointer not in weights)
    assert kept_bytes(TLUNet("resnet18"), 2, (64, 64)) == pytest.approx(real, rel=0.05)


def test_kept_bytes_grow_with_the_batch_and_the_image() -> None:
    def kept(batch_size: int, width: int) -> int:
        return kept_bytes(TLUNet("resnet18"), batch_size, (64, width))

    two_images = kept(4, 64) - kept(2, 64)  # the decoder's summed weights are kept once
    assert kept(6, 64) - kept(4, 64) == pytest.approx(two_images, rel=0.01)
    assert kept(4, 128) - kept(2, 128) == pytest.approx(2 * two_images, rel=0.05)


@pytest.mark.parametrize(("encoder", "gflop"), [("resnet18", 67.8), ("densenet121", 105.2)])
def test_forward_flops_of_a_whole_strip(encoder: str, gflop: float) -> None:
    assert forward_flops(library_network(encoder, 4), (1, 3, 256, 1600)) / 1e9 == pytest.approx(
        gflop, abs=0.06
    )
