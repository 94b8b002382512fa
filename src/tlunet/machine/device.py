"""The hardware a cell runs on: device, precision and threads, chosen in one place."""

import logging
import os
import platform
import sys
import warnings
from dataclasses import dataclass

import torch

from tlunet.errors import ConfigError
from tlunet.machine.gpus import number_by_bus
from tlunet.machine.memory import keep_freed_memory
from tlunet.machine.parallel import threads as default_threads


@dataclass(frozen=True)
class Hardware:
    """A device, its precision and its threads."""

    accelerator: str  # cuda, mps or cpu
    precision: str  # bf16-mixed or 32-true, Lightning's names
    name: str  # model name
    threads: int
    compile: bool = False  # whether to compile the network for full batches
    devices: int = 1  # processes per machine, one device each
    nodes: int = 1  # machines
    capability: int = 0  # CUDA's compute capability, major; 0 without CUDA

    @property
    def processes(self) -> int:
        """Number of processes that train and test one cell together."""
        return self.devices * self.nodes

    @property
    def device(self) -> torch.device:
        """The device as a ``torch.device``."""
        return torch.device(self.accelerator)

    @property
    def memory_format(self) -> torch.memory_format:
        """Memory format of the network's feature maps.

        Matrix units and bf16 kernels are designed for channels last. In float32 on a CPU it slows
        down the backward passes of convolutions (benchmarks/README.md), and GPUs before Ampere
        have no matrix units for float32.
        """
        return torch.channels_last if self.is_channels_last else torch.contiguous_format

    @property
    def is_channels_last(self) -> bool:
        """Whether :attr:`memory_format` is channels last."""
        return self.precision == "bf16-mixed" or self.capability >= 8

    @property
    def mask_format(self) -> torch.memory_format:
        """Memory format of masks: that of the logits, but CPUs count contiguous pixels faster."""
        is_gpu = self.accelerator == "cuda"
        return self.memory_format if is_gpu else torch.contiguous_format

    def eval_batch_size(self, batch_size: int) -> int:
        """Images per step of validation and test; larger on a GPU, for better utilisation.

        Without gradients no activations are kept, so several batches take less memory than one
        training batch.
        """
        return (4 if self.accelerator == "cuda" else 1) * batch_size


def choose(
    accelerator: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    compile: bool = False,
    devices: int | str = 1,
    nodes: int = 1,
) -> Hardware:
    """Choose the requested or the best available device; set the thread counts of this process.

    Args:
        accelerator: ``auto`` (CUDA, else Apple MPS, else CPU), ``cuda``, ``mps`` or ``cpu``.
        precision: ``auto`` (bf16 autocast where the hardware supports it natively, else float32),
            ``bf16-mixed`` or ``32-true``.
        threads: CPU threads; by default one per core available to this process, at most
            ``OMP_NUM_THREADS``.
        compile: whether to run full batches through compiled code (``torch.compile``).
        devices: devices per cell on each machine; ``auto``: every GPU, or one CPU process.
        nodes: number of machines.

    Raises:
        ConfigError: the requested device is not available, or there are too few of them.
    """
    number_by_bus()
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if accelerator == "auto":
        accelerator = next(name for name, is_there in there.items() if is_there)
    elif not there[accelerator]:
        raise ConfigError(
            f"trainer.accelerator={accelerator}: torch {torch.__version__} finds none; "
            "use trainer=auto or trainer=cpu"
        )
    if precision == "auto":
        precision = "bf16-mixed" if _does_bf16_well(accelerator) else "32-true"
    there_are = torch.cuda.device_count() if accelerator == "cuda" else 1
    count = there_are if devices == "auto" else int(devices)
    if accelerator != "cpu" and count > there_are:
        raise ConfigError(f"trainer.devices={devices}: found {there_are} {accelerator} device(s)")
    threads = threads or default_threads(count if accelerator == "cpu" else 1)
    torch.set_num_threads(threads)
    _quieten_libraries()
    os.environ.setdefault("OPENCV_NUM_THREADS", "1")  # albumentations; read on import of cv2
    keep_freed_memory()
    capability = torch.cuda.get_device_capability()[0] if accelerator == "cuda" else 0
    name = _name(accelerator)
    return Hardware(accelerator, precision, name, threads, compile, count, nodes, capability)


def _quieten_libraries() -> None:
    """Keep hints and warnings that do not apply off the console."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    # Lightning 2.6 uses a class that torch 2.13 and later deprecate.
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
    # No workers, on purpose: a batch of the pack is a slice of a memory map.
    warnings.filterwarnings("ignore", message=r".*does not have many workers")
    # It is resumable: the sampler, not the loader, knows where the epoch was interrupted.
    warnings.filterwarnings("ignore", message=r".*your dataloader is not resumable")
    # Scores and losses are logged after they have been reduced over all processes.
    warnings.filterwarnings("ignore", message=r".*recommended to use `self.log\(.*sync_dist=True")
    # hydra/launcher=slurm submits cells as Slurm jobs; srun is not needed on a login node.
    warnings.filterwarnings("ignore", message=r".*`srun` command is available")


def _does_bf16_well(accelerator: str) -> bool:
    if accelerator == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # On a CPU without these instructions bf16 is emulated, far slower than float32.
    return accelerator == "cpu" and (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )


def _name(accelerator: str) -> str:
    if accelerator == "cuda":
        return torch.cuda.get_device_name()
    if sys.platform == "linux":
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
