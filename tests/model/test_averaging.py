"""Averaged weights: the formula, and where they are used."""

import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as spawning
from torch import nn

from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import Strips
from tlunet.deploy.predict import Predictor
from tlunet.machine.device import Hardware
from tlunet.model.network import TLUNet
from tlunet.model.optimisation.averaging import WeightAverage
from tlunet.model.task import DefectTask, load_network
from tlunet.model.weights import load_encoder, read_weights
from tlunet.study.training import processes
from tlunet.study.training.trainer import make_trainer


def test_it_is_the_formula() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1))
    weight, running = network[0].weight, network[1].running_mean
    weight.data.fill_(1.0)
    average = WeightAverage(network, decay=0.2)
    expected_weight, expected_mean = 1.0, 0.0
    for n, value in enumerate([2.0, 5.0, -1.0, 4.0]):
        weight.data.fill_(value)
        running.fill_(10 * value)
        network[1].num_batches_tracked.fill_(n + 1)
        average.update_after(n, network)
        decay = min(0.2, (1 + n) / (10 + n))  # 1/10, 2/11, then 0.2
        expected_weight = decay * expected_weight + (1 - decay) * value
        expected_mean = decay * expected_mean + (1 - decay) * 10 * value
        assert average.module[0].weight.item() == pytest.approx(expected_weight, abs=1e-5)
        assert average.module[1].running_mean.item() == pytest.approx(expected_mean, abs=1e-4)
        assert int(average.module[1].num_batches_tracked) == int(average.n_averaged) == n + 1
    assert not any(p.requires_grad for p in average.parameters())


def trained(cache: Path, devices: int = 1) -> tuple[DefectTask, DefectDataModule]:
    """Train a task with averaged weights for a few steps."""
    data = DefectDataModule(Strips(cache / "synthetic", n=32), cache, batch_size=4, seed=5)
    data.prepare_data()
    data.setup()
    torch.manual_seed(0)
    task = DefectTask(TLUNet("mobilenet_v2", 4, data.mean, data.std), ema=0.5, classes=list("abcd"))
    hardware = Hardware("cpu", "32-true", "a CPU", 1, devices=devices)
    trainer = make_trainer(hardware, epochs=1, callbacks=[])
    trainer.fit(task, data)
    return task, data


def test_the_average_is_validated_and_kept(tmp_path: Path) -> None:
    task, data = trained(tmp_path)
    assert task.evaluated is not task.network
    batch = next(data.batches("val"))
    task.eval()
    with torch.no_grad():
        own, averaged = (n(batch["image"]).masks for n in (task.network, task.average.module))
        assert not torch.allclose(own, averaged, atol=1e-4)
        assert torch.equal(task._logits(batch["image"]).masks, averaged)
        assert torch.equal(task(batch["image"])[0], averaged.sigmoid())
        assert torch.equal(
            task.train()._logits(batch["image"]).masks, task.network(batch["image"]).masks
        )
    file = tmp_path / "best.ckpt"
    task.trainer.save_checkpoint(file, weights_only=True)
    task.trainer.strategy.checkpoint_io.teardown()
    with torch.no_grad():
        assert torch.equal(load_network(file)(batch["image"]).masks, averaged)
    found, _ = Predictor.load(file).probabilities(batch["image"])
    torch.testing.assert_close(found, averaged.sigmoid())
    encoder = TLUNet("mobilenet_v2", 4).encoder
    load_encoder(encoder, read_weights(file), source="best.ckpt")
    expected = task.average.module.encoder.state_dict()
    assert all(torch.equal(t, expected[name]) for name, t in encoder.state_dict().items())


@pytest.mark.slow
def test_a_compiled_network_and_average_share_their_code() -> None:
    compiled = []

    def backend(graph, inputs):
        compiled.append(len(inputs))
        return graph.forward

    torch._dynamo.reset()
    task = DefectTask(TLUNet("mobilenet_v2"), ema=0.5).eval()
    nn.init.normal_(task.average.module.segmentation_head[0].weight)
    image = torch.zeros(2, 1, 32, 32, dtype=torch.uint8)
    with torch.no_grad():
        expected = task.average.module(image)
        task.compile_for(2, backend=backend)
        assert torch.equal(task._logits(image).masks, expected.masks)
    assert compiled
    torch._dynamo.reset()


def _rank(rank: int, port: int, cache: Path) -> None:
    processes._join(rank, rank, 0, 2, "127.0.0.1", port)
    task, _ = trained(cache, devices=2)
    assert task.trainer.world_size == 2
    torch.save(task.average.state_dict(), cache / f"{rank}.pt")


@pytest.mark.slow
def test_two_processes_have_the_same_average(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    spawning.spawn(_rank, (port, tmp_path), nprocs=2)
    ours, theirs = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert int(ours["n_averaged"]) > 3
    for name, tensor in ours.items():
        assert torch.equal(theirs[name], tensor), name
