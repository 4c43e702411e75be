"""Choice of the storage tier by the size of the data and the free memory."""

from typing import Literal

import psutil
import torch

Tier = Literal["device", "host", "disk"]
Storage = Literal["auto", "device", "host", "disk"]

_SHARE = 0.4
"""Share of the free memory that data may take."""


def choose_tier(storage: Storage, size: int, device: torch.device, *, on_disk: bool) -> Tier:
    """The tier asked for; for ``auto`` the fastest one that ``size`` bytes fit into.

    ``on_disk`` is False for rows that had to be read into memory already.
    """
    if storage != "auto":
        return storage
    if device.type == "cuda" and size <= _SHARE * torch.cuda.mem_get_info(device)[0]:
        return "device"
    if not on_disk or size <= _SHARE * psutil.virtual_memory().available:
        return "device" if device.type == "cpu" else "host"
    return "disk"
