"""``tlunet bench``: measures the speed of one encoder, size and batch, as one record."""

import re
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from rich.table import Table

from tlunet.bench import ceilings, sides
from tlunet.bench.about import about
from tlunet.bench.commands import pack_building, real_cell, start_up
from tlunet.bench.inference import inference
from tlunet.bench.kernels import kernels
from tlunet.bench.turns import Side, earned_at, ratios, take_turns
from tlunet.data.datamodule import DefectDataModule
from tlunet.errors import ConfigError
from tlunet.machine.device import Hardware
from tlunet.model.memory import forward_flops
from tlunet.model.network import check_encoder, library_network

OURS, PLAIN, AMP, TUNED = "tlunet", "plain recipe", "plain recipe, AMP", "plain recipe, tuned"
COMPILED = "torch.compile"
RECIPES = (PLAIN, AMP, TUNED)
#: What ``tlunet bench --only`` can measure.
PARTS = ("training", "evaluation", "inference", "stages", "kernels", "packs", "cell", "commands")
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
        only: parts to measure, from :data:`PARTS`; training is always measured.
        recipes: forms of the plain recipe to compare with, from :data:`RECIPES`.
    """

    encoder: str
    size: tuple[int, int]
    batch_size: int
    strips: int
    rounds: int = 5
    steps: int = 2
    warmup: int = 1
    variants: tuple[str, ...] = ()
    only: tuple[str, ...] = PARTS
    recipes: tuple[str, ...] = RECIPES

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
        warmup: int | None = None,
        strips: int | None = None,
        variants: tuple[str, ...] = (),
        only: tuple[str, ...] = (),
        recipes: tuple[str, ...] = RECIPES,
    ) -> Self:
        """Make a plan from command-line options; defaults depend on the hardware.

        Raises:
            ConfigError: an invalid size, or an unknown variant, part or encoder.
        """
        if not (found := re.fullmatch(r"(\d+)[x×](\d+)", size)):
            raise ConfigError(f"--size {size}: expected height x width, such as 256x1600")
        if unknown := sorted(set(variants) - set(VARIANTS)):
            raise ConfigError(f"--variant {', '.join(unknown)}: expected {', '.join(VARIANTS)}")
        if unknown := sorted(set(only) - set(PARTS)):
            raise ConfigError(f"--only {', '.join(unknown)}: expected {', '.join(PARTS)}")
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
            warmup or (40 if is_gpu else 1),
            variants,
            only or PARTS,
            recipes,
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
        accelerator=machine.accelerator, evaluates="evaluation" in plan.only, progress=say,
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
        "mpixel_per_second": statistics.median(ours.images) * pixels / 1e6,
        "tflop_per_second": statistics.median(ours.images) * TRAINING * gflop / 1e3,
        "model_flop_utilisation": statistics.median(ours.images) * TRAINING * gflop * 1e9 / peak,
        "waiting": statistics.median(ours.waiting),
        "peak_memory": statistics.median(ours.peak),
        "forward_gflop": gflop,
        "matrix_peak_tflop": peak / 1e12,
        "copy_gbyte": bandwidth / 1e9,
        "sides": {side.name: _turns(side, ours, batch_size) for side in compared},
    } | _others(data, plan, machine, peak, bandwidth, say)
    if "evaluation" in plan.only:
        record["eval_images_per_second"] = statistics.median(ours.eval_images)
    for name, suffix in ((PLAIN, ""), (AMP, "_amp"), (TUNED, "_tuned")):
        if name in record["sides"]:
            what = f"ratio_{named}{suffix}_{encoder}_{size[0]}x{size[1]}"
            record[what] = record["sides"][name]["ours_faster"]["median"]
    return record | about(machine)


def _others(
    data: DefectDataModule,
    plan: Plan,
    machine: Hardware,
    peak: float,
    bandwidth: float,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Measure everything but training and evaluation, part by part."""
    found: dict[str, Any] = {}
    if "inference" in plan.only:
        found["inference"] = inference(data, plan.encoder, machine, plan.rounds)
    if "stages" in plan.only:
        found["stages"] = ceilings.stages(data, plan.encoder, machine, peak, bandwidth)
    if "kernels" in plan.only:
        found["kernels"] = kernels(data, plan.encoder, machine, peak)
    if "packs" in plan.only:
        found["pack_building"] = pack_building(data.dataset.root)
    with tempfile.TemporaryDirectory() as runs:
        study = None
        if "cell" in plan.only and (cell := real_cell(data, plan.encoder, machine, Path(runs))):
            found["cell"], study = cell, Path(runs) / "bench"
        if "commands" in plan.only:
            found["start_up"] = start_up(study=study, say=say)
    return found


#: Changes to the default path that ``tlunet bench --variant`` can measure.
VARIANTS = (
    "layout", "decoder", "memory", "compile", "compile_encoder", "compile_decoder", "compile_heads",
)  # fmt: skip


def _sides(data: DefectDataModule, plan: Plan, machine: Hardware) -> list[Side]:
    encoder = plan.encoder
    found = [sides.ours(OURS, data, encoder, machine)]
    for name in plan.recipes if sides.has_recipe() else ():
        if name == AMP and machine.precision != "bf16-mixed":
            continue  # bf16 is emulated and far slower
        precision = {PLAIN: "32-true", AMP: "bf16-mixed", TUNED: machine.precision}[name]
        found.append(sides.plain(name, data, encoder, machine, precision, tuned=name == TUNED))
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
            "compile": (COMPILED, {}, replace(machine, compile=True)),
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


def _turns(side: Side, ours: Side, batch_size: int) -> dict[str, Any]:
    found = {
        "images_per_second": side.images,
        "waiting": side.waiting,
        "peak_memory": side.peak,
        "first_step_seconds": side.first,
        "ours_faster": ratios(ours.images, side.images),
    }
    if side.eval_images:
        found |= {
            "eval_images_per_second": side.eval_images,
            "ours_faster_in_evaluation": ratios(ours.eval_images, side.eval_images),
        }
    if side.name.startswith(COMPILED):
        found["earned_at_step"] = earned_at(side, ours, batch_size)
    return found


def file_name(record: dict[str, Any]) -> str:
    """File name of a record: device, bf16 on a CPU that has it, encoder, size.

    >>> cpu = {"accelerator": "cpu", "name": "AMD EPYC", "precision": "32-true"}
    >>> file_name({"hardware": cpu, "encoder": "resnet18", "size": [64, 400]})
    'cpu-amd-epyc-resnet18-64x400.json'
    """
    machine = record["hardware"]
    # One model name can stand for CPUs with and without bf16 instructions.
    has_bf16 = machine["accelerator"] == "cpu" and machine["precision"] == "bf16-mixed"
    bf16 = ["bf16"] if has_bf16 else []
    parts = [machine["accelerator"], machine["name"], *bf16, record["encoder"]]
    slug = re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")
    return f"{slug}-{record['size'][0]}x{record['size'][1]}.json"


def show(found: Sequence[dict[str, Any]]) -> Table:
    """Show the records of one call as a table for the console."""
    out = Table(
        title="Training speed, compared with the plain recipe", title_justify="left",
        caption="Medians; ratio: per round, median (min–max). MFU: model-FLOP utilisation, the "
        "fraction of the matrix peak measured in the same process.", caption_justify="left",
    )  # fmt: skip
    for head in (
        "",
        "images/s",
        "Mpixel/s",
        "TFLOP/s",
        "MFU",
        "waiting",
        "GiB",
        "plain",
        "ratio",
        "tuned",
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
            f"{record['model_flop_utilisation']:.0%}",
            f"{record['waiting']:.1%}",
            f"{record['peak_memory'] / 2**30:.1f}",
            f"{statistics.median(plain['images_per_second']):.3g}" if plain else "–",
            *(_ratio(record["sides"].get(side)) for side in (PLAIN, TUNED)),
        )
    return out


def _ratio(side: dict[str, Any] | None) -> str:
    return "{median:.2f} ({min:.2f}–{max:.2f})".format(**side["ours_faster"]) if side else "–"
