"""The sides of the comparison: tlunet's training, and benchmarks/plain_recipe.py."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback

from tlunet.bench.turns import Side, Watched, trainer
from tlunet.data.augment import Augment
from tlunet.data.datamodule import DefectDataModule
from tlunet.data.dataset import OnDisk
from tlunet.data.synthetic.generate import VERSION, generate
from tlunet.machine.device import Hardware
from tlunet.machine.memory import keep_freed_memory
from tlunet.machine.parallel import cores
from tlunet.model.network import TLUNet, library_network
from tlunet.model.task import DefectTask
from tlunet.study.training.callbacks.kernels import TuneKernels

RECIPE = Path(__file__).parents[3] / "benchmarks" / "plain_recipe.py"


def strips(
    cache: Path, n: int, size: tuple[int, int], batch_size: int, machine: Hardware, **kwargs: Any
) -> DefectDataModule:
    """Make synthetic strips in Severstal's layout, drawn once, packed and split.

    Args:
        cache: folder to store them in.
        n: number of strips.
        size: (height, width).
        batch_size: training batch size; that of evaluation depends on the hardware.
        machine: the hardware.
        **kwargs: passed to the datamodule; by default, images are flipped.
    """
    home = cache / f"strips-{n}-{size[0]}x{size[1]}-v{VERSION}"
    if not home.exists():
        generate(home, n=n, size=size, seed=0, balance="severstal")
    data = DefectDataModule(
        OnDisk("severstal", home), cache, batch_size=batch_size,
        eval_batch_size=machine.eval_batch_size(batch_size), **{"augment": Augment()} | kwargs,
    )  # fmt: skip
    data.mask_format = machine.mask_format
    data.prepare_data()
    data.setup()
    return data


def ours(
    name: str,
    data: DefectDataModule,
    encoder: str,
    machine: Hardware,
    *,
    memory_format: torch.memory_format | None = None,
    library_decoder: bool = False,
    keep_freed: bool = True,
    compiled: tuple[str, ...] = (),
    **task_options: Any,
) -> Side:
    """Make the default path, or a variant of it.

    Args:
        name: name in tables.
        data: datamodule, set up.
        encoder: name of the encoder.
        machine: device, precision, and whether to compile.
        memory_format: replaces the hardware's default.
        library_decoder: whether to use the library's decoder.
        keep_freed: whether glibc keeps freed memory.
        compiled: parts of the network to compile, each separately.
        **task_options: passed to the task.
    """
    network = TLUNet(encoder, len(data.pack.classes), data.mean, data.std)
    if library_decoder:
        network.decoder = library_network(encoder, len(data.pack.classes)).decoder
    network.to(memory_format=memory_format or machine.memory_format)
    for part in map(network.get_submodule, compiled):
        part.forward = torch.compile(part.forward, dynamic=False)
    task = DefectTask(network, batch_size=data.batch_size, **task_options)
    if machine.compile:
        task.compile_for(data.batch_size, data.eval_batch_size)

    def run(verb: str, loader: str, **quiet: Any) -> Callable[[int, list[Callback]], None]:
        def turn(steps: int, callbacks: list[Callback]) -> None:
            loop = trainer(machine, machine.precision, verb, steps, [TuneKernels(), *callbacks])
            data.trainer = loop  # before the loader is made: it decides where batches are stored
            watched = Watched(getattr(type(data), loader)(data), callbacks[0])  # type: ignore[arg-type]
            setattr(data, loader, lambda: watched)
            getattr(loop, verb)(task, datamodule=data, **quiet)
            delattr(data, loader)

        return turn

    return Side(
        name,
        fit=run("fit", "train_dataloader"),
        evaluate=run("validate", "val_dataloader", verbose=False),
        before=lambda: keep_freed_memory(keep_freed),
    )


def plain(
    name: str,
    data: DefectDataModule,
    encoder: str,
    machine: Hardware,
    precision: str,
    tuned: bool = False,
) -> Side:
    """Make the plain recipe on the same strips, with one worker process per core (at most 16).

    Args:
        name: name in tables.
        data: datamodule with the images and their folder.
        encoder: name of the encoder.
        machine: the device.
        precision: ``32-true``, or ``bf16-mixed`` for AMP.
        tuned: whether to use what an experienced user would turn on: masks as uint8, fused Adam,
            channels last where the hardware prefers it and, on a GPU, ``torch.compile``.

    Raises:
        FileNotFoundError: ``benchmarks/`` is missing: not a checkout of the repository.
    """
    recipe = load_recipe()
    is_gpu = machine.accelerator == "cuda"
    module: Any = recipe.PlainRecipe(encoder, fused=tuned, compiled=tuned and is_gpu)
    if tuned:
        module.to(memory_format=machine.memory_format)
    parts = {
        stage: data.pack.index["image_id"].iloc[data.rows[stage]].tolist()
        for stage in ("train", "val")
    }
    workers = min(16, cores())

    def run(verb: str, stage: str, **quiet: Any) -> Callable[[int, list[Callback]], None]:
        def turn(steps: int, callbacks: list[Callback]) -> None:
            is_train = stage == "train"
            strips = recipe.Strips(
                data.dataset.root, parts[stage], data.mean[0], data.std[0], is_train, not tuned
            )
            loader = recipe.loader(strips, data.batch_size, is_train, workers)
            loop = trainer(machine, precision, verb, steps, callbacks, benchmark=is_gpu)
            watched = Watched(loader, callbacks[0])  # type: ignore[arg-type]
            # The second loader is never used, but Lightning warns if it is missing.
            loaders = (watched, watched) if verb == "fit" else (watched,)
            getattr(loop, verb)(module, *loaders, **quiet)

        return turn

    return Side(
        name,
        fit=run("fit", "train"),
        evaluate=run("validate", "val", verbose=False),
        before=lambda: keep_freed_memory(False),
    )


def has_recipe() -> bool:
    """Whether the plain recipe exists."""
    return RECIPE.is_file()


def load_recipe() -> Any:
    """Load the plain recipe as a module.

    Raises:
        FileNotFoundError: not a checkout of the repository.
    """
    spec = importlib.util.spec_from_file_location("plain_recipe", RECIPE)
    if spec is None or spec.loader is None or not RECIPE.is_file():
        raise FileNotFoundError(f"{RECIPE}: only a checkout of the repository has the plain recipe")
    module = importlib.util.module_from_spec(spec)
    sys.modules["plain_recipe"] = module  # its workers look it up by name
    spec.loader.exec_module(module)
    return module
