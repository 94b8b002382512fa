"""A pack on the device: images and masks one after another, gathered there by row.

One process carries a whole sweep and its cells share the data, so one copy is kept for all of
them; another pack, or another device, takes its place.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tlunet.data.batches import channels_first, torch_bits
from tlunet.data.pack.pack import Pack
from tlunet.errors import ConfigError

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


def fits(pack: Pack, device: torch.device, beside: int = 0) -> bool:
    """Whether a pack takes less than half of a device's free memory, and training finds room.

    Args:
        pack: it may be there already.
        device: how much is free is known for CUDA only; nothing fits elsewhere.
        beside: bytes that training takes.
    """
    if device.type != "cuda":
        return False
    free = torch.cuda.mem_get_info(device)[0] + held()
    return pack.nbytes < SHARE * free and pack.nbytes + beside < free


def held() -> int:
    """Bytes on the device that would be free if the pack made way."""
    return sum(resident.nbytes for resident in _kept.values())


def make_way() -> None:
    """Let go of the pack on the device, for training that needs its room."""
    _kept.clear()


def bring(pack: Pack, device: torch.device) -> Resident:
    """The pack on the device, copied there unless it is there already.

    Raises:
        ConfigError: it is larger than what is free.
    """
    key = pack.fingerprint, device
    if key not in _kept:
        make_way()
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
                f"data.residency=gpu: images and masks take {size}, more than is free on the GPU; "
                "take auto or memmap"
            ) from None
        for start in range(0, len(pack), CHUNK):
            rows = slice(start, start + CHUNK)
            resident.images[rows] = channels_first(np.array(pack.images[rows])).to(device)
            resident.bits[rows] = torch_bits(np.array(pack.masks[rows])).to(device)
        _kept[key] = resident
    return _kept[key]
