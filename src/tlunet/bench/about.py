"""What a record says about the machine: hardware, drivers, settings and versions."""

import json
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from tlunet.machine.device import Hardware
from tlunet.machine.versions import PACKAGES, commit

#: Fields of ``lscpu`` that decide about speed.
CPU = (
    "Model name", "CPU(s)", "Thread(s) per core", "Core(s) per socket", "Socket(s)", "CPU max MHz",
    "L1d cache", "L2 cache", "L3 cache", "NUMA node(s)", "Hypervisor vendor",
)  # fmt: skip
#: Instructions for matrix products and convolutions, as ``lscpu`` names them.
INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_tile")


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
            "cpu": cpu(),
            "cuda": torch.version.cuda if machine.accelerator == "cuda" else None,
            "gpu": gpu() if machine.accelerator == "cuda" else None,
        },
        "python": platform.python_version(),
        "versions": {p: version(p) for p in packages if _is_installed(p)},
        "date": time.strftime("%Y-%m-%d"),
        **commit(),
    }


def cpu() -> dict[str, Any]:
    """What ``lscpu`` says; empty where there is none."""
    said = _said("lscpu", "--json")
    fields = (
        {f["field"].rstrip(":"): f["data"] for f in _flat(json.loads(said)["lscpu"])}
        if said
        else {}
    )
    has = set(fields.get("Flags", "").split())
    found: dict[str, Any] = {name: fields[name] for name in CPU if name in fields}
    return found | {"instructions": [i for i in INSTRUCTIONS if i in has]} if found else {}


def gpu() -> dict[str, Any]:
    """Driver, cuDNN and the settings that decide which kernels run."""
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    asked = "--query-gpu=driver_version,clocks.max.sm,power.limit"
    said = _said("nvidia-smi", asked, "--format=csv,noheader", "--id=0")
    driver, clock, power = said.split(", ") if said else (None, None, None)
    return {
        "driver": driver,
        "max_clock": clock,
        "power_limit": power,
        "capability": f"{properties.major}.{properties.minor}",
        "memory": properties.total_memory,
        "cudnn": torch.backends.cudnn.version(),
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_cudnn": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": "full training batches",
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
    }


def _said(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _flat(fields: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The fields of ``lscpu --json``, which newer versions nest."""
    return [f for field in fields for f in (field, *_flat(field.get("children", [])))]


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
