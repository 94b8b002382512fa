"""A pack on the device: images and masks one after another, gathered there by row.

One process carries a whole sweep and its cells share the data, so one copy is kept for all of
them; another pack, or another device, takes its place.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tlunet.data.batches import channels_first, torch_bits
from tlunet.data.pack import Pack

SHARE = 0.5  # of the free memory, that a pack may take; the rest is the network's
CHUNK = 256  # images copied at a time: the host never holds a second copy of the pack


class Resident(NamedTuple):
    """A whole pack as tensors on a device."""

    images: Tensor  # uint8 (N, 1 or 3, H, W)
    bits: Tensor  # (N, H, W), bit fields

    @property
    def nbytes(self) -> int:
        """What they take."""
        return self.images.nbytes + self.bits.nbytes


_kept: dict[tuple[str, torch.device], Resident] = {}


def fits(pack: Pack, device: torch.device) -> bool:
    """Whether a pack takes less than half of the device's free memory, or is there already."""
    if _key(pack, device) in _kept:
        return True
    if device.type != "cuda":
        return False  # how much is free is known for CUDA only
    free, _ = torch.cuda.mem_get_info(device)
    free += sum(r.nbytes for (_, where), r in _kept.items() if where == device)  # it would make way
    return pack.images.nbytes + pack.masks.nbytes < SHARE * free


def bring(pack: Pack, device: torch.device) -> Resident:
    """The pack on the device, copied there unless it is there already."""
    key = _key(pack, device)
    if key not in _kept:
        _kept.clear()
        images = channels_first(np.array(pack.images[:1])), torch_bits(np.array(pack.masks[:1]))
        resident = Resident(
            *(torch.empty((len(pack), *t.shape[1:]), dtype=t.dtype, device=device) for t in images)
        )
        for start in range(0, len(pack), CHUNK):
            rows = slice(start, start + CHUNK)
            resident.images[rows] = channels_first(np.array(pack.images[rows])).to(device)
            resident.bits[rows] = torch_bits(np.array(pack.masks[rows])).to(device)
        _kept[key] = resident
    return _kept[key]


def _key(pack: Pack, device: torch.device) -> tuple[str, torch.device]:
    return pack.fingerprint, device
