"""The plain recipe uses the same images, masks, network and loss as tlunet."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tlunet.bench.sides import load_recipe
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import OnDisk
from tlunet.model.losses import PaperLoss
from tlunet.model.network import TLUNet


@pytest.fixture
def data(strips: Path, tmp_path: Path) -> DefectDataModule:
    module = DefectDataModule(OnDisk("severstal", strips), tmp_path, batch_size=4)
    module.prepare_data()
    module.setup()
    return module


def test_its_batches_are_ours(data: DefectDataModule) -> None:
    recipe = load_recipe()
    batch = next(data.batches("val"))
    names = batch["id"]
    strips = recipe.Strips(data.dataset.root, names, data.mean[0], data.std[0], False)
    theirs = next(iter(recipe.loader(strips, 4, False, 0)))
    assert theirs["id"] == names
    assert torch.equal(theirs["mask"].bool(), batch["mask"])
    assert torch.equal(theirs["label"].bool(), batch["label"])
    ours = (batch["image"].float() - data.mean[0]) / data.std[0]
    # JPEG decoders may differ by one grey level.
    apart = (theirs["image"] - ours).abs() * data.std[0]
    assert apart.max() < 2
    assert apart.mean() < 0.1


@pytest.mark.parametrize("tuned", [False, True])
def test_its_network_and_loss_are_ours(data: DefectDataModule, tuned: bool) -> None:
    torch.manual_seed(0)
    recipe = load_recipe().PlainRecipe("resnet18", fused=tuned).eval()
    ours = TLUNet("resnet18", 4, data.mean, data.std).eval()
    state = {k: v for k, v in ours.state_dict().items() if k not in ("mean", "std")}
    recipe.network.load_state_dict(state)
    batch = next(data.batches("val"))
    image = ((batch["image"].float() - data.mean[0]) / data.std[0]).expand(-1, 3, -1, -1)
    mask = batch["mask"].to(torch.uint8 if tuned else torch.float32)
    plain = {"image": image, "mask": mask, "label": batch["label"].float()}
    recipe.log = lambda *args, **kwargs: None  # there is no trainer to log to
    with torch.no_grad():
        theirs = recipe.training_step(plain, 0)
        loss = PaperLoss()(*ours(batch["image"]), batch["mask"], batch["label"])
    assert float(theirs) == pytest.approx(float(loss), rel=1e-5)
    theirs_parameters = sum(p.numel() for p in recipe.parameters())
    assert theirs_parameters == sum(p.numel() for p in ours.parameters())


def test_tuned_it_has_what_an_experienced_user_turns_on(data: DefectDataModule) -> None:
    recipe = load_recipe()
    strips = recipe.Strips(
        data.dataset.root, data.split["image_id"].tolist()[:2], 80.0, 40.0, True, as_float=False
    )
    assert strips[0]["mask"].dtype == torch.uint8
    assert strips[0]["label"].dtype == torch.float32
    module = recipe.PlainRecipe("resnet18", fused=True, compiled=True)
    assert module.configure_optimizers().defaults["fused"]
    assert module.network._compiled_call_impl is not None


def test_its_masks_are_those_of_the_table() -> None:
    mask = load_recipe().decode_runs("1 2 6 3", height=4, width=3)
    expected = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 0]])
    assert np.array_equal(mask, expected)
