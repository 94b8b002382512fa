"""Encoders compute the same features as the networks their weights come from."""

import pytest
import segmentation_models_pytorch as smp
import timm
import torch

from tlunet.model.network import library_network
from tlunet.model.weights import load_encoder


@pytest.mark.parametrize("k", [0, 1, 2])
@pytest.mark.parametrize("size", [(64, 96), (50, 75)])
def test_efficientnet_lite_gives_the_features_of_the_classifier(
    k: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    classifier = timm.create_model(f"tf_efficientnet_lite{k}", pretrained=False).eval()
    for module in classifier.modules():  # running statistics as of a trained network, not 0 and 1
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(1e-4, 1e-2)  # so small that the added 1e-3 matters
    encoder = library_network(f"timm-tf_efficientnet_lite{k}", classes=4).encoder.eval()
    load_encoder(encoder, classifier.state_dict(), source="timm")
    image = torch.randn(2, 3, *size)
    expected = classifier.blocks(classifier.bn1(classifier.conv_stem(image)))
    features = encoder(image)
    assert torch.equal(features[-1], expected)
    assert features[-1].abs().sum() > 0


@pytest.mark.parametrize("name", ["timm-tf_efficientnet_lite0", "efficientnet-b0", "mit_b0"])
def test_two_passes_in_training_mode_are_equal(name: str) -> None:
    torch.manual_seed(0)
    encoder = library_network(name, classes=4).encoder.train()
    image = torch.randn(2, 3, 64, 64)
    assert torch.equal(encoder(image)[-1], encoder(image)[-1])


def test_the_library_alone_differs() -> None:
    """If this fails, the library has been fixed and `adapt_encoder` can be simplified."""
    encoder = smp.encoders.get_encoder("timm-tf_efficientnet_lite0", weights=None)
    assert encoder.bn1.eps == 1e-5
    assert encoder.conv_stem.padding == (1, 1)
