"""Memory limits, free memory and peak memory of this process."""

import ctypes
import gc
import platform
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

CGROUPS = Path("/sys/fs/cgroup")


def memory_left() -> Iterator[int]:
    """Bytes left to this process under each limit: cgroups (containers, Slurm), ``ulimit -v``."""
    if sys.platform != "linux":
        return
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        status = Path("/proc/self/status").read_text()
        yield soft - int(status.partition("VmSize:")[2].split()[0]) * 1024
    own = Path("/proc/self/cgroup").read_text().partition("0::/")[2].strip()
    for group in (CGROUPS / own, *(CGROUPS / own).parents):
        if (group / "memory.max").exists():
            yield from _left_in(group)


def _left_in(group: Path) -> Iterator[int]:
    limit = (group / "memory.max").read_text().strip()
    if limit != "max":
        stat = (group / "memory.stat").read_text()
        cache = int(stat.partition("inactive_file ")[2].split()[0])  # freed on demand
        yield int(limit) - int((group / "memory.current").read_text()) + cache


def keep_freed_memory(keep: bool = True) -> None:
    """Let glibc keep freed activations; else the kernel maps and clears them again every step.

    Args:
        keep: ``False`` restores what glibc settles on by default: blocks up to 32 MiB are kept.
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


def free_memory(accelerator: str) -> int | None:
    """Bytes that this process can still allocate, or ``None`` if unknown."""
    gc.collect()
    _give_back_freed_memory()
    if accelerator == "cuda":
        torch.cuda.empty_cache()  # earlier cells: torch keeps it from the driver, not from us
        return torch.cuda.mem_get_info()[0]
    if sys.platform == "linux" and accelerator == "cpu":
        with open("/proc/meminfo") as file:  # noqa: PTH123
            for line in file:
                if line.startswith("MemAvailable:"):
                    return min(int(line.split()[1]) * 1024, *memory_left(), sys.maxsize)
    return None


def forget_peak_memory(accelerator: str) -> None:
    """Reset :func:`peak_memory`, so that each cell of a sweep has its own peak."""
    if accelerator == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        with suppress(OSError):  # unsupported kernel: the peak is then that of the whole process
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory(accelerator: str) -> int:
    """Peak memory in bytes: GPU memory with CUDA, else memory of this process."""
    if accelerator == "cuda":
        return torch.cuda.max_memory_allocated()
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
