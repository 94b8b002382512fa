"""Keep packs in GPU memory and gather batches there by row.

One process runs a whole sweep and its cells share the data, so one copy is kept for all of them. A
pack is evicted only if something else does not fit: training, or another pack.
"""

import sys
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tlunet.data.batches import channels_first, torch_bits
from tlunet.data.pack.pack import Pack
from tlunet.errors import ConfigError

SHARE = 0.5  # fraction of the free memory that a pack may use; the rest is for the network
CHUNK = 256  # images copied at a time: the host never holds a second copy of the pack


class Resident(NamedTuple):
    """A whole pack as tensors on a device."""

    images: Tensor  # uint8 (N, 1 or 3, H, W)
    bits: Tensor  # (N, H, W), bit fields

    @property
    def nbytes(self) -> int:
        """Their size in bytes."""
        return self.images.nbytes + self.bits.nbytes


_kept: dict[tuple[str, torch.device], Resident] = {}


def fits(pack: Pack, device: torch.device, beside: int = 0) -> bool:
    """Whether a pack fits in less than half of a device's free memory, and training fits as well.

    Args:
        pack: the pack; it may be on the device already.
        device: the free memory is known for CUDA only; on other devices nothing fits.
        beside: bytes that training needs.
    """
    if device.type != "cuda":
        return False
    free = _free(device) + resident_bytes()
    return pack.nbytes < SHARE * free and pack.nbytes + beside < free


def resident_bytes() -> int:
    """Return the bytes that evicting all packs would free."""
    return sum(resident.nbytes for resident in _kept.values())


def make_room(device: torch.device, needed: int, keep: Pack | None = None) -> None:
    """Evict packs, the least recently used first, until there is room for something else.

    Args:
        device: the free memory is known for CUDA only; on other devices nothing is evicted.
        needed: bytes, in addition to the packs.
        keep: this one is not evicted.
    """
    missing = needed - _free(device)
    others = [key for key in _kept if keep is None or key != (keep.fingerprint, device)]
    for key in others:
        if missing <= 0:
            return
        missing -= _kept.pop(key).nbytes
        torch.cuda.empty_cache()  # torch would keep it from cuDNN and other processes


def _free(device: torch.device) -> int:
    """Bytes that tensors can still take, in the driver's hands and in torch's."""
    if device.type != "cuda":
        return sys.maxsize
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + cached


def to_device(pack: Pack, device: torch.device, beside: int = 0) -> Resident:
    """Return the pack on the device; copy it there if necessary.

    Args:
        pack: the pack.
        device: the device.
        beside: bytes that training needs; other packs make way for both.

    Raises:
        ConfigError: it is larger than the free memory.
    """
    key = pack.fingerprint, device
    make_room(device, beside + (0 if key in _kept else pack.nbytes), keep=pack)
    if key in _kept:
        _kept[key] = _kept.pop(key)  # the last one to be evicted
    else:
        images = channels_first(np.array(pack.images[:1])), torch_bits(np.array(pack.masks[:1]))
        try:
            resident = Resident(
                *(
                    torch.empty((len(pack), *one.shape[1:]), dtype=one.dtype, device=device)
                    for one in images
                )
            )
        except torch.OutOfMemoryError:
            size = f"{pack.nbytes / 2**30:.1f} GiB"
            raise ConfigError(
                f"data.residency=gpu: images and masks need {size}, more than the free GPU memory; "
                "use auto or memmap"
            ) from None
        for start in range(0, len(pack), CHUNK):
            rows = slice(start, start + CHUNK)
            resident.images[rows] = channels_first(np.array(pack.images[rows])).to(device)
            resident.bits[rows] = torch_bits(np.array(pack.masks[rows])).to(device)
        _kept[key] = resident
    return _kept[key]
