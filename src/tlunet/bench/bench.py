"""``tlunet bench``: measures the speed of one encoder, size and batch, as one record."""

import platform
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from rich.table import Table

from tlunet.bench import ceilings, sides
from tlunet.bench.commands import pack_building, start_up
from tlunet.bench.turns import Side, ratios, take_turns
from tlunet.data.batches import channels_first
from tlunet.data.datamodule import DefectDataModule
from tlunet.deploy.predict import Predictor
from tlunet.errors import ConfigError
from tlunet.machine.device import Hardware
from tlunet.machine.memory import keep_freed_memory
from tlunet.machine.versions import PACKAGES, commit
from tlunet.model.memory import forward_flops
from tlunet.model.network import TLUNet, check_encoder, library_network

OURS, PLAIN, AMP = "tlunet", "plain recipe", "plain recipe, AMP"
TRAINING = 3  # FLOPs of training relative to the forward pass, by convention


@dataclass(frozen=True)
class Plan:
    """What is measured, and for how long.

    Attributes:
        encoder: name of the encoder.
        size: (height, width) of the strips.
        batch_size: images per step.
        strips: number of strips.
        rounds: rounds per side.
        steps: timed steps per round.
        warmup: untimed steps before them; on a GPU enough to use up the batches that the recipe's
            workers have prefetched.
        variants: variants to run in addition, from :data:`VARIANTS`.
    """

    encoder: str
    size: tuple[int, int]
    batch_size: int
    strips: int
    rounds: int = 5
    steps: int = 2
    warmup: int = 1
    variants: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        encoder: str,
        size: str,
        machine: Hardware,
        *,
        batch_size: int | None = None,
        rounds: int = 5,
        steps: int | None = None,
        strips: int | None = None,
        variants: tuple[str, ...] = (),
    ) -> Self:
        """Make a plan from command-line options; defaults depend on the hardware.

        Raises:
            ConfigError: an invalid size, or an unknown variant or encoder.
        """
        if not (found := re.fullmatch(r"(\d+)[x×](\d+)", size)):
            raise ConfigError(f"--size {size}: expected height x width, such as 256x1600")
        if unknown := sorted(set(variants) - set(VARIANTS)):
            raise ConfigError(f"--variant {', '.join(unknown)}: expected {', '.join(VARIANTS)}")
        height, width = int(found[1]), int(found[2])
        check_encoder(encoder, 4, (height, width))
        is_gpu = machine.accelerator == "cuda"
        is_slow = not is_gpu and height * width > 100_000
        batch = batch_size or (4 if is_slow else 16)
        return cls(
            encoder,
            (height, width),
            batch,
            strips or batch * (128 if is_gpu else 16),
            rounds,
            steps or (200 if is_gpu else 2),
            40 if is_gpu else 1,
            variants,
        )


def measure(
    plan: Plan, machine: Hardware, cache: Path, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Train and evaluate, alternating with the plain recipe, and measure where the time goes.

    Args:
        plan: what to measure, and for how long.
        machine: from :func:`tlunet.machine.device.choose`.
        cache: folder for strips and packs.
        say: called with progress messages.

    Returns:
        Plain values for a JSON file. ``ratio_cpu_<encoder>_<height>x<width>`` (``ratio_gpu_…``,
        ``ratio_gpu_amp_…``) is the median over rounds of our training images/s divided by the
        plain recipe's; ``sides`` contains every round.
    """
    encoder, size, batch_size = plan.encoder, plan.size, plan.batch_size
    say(f"{encoder} {size[0]}×{size[1]}, batch {batch_size}, {machine.name}, {machine.precision}")
    data = sides.strips(cache, plan.strips, size, batch_size, machine)
    compared = _sides(data, plan, machine)
    take_turns(
        compared, rounds=plan.rounds, steps=plan.steps, warmup=plan.warmup,
        accelerator=machine.accelerator, progress=say,
    )  # fmt: skip
    gflop = forward_flops(library_network(encoder, len(data.pack.classes)), (1, 3, *size)) / 1e9
    peak, bandwidth = ceilings.matrix_peak(machine), ceilings.copy_bandwidth(machine)
    ours = compared[0]
    pixels = size[0] * size[1]
    named = "gpu" if machine.accelerator == "cuda" else machine.accelerator
    record: dict[str, Any] = {
        "encoder": encoder,
        "size": list(size),
        "batch_size": batch_size,
        "eval_batch_size": data.eval_batch_size,
        "strips": plan.strips,
        "rounds": plan.rounds,
        "steps": plan.steps,
        "warmup": plan.warmup,
        "residency": "gpu" if data.lives_on(machine.device) else "memmap",
        "images_per_second": statistics.median(ours.images),
        "eval_images_per_second": statistics.median(ours.eval_images),
        "mpixel_per_second": statistics.median(ours.images) * pixels / 1e6,
        "tflop_per_second": statistics.median(ours.images) * TRAINING * gflop / 1e3,
        "share_of_peak": statistics.median(ours.images) * TRAINING * gflop * 1e9 / peak,
        "waiting": statistics.median(ours.waiting),
        "peak_memory": statistics.median(ours.peak),
        "forward_gflop": gflop,
        "matrix_peak_tflop": peak / 1e12,
        "copy_gbyte": bandwidth / 1e9,
        "sides": {side.name: _turns(side, ours) for side in compared},
        "inference": inference(data, encoder, machine, plan.rounds),
        "stages": ceilings.stages(data, encoder, machine, peak, bandwidth),
        "pack_building": pack_building(data.dataset.root),
        "start_up": start_up(),
    }
    for name, key in ((PLAIN, f"ratio_{named}"), (AMP, f"ratio_{named}_amp")):
        if name in record["sides"]:
            what = f"{key}_{encoder}_{size[0]}x{size[1]}"
            record[what] = record["sides"][name]["ours_faster"]["median"]
    return record | about(machine)


#: Changes to the default path that ``tlunet bench --variant`` can measure.
VARIANTS = (
    "layout", "decoder", "memory", "compile", "compile_encoder", "compile_decoder", "compile_heads",
)  # fmt: skip


def _sides(data: DefectDataModule, plan: Plan, machine: Hardware) -> list[Side]:
    encoder = plan.encoder
    found = [sides.ours(OURS, data, encoder, machine)]
    if sides.has_recipe():
        found.append(sides.plain(PLAIN, data, encoder, machine, "32-true"))
        if machine.precision == "bf16-mixed":  # elsewhere bf16 is emulated and far slower
            found.append(sides.plain(AMP, data, encoder, machine, "bf16-mixed"))
    is_last = machine.is_channels_last
    for variant in plan.variants:
        name, changed, running = {
            "layout": (
                "channels first" if is_last else "channels last",
                {"memory_format": torch.contiguous_format if is_last else torch.channels_last},
                machine,
            ),
            "decoder": ("the library's decoder", {"library_decoder": True}, machine),
            "memory": ("freed memory given back", {"keep_freed": False}, machine),
            "compile": ("torch.compile", {}, replace(machine, compile=True)),
            "compile_encoder": ("torch.compile: encoder", {"compiled": ("encoder",)}, machine),
            "compile_decoder": ("torch.compile: decoder", {"compiled": ("decoder",)}, machine),
            "compile_heads": (
                "torch.compile: heads",
                {"compiled": ("segmentation_head", "classification_head")},
                machine,
            ),
        }[variant]
        found.append(sides.ours(name, data, encoder, running, **changed))  # type: ignore[arg-type]
    return found


def _turns(side: Side, ours: Side) -> dict[str, Any]:
    return {
        "images_per_second": side.images,
        "eval_images_per_second": side.eval_images,
        "waiting": side.waiting,
        "peak_memory": side.peak,
        "ours_faster": ratios(ours.images, side.images),
        "ours_faster_in_evaluation": ratios(ours.eval_images, side.eval_images),
    }


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


def about(machine: Hardware) -> dict[str, Any]:
    """Hardware and versions for a record."""
    packages = [*PACKAGES, "albumentations", "opencv-python-headless"]
    return {
        "hardware": {
            "accelerator": machine.accelerator,
            "name": machine.name,
            "precision": machine.precision,
            "memory_format": str(machine.memory_format).removeprefix("torch."),
            "threads": machine.threads,
            "compile": machine.compile,
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "cuda": torch.version.cuda if machine.accelerator == "cuda" else None,
        },
        "python": platform.python_version(),
        "versions": {p: version(p) for p in packages if _is_installed(p)},
        "date": time.strftime("%Y-%m-%d"),
        **commit(),
    }


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def file_name(record: dict[str, Any]) -> str:
    """File name of a record: device, encoder, size.

    >>> file_name({"hardware": {"accelerator": "cpu", "name": "AMD EPYC"}, "encoder": "resnet18",
    ...            "size": [64, 400]})
    'cpu-amd-epyc-resnet18-64x400.json'
    """
    machine = record["hardware"]
    parts = [machine["accelerator"], machine["name"], record["encoder"]]
    slug = re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")
    return f"{slug}-{record['size'][0]}x{record['size'][1]}.json"


def show(found: Sequence[dict[str, Any]]) -> Table:
    """Show the records of one call as a table for the console."""
    out = Table(
        title="Training speed, compared with the plain recipe", title_justify="left",
        caption="Medians; ratio: per round, median (min–max). Of peak: fraction of the matrix "
        "peak measured in the same process.", caption_justify="left",
    )  # fmt: skip
    for head in (
        "",
        "images/s",
        "Mpixel/s",
        "TFLOP/s",
        "of peak",
        "waiting",
        "GiB",
        "plain",
        "ratio",
    ):
        out.add_column(head, justify="right" if head else "left", no_wrap=True)
    for record in found:
        title = f"{record['encoder']} {record['size'][0]}×{record['size'][1]}"
        plain = record["sides"].get(PLAIN)
        out.add_row(
            f"{title}, batch {record['batch_size']}",
            f"{record['images_per_second']:.3g}",
            f"{record['mpixel_per_second']:.3g}",
            f"{record['tflop_per_second']:.3g}",
            f"{record['share_of_peak']:.0%}",
            f"{record['waiting']:.1%}",
            f"{record['peak_memory'] / 2**30:.1f}",
            f"{statistics.median(plain['images_per_second']):.3g}" if plain else "–",
            "{median:.2f} ({min:.2f}–{max:.2f})".format(**plain["ours_faster"]) if plain else "–",
        )
    return out
