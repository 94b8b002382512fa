"""How much memory a job is allowed, where that is less than the machine has."""

import resource
import sys
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def memory_left() -> Iterator[int]:
    """Bytes that each limit leaves this process: cgroups (containers, Slurm), ``ulimit -v``."""
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
        cache = int(stat.partition("inactive_file ")[2].split()[0])  # given back when it is needed
        yield int(limit) - int((group / "memory.current").read_text()) + cache
