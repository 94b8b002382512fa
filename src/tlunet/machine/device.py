"""What a cell runs on: device, precision and threads, chosen in one place."""

import ctypes
import gc
import logging
import os
import platform
import resource
import sys
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from tlunet.errors import ConfigError
from tlunet.machine.memory import memory_left


@dataclass(frozen=True)
class Hardware:
    """A device and the arithmetic on it."""

    accelerator: str  # cuda | mps | cpu
    precision: str  # bf16-mixed | 32-true, Lightning's names
    name: str  # as its maker calls it
    threads: int
    compile: bool = False  # the network, for full batches
    devices: int = 1  # processes on this machine, each with its device
    nodes: int = 1  # machines

    @property
    def processes(self) -> int:
        """That train and test one cell together."""
        return self.devices * self.nodes

    @property
    def device(self) -> torch.device:
        """The device itself."""
        return torch.device(self.accelerator)

    @property
    def memory_format(self) -> torch.memory_format:
        """How the network's maps lie in memory.

        Channels last is what matrix units and bf16 kernels are made for; in float32 on a CPU the
        backward passes of convolutions are slower with it (benchmarks/README.md).
        """
        return torch.channels_last if self.is_channels_last else torch.contiguous_format

    @property
    def is_channels_last(self) -> bool:
        """Whether :attr:`memory_format` is channels last."""
        return self.accelerator == "cuda" or self.precision == "bf16-mixed"

    def eval_batch_size(self, batch_size: int) -> int:
        """Images a step of validation and test: more where a GPU is too large for a few.

        Without gradients nothing is kept, so several batches take less memory than one of training.
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
    """The device asked for, or the best there is; sets the thread counts of this process.

    Args:
        accelerator: ``auto`` (CUDA, else Apple MPS, else CPU), ``cuda``, ``mps`` or ``cpu``.
        precision: ``auto`` (bf16 autocast where the hardware does it well, else float32),
            ``bf16-mixed`` or ``32-true``.
        threads: of the CPU; by default one a core this process may use.
        compile: whether full batches run through compiled code (``torch.compile``).
        devices: of one cell on each machine; ``auto``: every GPU, or one CPU process.
        nodes: machines.

    Raises:
        ConfigError: the device asked for is not there, or not as often.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if accelerator == "auto":
        accelerator = next(name for name, is_there in there.items() if is_there)
    elif not there[accelerator]:
        raise ConfigError(
            f"trainer.accelerator={accelerator}: torch {torch.__version__} finds none here; "
            "take trainer=auto or trainer=cpu"
        )
    if precision == "auto":
        precision = "bf16-mixed" if _does_bf16_well(accelerator) else "32-true"
    there_are = torch.cuda.device_count() if accelerator == "cuda" else 1
    count = there_are if devices == "auto" else int(devices)
    if accelerator != "cpu" and count > there_are:
        raise ConfigError(f"trainer.devices={devices}: {there_are} {accelerator} device(s) here")
    threads = threads or max(1, _cores() // (count if accelerator == "cpu" else 1))
    torch.set_num_threads(threads)
    _quieten_libraries()
    os.environ.setdefault("OPENCV_NUM_THREADS", "1")  # albumentations: read when cv2 is imported
    keep_freed_memory()
    return Hardware(accelerator, precision, _name(accelerator), threads, compile, count, nodes)


def _quieten_libraries() -> None:
    """Keep Lightning's hints and one warning of its own making off the console."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    # Lightning 2.6 with torch 2.13 and later: the class is torch's, its use Lightning's.
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
    # There are no workers on purpose: a batch of the pack is a slice of a memory map.
    warnings.filterwarnings("ignore", message=r".*does not have many workers")
    # It is: not the loader but its sampler knows where the epoch was broken off.
    warnings.filterwarnings("ignore", message=r".*your dataloader is not resumable")
    # Scores and losses are logged when all processes have put theirs together.
    warnings.filterwarnings("ignore", message=r".*recommended to use `self.log\(.*sync_dist=True")
    # Cells become Slurm jobs with hydra/launcher=slurm; on a login node srun is not missed.
    warnings.filterwarnings("ignore", message=r".*`srun` command is available")


def _does_bf16_well(accelerator: str) -> bool:
    if accelerator == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # On a CPU without these instructions bf16 is emulated, far slower than float32.
    return accelerator == "cpu" and (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory(keep: bool = True) -> None:
    """Let glibc keep freed activations; else the kernel maps and clears them anew every step.

    Args:
        keep: ``False`` for what glibc settles on by itself: blocks up to 32 MiB are kept.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mmap_threshold, trim_threshold = -3, -1
    mallopt(mmap_threshold, (1 << 30) if keep else (32 << 20))
    mallopt(trim_threshold, (1 << 31) - 1 if keep else (64 << 20))


def _give_back_freed_memory() -> None:
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def _name(accelerator: str) -> str:
    if accelerator == "cuda":
        return torch.cuda.get_device_name()
    if sys.platform == "linux":
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def free_memory(accelerator: str) -> int | None:
    """Bytes that this process may still take, or ``None`` where that is not known."""
    gc.collect()
    _give_back_freed_memory()
    if accelerator == "cuda":
        torch.cuda.empty_cache()  # of cells before: torch keeps it from the driver, not from us
        return torch.cuda.mem_get_info()[0]
    if sys.platform == "linux" and accelerator == "cpu":
        with open("/proc/meminfo") as file:  # noqa: PTH123
            for line in file:
                if line.startswith("MemAvailable:"):
                    return min(int(line.split()[1]) * 1024, *memory_left(), sys.maxsize)
    return None


def forget_peak_memory(accelerator: str) -> None:
    """Let :func:`peak_memory` count from here, so that each cell of a sweep has its own."""
    if accelerator == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        with suppress(OSError):  # a kernel without it: the peak is then the process's, as elsewhere
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory(accelerator: str) -> int:
    """Most bytes held at one time: on the GPU if there is one, else by this process."""
    if accelerator == "cuda":
        return torch.cuda.max_memory_allocated()
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
