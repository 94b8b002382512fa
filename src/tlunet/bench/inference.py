"""Strips per second of the predictor, compared with the library's network."""

from typing import Any

import numpy as np
import torch

from tlunet.bench import ceilings
from tlunet.bench.turns import ratios
from tlunet.data.batches import channels_first
from tlunet.data.datamodule import DefectDataModule
from tlunet.deploy.predict import Predictor
from tlunet.machine.device import Hardware
from tlunet.machine.memory import keep_freed_memory
from tlunet.model.network import TLUNet, library_network


def inference(
    data: DefectDataModule, encoder: str, machine: Hardware, rounds: int
) -> dict[str, Any]:
    """Compare strips per second of the predictor and of the unchanged library network.

    They take turns. Both receive the same uint8 strips on the host and return probabilities; the
    library's network runs in float32, channels first, under ``torch.inference_mode``.
    """
    M, batch_size = len(data.pack.classes), data.eval_batch_size
    network = TLUNet(encoder, M, data.mean, data.std)
    predictor = Predictor(
        network, data.pack.classes, device=machine.device, precision=machine.precision,
        batch_size=batch_size,
    )  # fmt: skip
    eager = library_network(encoder, M).to(machine.device).eval()
    images = channels_first(np.array(data.pack.images[:batch_size]))

    @torch.inference_mode()
    def as_it_is() -> tuple[torch.Tensor, torch.Tensor]:
        x = (images.to(machine.device).float() - data.mean[0]) / data.std[0]
        masks, labels = eager(x.expand(-1, 3, -1, -1))
        return masks.sigmoid(), labels.sigmoid()

    speeds: dict[str, list[float]] = {"predictor": [], "eager_smp": []}
    for _ in range(rounds):
        for name, run, keep in (
            ("predictor", lambda: predictor.probabilities(images), True),
            ("eager_smp", as_it_is, False),
        ):
            keep_freed_memory(keep)
            seconds = ceilings.median_seconds(run, machine, repeats=2)
            speeds[name].append(len(images) / seconds)
    return {**speeds, "predictor_faster": ratios(speeds["predictor"], speeds["eager_smp"])}
